"""What a caller may do: sign up, log in, refresh, log out; and the steps of the sign-up saga that are Auth's.

The saga: `sign_up` stores the request and an inactive account in one commit with its event; Tenant makes the tenant,
User the organisation, person and membership; then the account is activated. Each step is a transaction that starts from
an event and is repeated until it commits, so a crash anywhere only delays it. A refusal, or SIGN_UP_LIFE without
completion, ends it: the address is free again, and Tenant and User are told to take back what they made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from subgraphs.auth import passwords as rules
from subgraphs.auth.domain import (
    AccessTokens,
    Account,
    AttemptKeys,
    Lookups,
    Newcomer,
    Passwords,
    RefreshRefused,
    SignUpPending,
    Stores,
    TooManyAttempts,
    Turns,
    WrongCredentials,
    email_key,
    refresh_key,
)
from subgraphs.auth.events import Events
from subgraphs.platform.domain import Invalid


@dataclass(frozen=True, slots=True)
class Means:
    """What the commands work with."""

    lookups: Lookups
    stores: Stores
    passwords: Passwords
    turns: Turns
    tokens: AccessTokens
    events: Events
    now: Callable[[], datetime]
    new_id: Callable[[], UUID]
    new_refresh: Callable[[], str]
    idle_life: timedelta


@dataclass(frozen=True, slots=True)
class Started:
    """A session as its holder gets it."""

    account: UUID
    tenant: UUID
    access: str
    access_expires: datetime
    refresh: str
    refresh_expires: datetime


@dataclass(frozen=True, slots=True)
class Requested:
    """A sign-up on its way."""

    id: UUID
    account: UUID
    tenant: UUID


async def new_password(newcomer: Newcomer, password: str, means: Means) -> str:
    """The hash of an acceptable password; raises Invalid for one that is not."""
    own = (newcomer.email, newcomer.name, newcomer.organisation, "linkflow")
    rules.check(password, own)
    return await means.passwords.hash(password)


async def sign_up(newcomer: Newcomer, hashed: str, means: Means, *, id: UUID) -> Requested:
    """Begins a sign-up. `hashed` may come from another system (see `passwords.known`). Raises EmailTaken, Invalid."""
    if not rules.known(hashed):
        raise Invalid("Hashes of this form are not understood.", code="hash_unknown", field="password")
    requested = Requested(id, means.new_id(), means.new_id())
    organisation = means.new_id()
    async with means.stores(requested.tenant) as store:
        await store.request_sign_up(id, requested.account, organisation, newcomer, hashed, means.now())
        store.publish(means.events.sign_up_requested(id, requested.tenant, requested.account, organisation, newcomer))
    return requested


async def log_in(email: str, password: str, address: str, means: Means) -> Started:
    """A session for the right password; raises WrongCredentials, TooManyAttempts, SignUpPending."""
    keys = AttemptKeys.of(email, address)
    async with means.turns.of(keys):
        wait = keys.wait(await means.lookups.attempts(keys.all()), means.now())
        if wait > timedelta():
            raise TooManyAttempts(wait)
        account = await means.lookups.account_by_email(email_key(email))
        if not await means.passwords.matches(password, account.password if account else None) or account is None:
            await means.lookups.note_failure(keys.all(), means.now())
            raise WrongCredentials
        await means.lookups.forget_failures([keys.account])
    if not account.active:
        raise SignUpPending
    await _rehash(account, password, means)
    return await start_session(account.id, account.tenant, means)


async def _rehash(account: Account, password: str, means: Means) -> None:
    if means.passwords.outdated(account.password):
        fresh = await means.passwords.hash(password)
        async with means.stores(account.tenant) as store:
            await store.replace_password(account.id, account.password, fresh)


async def start_session(account: UUID, tenant: UUID, means: Means) -> Started:
    """A new session, and its first two tokens."""
    session, now = means.new_id(), means.now()
    refresh = means.new_refresh()
    expires = now + means.idle_life
    async with means.stores(tenant) as store:
        await store.start_session(session, account, refresh_key(refresh), now, expires)
        store.publish(means.events.session_started(session, tenant, account))
    return _started(account, tenant, session, refresh, expires, means)


def _started(account: UUID, tenant: UUID, session: UUID, refresh: str, expires: datetime, means: Means) -> Started:
    access, until = means.tokens.access(account, tenant, session, int(means.now().timestamp()))
    return Started(account, tenant, access, datetime.fromtimestamp(until, expires.tzinfo), refresh, expires)


async def refresh(token: str, means: Means) -> Started:
    """The next two tokens of a session. A token that was used before ends the session; raises RefreshRefused."""
    key = refresh_key(token)
    found = await means.lookups.session_by_refresh(key)
    if found is None:
        raise RefreshRefused
    tenant, session = found
    now = means.now()
    fresh = means.new_refresh()
    expires = now + means.idle_life
    async with means.stores(tenant) as store:
        if await store.use_refresh(key, now):
            account = await store.rotate(session, refresh_key(fresh), now, expires)
        else:
            account = None
            holder = await store.revoke(session, "refresh_reused", now)
            store.publish(means.events.refresh_reused(session, tenant, holder))
            if holder:
                store.publish(means.events.session_revoked(session, tenant, holder, "refresh_reused"))
    if account is None:
        raise RefreshRefused
    return _started(account, tenant, session, fresh, expires, means)


async def log_out(token: str, means: Means) -> bool:
    """Ends the session of a refresh token, used or not; whether there was one to end."""
    found = await means.lookups.session_by_refresh(refresh_key(token))
    if found is None:
        return False
    tenant, session = found
    async with means.stores(tenant) as store:
        holder = await store.revoke(session, "logged_out", means.now())
        if holder:
            store.publish(means.events.session_revoked(session, tenant, holder, "logged_out"))
    return holder is not None


async def abandon_overdue(before: datetime, means: Means) -> int:
    """Ends the open sign-ups that were requested before then; how many."""
    ended = 0
    for tenant, sign_up_id in await means.lookups.overdue(before):
        async with means.stores(tenant) as store:
            if await store.fail_sign_up(sign_up_id, "It took too long.", means.now()):
                store.publish(means.events.sign_up_abandoned(sign_up_id, tenant, "overdue"))
                ended += 1
    return ended
