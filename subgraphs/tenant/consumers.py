"""Tenant's step of a sign-up, and its way back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from subgraphs.platform.bus import Bus
from subgraphs.platform.database import Transaction
from subgraphs.platform.domain import Event, Problem
from subgraphs.tenant.domain import State, Store, Tenant, checked_name, slug
from subgraphs.tenant.events import Events

Opened = Callable[[Transaction], Store]


class Consumers:
    """Each step is one transaction with its inbox row, so it happens once however often its event comes."""

    def __init__(self, store: Opened, events: Events, now: Callable[[], datetime]) -> None:
        self._store = store
        self._events = events
        self._now = now

    def register(self, bus: Bus) -> None:
        bus.consume("tenant.signup", {"auth.signup.requested.v1", "auth.signup.abandoned.v1"}, self.sign_up)

    async def sign_up(self, event: Event, transaction: Transaction) -> None:
        """Makes the tenant, or refuses; when the sign-up was abandoned takes it back. One consumer keeps the order."""
        if event.tenant is None:
            return
        store = self._store(transaction)
        if event.type == "auth.signup.abandoned.v1":
            if await store.withdraw(UUID(event.data["signUpId"]), self._now()):
                store.publish(self._events.withdrawn(event.tenant, event.data["signUpId"]))
            return
        try:
            await self._provision(event, event.tenant, store)
        except Problem as problem:
            store.publish(self._events.refused(event.tenant, event.data["signUpId"], problem.message))

    async def _provision(self, event: Event, id: UUID, store: Store) -> None:
        name = checked_name(event.data["organisation"])
        tenant = Tenant(id, name, slug(name, id), State.ACTIVE, self._now())
        if await store.provision(tenant, UUID(event.data["signUpId"])):
            store.publish(self._events.provisioned(tenant, event.data))
