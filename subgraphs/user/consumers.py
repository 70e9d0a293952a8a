"""User's step of a sign-up, and its way back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from subgraphs.platform.bus import Bus
from subgraphs.platform.database import Transaction
from subgraphs.platform.domain import Event, Problem
from subgraphs.user.domain import Organisation, Person, Store, checked_locale, checked_name, checked_zone
from subgraphs.user.events import Events

Opened = Callable[[Transaction], Store]


class Consumers:
    """Each step is one transaction with its inbox row, so it happens once however often its event comes.

    The two events come from different publishers and may overtake each other: the abandoned tenant is remembered.
    """

    def __init__(self, store: Opened, events: Events, now: Callable[[], datetime]) -> None:
        self._store = store
        self._events = events
        self._now = now

    def register(self, bus: Bus) -> None:
        bus.consume("user.provisioned", {"tenant.tenant.provisioned.v1"}, self.provisioned)
        bus.consume("user.abandoned", {"auth.signup.abandoned.v1"}, self.abandoned)

    async def provisioned(self, event: Event, transaction: Transaction) -> None:
        """Makes the first person, who owns the organisation; or refuses."""
        if event.tenant is None or "userId" not in event.data:
            return
        store, sign_up = self._store(transaction), event.data["signUpId"]
        try:
            person = self._owner(event)
            if await store.found(person, UUID(sign_up)):
                store.publish(self._events.member_added(person, event.tenant, sign_up))
        except Problem as problem:
            refused = self._events.member_refused(UUID(event.data["userId"]), event.tenant, sign_up, problem.message)
            store.publish(refused)

    async def abandoned(self, event: Event, transaction: Transaction) -> None:
        await self._store(transaction).withdraw(UUID(event.data["signUpId"]), self._now())

    def _owner(self, event: Event) -> Person:
        data = event.data
        return Person(
            id=UUID(data["userId"]),
            email=data["email"],
            name=checked_name(data["name"]),
            avatar_url=None,
            locale=checked_locale(data["locale"]),
            time_zone=checked_zone(data["timeZone"]),
            role="owner",
            organisation=Organisation(UUID(data["organisationId"]), checked_name(data["organisation"], "organisation")),
            member_since=self._now(),
        )
