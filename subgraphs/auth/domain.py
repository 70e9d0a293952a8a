"""Accounts, sessions and sign-ups: their rules, their problems, and what their storage must offer."""

from __future__ import annotations

import asyncio
import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Protocol, TypeAlias
from uuid import UUID
from weakref import WeakValueDictionary
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from subgraphs.platform.domain import Conflict, Event, Invalid, Limited, Unauthenticated

LONGEST_NAME = 100
LONGEST_EMAIL = 254  # RFC 5321, 4.5.3.1.3, less the brackets
SIGN_UP_LIFE = timedelta(minutes=15)
"""After this a sign-up that is not complete is abandoned, and everything it made is taken back."""

ABSOLUTE_LIFE = timedelta(days=90)
"""A session ends after this however much it is used."""

FORGOTTEN = timedelta(minutes=15)
"""After this without a wrong password the count begins anew."""

_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f]{1,64}@[^@\s\x00-\x1f\x7f]{1,190}")
_LOCALE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}")


class WrongCredentials(Unauthenticated):
    """The same for an unknown address and for a wrong password."""

    def __init__(self) -> None:
        super().__init__(
            "Email or password is wrong.", code="credentials_wrong", next_step="Check both, or sign up if you are new."
        )


class SignUpPending(Unauthenticated):
    """The password is right, and the account is not complete yet."""

    def __init__(self) -> None:
        super().__init__(
            "Your sign-up is not complete yet.", code="sign_up_pending", next_step="Try again in a few seconds."
        )


class RefreshRefused(Unauthenticated):
    """The refresh token is unknown, used, expired or revoked; which of them is not told."""

    def __init__(self) -> None:
        super().__init__("This session is over.", code="session_over", next_step="Log in again.")


class EmailTaken(Conflict):
    def __init__(self) -> None:
        super().__init__(
            "There is an account with this address.", code="email_taken", field="email", next_step="Log in instead."
        )


class TooManyAttempts(Limited):
    def __init__(self, wait: timedelta) -> None:
        super().__init__(
            "Too many wrong passwords.",
            code="attempts_limited",
            retry_after=wait.total_seconds(),
            next_step=f"Try again in {max(1, round(wait.total_seconds()))} seconds.",
        )


class SignUpState(Enum):
    """Where a sign-up stands."""

    REQUESTED = "REQUESTED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Newcomer:
    """What a person says of themselves when signing up, checked and tidied."""

    email: str
    name: str
    organisation: str
    locale: str
    time_zone: str

    @classmethod
    def of(cls, *, email: str, name: str, organisation: str, locale: str | None, time_zone: str | None) -> Newcomer:
        """Checks each field; raises Invalid naming the first at fault."""
        return cls(
            email=checked_email(email),
            name=_named(name, "name"),
            organisation=_named(organisation, "organisation"),
            locale=_matching(locale or "en", _LOCALE, "locale", "a language tag such as en or de-CH"),
            time_zone=_zone(time_zone or "UTC"),
        )


def checked_email(email: str) -> str:
    """The address without surrounding blanks; raises Invalid if it cannot be one."""
    found = email.strip()
    if len(found) > LONGEST_EMAIL or not _EMAIL.fullmatch(found):
        raise Invalid(
            "This is not an email address.",
            code="email_malformed",
            field="email",
            next_step="Write one like ada@example.org.",
        )
    return found


def email_key(email: str) -> str:
    """What two spellings of one address have in common: compatibility form, case folded.

    The database cannot look for NUL; no address has one, so what takes its place is nobody's either.
    """
    return unicodedata.normalize("NFKC", email.strip()).casefold().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _named(text: str, field: str) -> str:
    found = " ".join(text.split())
    if not 1 <= len(found) <= LONGEST_NAME or not found.isprintable():
        raise Invalid(f"Give 1 to {LONGEST_NAME} printable characters.", code="name_length", field=field)
    return found


def _matching(text: str, pattern: re.Pattern[str], field: str, wanted: str) -> str:
    if not pattern.fullmatch(text):
        raise Invalid(f"This must be {wanted}.", code=f"{field.lower()}_malformed", field=field)
    return text


def _zone(zone: str) -> str:
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Invalid(
            "There is no such time zone.",
            code="timezone_unknown",
            field="timeZone",
            next_step="Say Europe/Zurich or UTC.",
        ) from None
    return zone


@dataclass(frozen=True, slots=True)
class Account:
    """An account as far as logging in needs it. `role` is User's word, kept here for the identity."""

    tenant: UUID
    id: UUID
    password: str
    active: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """What a session may claim now: nothing at all if it is over."""

    name: str
    role: str | None


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often a key (an account, an address) was wrong, and when last."""

    failures: int
    at: datetime


@dataclass(frozen=True, slots=True)
class AttemptKeys:
    """Under what wrong passwords are counted: the account named, and where the request comes from if that is known."""

    account: bytes
    address: bytes | None

    @classmethod
    def of(cls, email: str, address: str) -> AttemptKeys:
        place = hashlib.sha256(f"address:{address}".encode()).digest() if address else None
        return cls(hashlib.sha256(f"account:{email_key(email)}".encode()).digest(), place)

    def all(self) -> list[bytes]:
        return [self.account, *([self.address] if self.address else [])]

    def wait(self, known: dict[bytes, Attempts], now: datetime) -> timedelta:
        """How long to wait before the next try: 1, 4, 16 … seconds from the 4th error on an account (so at most 9 tries
        in a quarter of an hour), the same from the 21st from one address, never over FORGOTTEN."""
        waits = [timedelta()]
        for key, free in ((self.account, 3), (self.address, 20)):
            found = known.get(key) if key else None
            if found and now - found.at < FORGOTTEN and found.failures > free:
                pause = min(timedelta(seconds=4 ** min(found.failures - free - 1, 8)), FORGOTTEN)
                waits.append(found.at + pause - now)
        return max(waits)


class Store(Protocol):
    """Auth's tables inside one transaction of one tenant. Every method sees that tenant only."""

    async def request_sign_up(
        self, id: UUID, account_id: UUID, organisation: UUID, newcomer: Newcomer, password: str, now: datetime
    ) -> None:
        """Stores sign-up and inactive account; raises EmailTaken."""

    async def complete_sign_up(self, id: UUID, role: str, now: datetime) -> UUID | None:
        """Activates the account of a requested sign-up; its id, or nothing if it is not open any more."""

    async def fail_sign_up(self, id: UUID, reason: str, now: datetime) -> bool:
        """Ends an open sign-up and removes its account; whether it was open."""

    async def change_account(self, id: UUID, *, role: str | None = None, name: str | None = None) -> bool: ...

    async def replace_password(self, id: UUID, old: str, new: str) -> None: ...

    async def start_session(
        self, id: UUID, account_id: UUID, refresh: bytes, now: datetime, expires: datetime
    ) -> None: ...

    async def use_refresh(self, hash: bytes, now: datetime) -> bool:
        """Marks an unused token as used; whether it was unused. Two at once: one wins."""

    async def rotate(self, id: UUID, fresh: bytes, now: datetime, expires: datetime) -> UUID | None:
        """Adds the next token of a session that is not over; its account, or nothing."""

    async def revoke(self, id: UUID, reason: str, now: datetime) -> UUID | None:
        """Ends a session; its account, or nothing if it was over already."""

    def publish(self, *events: Event) -> None: ...


class Lookups(Protocol):
    """What must be known before a tenant is. Each is one SECURITY DEFINER function."""

    async def account_by_email(self, key: str) -> Account | None: ...

    async def session_by_refresh(self, hash: bytes) -> tuple[UUID, UUID] | None:
        """(tenant, session) of a refresh token ever given out."""

    async def sign_up(self, id: UUID) -> tuple[UUID, SignUpState, str | None, datetime] | None: ...

    async def overdue(self, before: datetime) -> Sequence[tuple[UUID, UUID]]:
        """(tenant, sign-up) of open sign-ups older than that."""

    async def attempts(self, keys: Iterable[bytes]) -> dict[bytes, Attempts]: ...

    async def note_failure(self, keys: Iterable[bytes], now: datetime) -> None: ...

    async def forget_failures(self, keys: Iterable[bytes]) -> None: ...


Stores: TypeAlias = Callable[[UUID], AbstractAsyncContextManager[Store]]
"""Opens a transaction of a tenant; what it stores and publishes is committed at the end of the block."""


class Turns:
    """Lets tries on one account through one after the other, so that many at once do not all see the same count."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    def of(self, keys: AttemptKeys) -> asyncio.Lock:
        return self._locks.setdefault(keys.account, asyncio.Lock())


def refresh_key(token: str) -> bytes:
    """Under what a refresh token is stored: SHA-256, for it has 256 random bits of its own and needs no slow hash."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


class AccessTokens(Protocol):
    """Makes access tokens."""

    def access(self, account: UUID, tenant: UUID, session: UUID, now: int) -> tuple[str, int]:
        """A signed token, and the second it expires."""


class Passwords(Protocol):
    """Hashes and compares; both take a tenth of a second of a core and wait their turn."""

    async def hash(self, password: str) -> str: ...

    async def matches(self, password: str, hashed: str | None) -> bool:
        """Compares; without a hash it does the same work and says no."""

    def outdated(self, hashed: str) -> bool: ...
