"""User's step of a sign-up, and its way back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from subgraphs.platform.bus import Bus
from subgraphs.platform.database import Transaction
from subgraphs.platform.domain import Event, Problem
from subgraphs.platform.facts import read
from subgraphs.user import events
from subgraphs.user.domain import Organisation, Person, Store, checked_locale, checked_name, checked_zone
from subgraphs.user.events import Events

Opened = Callable[[Transaction], Store]


class Consumers:
    """Each step is one transaction with its inbox row, so it happens once however often its event comes.

    The two events come from different publishers and may overtake each other: the abandoned tenant is remembered.
    """

    def __init__(self, store: Opened, made: Events, now: Callable[[], datetime]) -> None:
        self._store = store
        self._events = made
        self._now = now

    def register(self, bus: Bus) -> None:
        bus.consume("user.provisioned", {events.PROVISIONED}, self.provisioned)
        bus.consume("user.abandoned", {events.SIGN_UP_ABANDONED}, self.abandoned)

    async def provisioned(self, event: Event, transaction: Transaction) -> None:
        """Makes the first person, who owns the organisation; or refuses."""
        if event.tenant is None:
            return
        store, asked = self._store(transaction), read(event, events.Provisioned)
        try:
            person = self._owner(asked)
            if await store.found(person, asked.sign_up_id):
                store.publish(self._events.member_added(person, event.tenant, asked.sign_up_id))
        except Problem as problem:
            refused = self._events.member_refused(asked.user_id, event.tenant, asked.sign_up_id, problem.message)
            store.publish(refused)

    async def abandoned(self, event: Event, transaction: Transaction) -> None:
        await self._store(transaction).withdraw(read(event, events.SignUpAbandoned).sign_up_id, self._now())

    def _owner(self, asked: events.Provisioned) -> Person:
        return Person(
            id=asked.user_id,
            email=asked.email,
            name=checked_name(asked.name),
            avatar_url=None,
            locale=checked_locale(asked.locale),
            time_zone=checked_zone(asked.time_zone),
            role="owner",
            organisation=Organisation(asked.organisation_id, checked_name(asked.organisation, "organisation")),
            member_since=self._now(),
        )
