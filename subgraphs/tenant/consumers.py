"""Tenant's step of a sign-up, and its way back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from subgraphs.platform.bus import Bus
from subgraphs.platform.database import Transaction
from subgraphs.platform.domain import Event, Problem
from subgraphs.platform.facts import read
from subgraphs.tenant import events
from subgraphs.tenant.domain import State, Store, Tenant, checked_name, slug
from subgraphs.tenant.events import Events

Opened = Callable[[Transaction], Store]


class Consumers:
    """Each step is one transaction with its inbox row, so it happens once however often its event comes."""

    def __init__(self, store: Opened, made: Events, now: Callable[[], datetime]) -> None:
        self._store = store
        self._events = made
        self._now = now

    def register(self, bus: Bus) -> None:
        bus.consume("tenant.signup", {events.SIGN_UP_REQUESTED, events.SIGN_UP_ABANDONED}, self.sign_up)

    async def sign_up(self, event: Event, transaction: Transaction) -> None:
        """Makes the tenant, or refuses; when the sign-up was abandoned takes it back. One consumer keeps the order."""
        if event.tenant is None:
            return
        store = self._store(transaction)
        if event.type == events.SIGN_UP_ABANDONED:
            abandoned = read(event, events.SignUpAbandoned).sign_up_id
            if await store.withdraw(abandoned, self._now()):
                store.publish(self._events.withdrawn(event.tenant, abandoned))
            return
        asked = read(event, events.SignUpRequested)
        try:
            await self._provision(asked, event.tenant, store)
        except Problem as problem:
            store.publish(self._events.refused(event.tenant, asked.sign_up_id, problem.message))

    async def _provision(self, asked: events.SignUpRequested, id: UUID, store: Store) -> None:
        name = checked_name(asked.organisation)
        tenant = Tenant(id, name, slug(name, id), State.ACTIVE, self._now())
        if await store.provision(tenant, asked.sign_up_id):
            store.publish(self._events.provisioned(tenant, asked))
