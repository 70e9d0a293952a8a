"""What Auth does when Tenant and User publish: the last step of a sign-up, its end, and what identities say."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from subgraphs.auth.domain import Store
from subgraphs.auth.events import Events
from subgraphs.platform.bus import Bus
from subgraphs.platform.database import Transaction
from subgraphs.platform.domain import Event

Opened = Callable[[Transaction], Store]


class Consumers:
    """Every step is one transaction with its inbox row; an event that comes again changes nothing."""

    def __init__(self, store: Opened, events: Events, now: Callable[[], datetime]) -> None:
        self._store = store
        self._events = events
        self._now = now

    def register(self, bus: Bus) -> None:
        bus.consume("auth.complete", {"user.member.added.v1"}, self.complete)
        bus.consume("auth.refused", {"tenant.tenant.refused.v1", "user.member.refused.v1"}, self.refused)
        bus.consume("auth.changed", {"user.member.changed.v1", "user.profile.changed.v1"}, self.changed)

    async def complete(self, event: Event, transaction: Transaction) -> None:
        """The newcomer is a member: the account may be used. Too late for a sign-up that was ended meanwhile."""
        if event.tenant is None or not event.data.get("signUpId"):
            return
        store, sign_up = self._store(transaction), UUID(event.data["signUpId"])
        account = await store.complete_sign_up(sign_up, event.data["role"], self._now())
        if account is not None:
            store.publish(self._events.sign_up_completed(sign_up, event.tenant, account))

    async def refused(self, event: Event, transaction: Transaction) -> None:
        """Another step cannot be done: what was made is taken back."""
        if event.tenant is None:
            return
        store, sign_up = self._store(transaction), UUID(event.data["signUpId"])
        if await store.fail_sign_up(sign_up, event.data["reason"], self._now()):
            store.publish(self._events.sign_up_abandoned(sign_up, event.tenant, "refused"))

    async def changed(self, event: Event, transaction: Transaction) -> None:
        """Role or name changed: identities made from now on say so."""
        if event.tenant is None:
            return
        store, account = self._store(transaction), UUID(event.data["userId"])
        if await store.change_account(account, role=event.data.get("role"), name=event.data.get("name")):
            store.publish(self._events.account_changed(account, event.tenant, event))
