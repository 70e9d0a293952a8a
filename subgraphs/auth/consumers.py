"""What Auth does when Tenant and User publish: the last step of a sign-up, its end, and what identities say."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from subgraphs.auth import events
from subgraphs.auth.domain import Store
from subgraphs.auth.events import Events
from subgraphs.platform.bus import Bus
from subgraphs.platform.database import Transaction
from subgraphs.platform.domain import Event
from subgraphs.platform.facts import read

Opened = Callable[[Transaction], Store]


class Consumers:
    """Every step is one transaction with its inbox row; an event that comes again changes nothing."""

    def __init__(self, store: Opened, made: Events, now: Callable[[], datetime]) -> None:
        self._store = store
        self._events = made
        self._now = now

    def register(self, bus: Bus) -> None:
        bus.consume("auth.complete", {events.MEMBER_ADDED}, self.complete)
        bus.consume("auth.refused", events.REFUSALS, self.refused)
        bus.consume("auth.changed", {events.MEMBER_CHANGED, events.PROFILE_CHANGED}, self.changed)

    async def complete(self, event: Event, transaction: Transaction) -> None:
        """The newcomer is a member: the account may be used. Too late for a sign-up that was ended meanwhile."""
        if event.tenant is None:
            return
        store, added = self._store(transaction), read(event, events.MemberAdded)
        account = await store.complete_sign_up(added.sign_up_id, added.role, self._now())
        if account is not None:
            store.publish(self._events.sign_up_completed(added.sign_up_id, event.tenant, account))

    async def refused(self, event: Event, transaction: Transaction) -> None:
        """Another step cannot be done: what was made is taken back."""
        if event.tenant is None:
            return
        store, told = self._store(transaction), read(event, events.StepRefused)
        if await store.fail_sign_up(told.sign_up_id, told.reason, self._now()):
            store.publish(self._events.sign_up_abandoned(told.sign_up_id, event.tenant, "refused"))

    async def changed(self, event: Event, transaction: Transaction) -> None:
        """Role or name changed: identities made from now on say so."""
        if event.tenant is None:
            return
        store = self._store(transaction)
        role = name = None
        if event.type == events.MEMBER_CHANGED:
            member = read(event, events.MemberChanged)
            account, role = member.user_id, member.role
        else:
            profile = read(event, events.ProfileChanged)
            account, name = profile.user_id, profile.name
        if await store.change_account(account, role=role, name=name):
            store.publish(self._events.account_changed(account, event.tenant, event))
