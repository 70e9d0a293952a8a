"""A tenant: its name, its slug, its state."""

from __future__ import annotations

import re
import unicodedata
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Protocol
from uuid import UUID

from subgraphs.platform.domain import Conflict, Event, Invalid

LONGEST_NAME = 100
LONGEST_SLUG = 40


class State(Enum):
    """ACTIVE tenants work; SUSPENDED ones may only be looked at by operators."""

    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"


class SignUpAbandoned(Conflict):
    """The sign-up ended before this step: nothing is to be made any more."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """One customer."""

    id: UUID
    name: str
    slug: str
    state: State
    at: datetime


def checked_name(name: str) -> str:
    """The name with single blanks; raises Invalid naming the field."""
    found = " ".join(name.split())
    if not 1 <= len(found) <= LONGEST_NAME or not found.isprintable():
        raise Invalid(f"Give 1 to {LONGEST_NAME} printable characters.", code="name_length", field="name")
    return found


def slug(name: str, id: UUID) -> str:
    """The name in lower case letters, digits and dashes, made unique by the last digits of the id."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:LONGEST_SLUG].strip("-")
    return f"{words or 'tenant'}-{id.hex[-8:]}"


class Store(Protocol):
    """The tenant's rows inside one transaction."""

    async def provision(self, tenant: Tenant, sign_up: UUID) -> bool:
        """Stores a new tenant; False if it is there already. Raises SignUpAbandoned."""

    async def withdraw(self, sign_up: UUID, now: datetime) -> bool:
        """Removes the tenant of an abandoned sign-up, and never makes it later; whether it was there."""

    async def rename(self, name: str) -> Tenant | None: ...

    def publish(self, *events: Event) -> None: ...


class Stores(Protocol):
    def __call__(self, tenant: UUID, /) -> AbstractAsyncContextManager[Store]: ...
