"""A person, their profile, and their role in the organisation."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias
from urllib.parse import urlsplit
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from subgraphs.platform.domain import ROLES, Conflict, Event, Invalid

LONGEST_NAME, LONGEST_URL = 100, 2_048
_LOCALE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}")

ROLE_WORDS: Mapping[str, str] = {
    "owner": "Everything, including what concerns the tenant as a whole.",
    "admin": "Everything but what only owners may: people, settings, workflows.",
    "editor": "Makes and publishes workflows, and runs them.",
    "operator": "Starts and cancels executions of published workflows.",
    "viewer": "Looks, and changes nothing.",
}


class LastOwner(Conflict):
    """An organisation keeps at least one owner."""

    def __init__(self) -> None:
        super().__init__(
            "This is the last owner of the organisation.",
            code="last_owner",
            field="role",
            next_step="Make somebody else an owner first.",
        )


class SignUpAbandoned(Conflict):
    """The sign-up ended before this step: nothing is to be made any more."""


@dataclass(frozen=True, slots=True)
class Organisation:
    """Where people work together."""

    id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who can log in, with the role they have in their organisation."""

    id: UUID
    email: str
    name: str
    avatar_url: str | None
    locale: str
    time_zone: str
    role: str
    organisation: Organisation
    member_since: datetime


@dataclass(frozen=True, slots=True)
class Profile:
    """What a person changes of themselves; what is left out stays. `avatar_url` empty: no picture."""

    name: str | None = None
    avatar_url: str | None = None
    locale: str | None = None
    time_zone: str | None = None

    def checked(self) -> Profile:
        """Tidied; raises Invalid naming the first field at fault."""
        return Profile(
            name=None if self.name is None else checked_name(self.name),
            avatar_url=None if self.avatar_url is None else checked_url(self.avatar_url),
            locale=None if self.locale is None else checked_locale(self.locale),
            time_zone=None if self.time_zone is None else checked_zone(self.time_zone),
        )


def checked_name(name: str, field: str = "name") -> str:
    found = " ".join(name.split())
    if not 1 <= len(found) <= LONGEST_NAME or not found.isprintable():
        raise Invalid(f"Give 1 to {LONGEST_NAME} printable characters.", code="name_length", field=field)
    return found


def checked_url(url: str) -> str:
    """An https address, or nothing at all."""
    try:
        parts = urlsplit(url)
        good = not url or (parts.scheme == "https" and bool(parts.hostname) and not parts.username)
    except ValueError:
        good = False
    if not good or len(url) > LONGEST_URL or not url.isprintable():
        raise Invalid("This is not an https address.", code="url_malformed", field="avatarUrl")
    return url


def checked_locale(locale: str) -> str:
    if not _LOCALE.fullmatch(locale):
        raise Invalid(
            "This is not a language tag.", code="locale_malformed", field="locale", next_step="Say en or de-CH."
        )
    return locale


def checked_zone(zone: str) -> str:
    """An IANA zone that exists."""
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


def checked_role(role: str) -> str:
    if role not in ROLES:
        raise Invalid(f"A role is one of {', '.join(ROLES)}.", code="role_unknown", field="role")
    return role


class Store(Protocol):
    """User's rows inside one transaction of one tenant."""

    async def found(self, person: Person, sign_up: UUID) -> bool:
        """Stores the first person, organisation and membership; False if there already. Raises SignUpAbandoned."""

    async def withdraw(self, sign_up: UUID, now: datetime) -> None:
        """Removes all of the tenant, and never makes it later."""

    async def change_profile(self, id: UUID, profile: Profile) -> Person | None: ...

    async def roles_locked(self, id: UUID) -> tuple[str, int] | None:
        """The role of a member and the number of owners; no other role changes until the transaction ends."""

    async def change_role(self, id: UUID, role: str) -> Person | None: ...

    def publish(self, *events: Event) -> None: ...


Stores: TypeAlias = Callable[[UUID], AbstractAsyncContextManager[Store]]
