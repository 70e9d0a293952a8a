"""Words that every domain shares: ids, callers and their scopes, problems, published events, aggregates."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Generic, Self, TypeVar
from uuid import UUID


def uuid7() -> UUID:
    """A time-ordered id (RFC 9562, version 7): 48 bits of milliseconds, then 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | (random >> 68 & 0xFFF) << 64
    return UUID(int=value | 0b10 << 62 | random & 0x3FFF_FFFF_FFFF_FFFF)


class Problem(Exception):
    """Something the caller can fix. Kinds below; anything else that is raised is ours to fix and is masked."""

    kind: ClassVar[str] = "Invalid"
    default_code: ClassVar[str] = "invalid"
    default_next_step: ClassVar[str | None] = None

    def __init__(
        self, message: str, *, code: str | None = None, field: str | None = None, next_step: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.field = field
        self.next_step = next_step or self.default_next_step


class Invalid(Problem):
    """What was sent cannot be accepted as it stands."""


class Missing(Problem):
    """Nothing of that id is visible to the caller; foreign and absent look the same."""

    kind, default_code = "Missing", "missing"
    default_next_step = "Check the id: it has to be of your own tenant, and what it names may have been deleted."


class Conflict(Problem):
    """Somebody else was first, or the same key came with other content."""

    kind, default_code = "Conflict", "conflict"


class Forbidden(Problem):
    """The caller is known and lacks a scope."""

    kind, default_code = "Forbidden", "forbidden"


class Unauthenticated(Problem):
    """Nobody is logged in, or the credentials do not hold."""

    kind, default_code = "Unauthenticated", "unauthenticated"


class Limited(Problem):
    """Too much or too often; `retry_after` in seconds says when to come back."""

    kind, default_code = "Limited", "limited"

    def __init__(self, message: str, *, retry_after: float | None = None, **words: Any) -> None:
        super().__init__(message, **words)
        self.retry_after = retry_after


_READ = frozenset({"tenant:read", "user:read", "workflow:read", "execution:read", "node:read", "webhook:read"})
_OPERATE = _READ | {"execution:start", "execution:cancel", "execution:control", "execution:approve"}
_EDIT = _OPERATE | {"workflow:write", "workflow:publish", "workflow:delete", "webhook:write", "node:test"}
_ADMIN = _EDIT | {"user:write", "tenant:write"}

ROLES: Mapping[str, frozenset[str]] = {
    "owner": _ADMIN | {"tenant:own"},
    "admin": _ADMIN,
    "editor": _EDIT,
    "operator": _OPERATE,
    "viewer": _READ,
}
"""Built-in roles and the scopes they carry (US-03). Every signed-in person may see and edit their own profile."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as Auth's internal identity says. Anonymous callers have no subject and no tenant.

    `address` is the network address of the client, said only of those not logged in (who may be slowed down by it).
    """

    subject: UUID | None = None
    tenant: UUID | None = None
    session: UUID | None = None
    name: str = ""
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    address: str = ""

    @property
    def anonymous(self) -> bool:
        return self.subject is None

    def signed_in(self) -> tuple[UUID, UUID]:
        """(user, tenant); raises Unauthenticated for the anonymous."""
        if self.subject is None or self.tenant is None:
            raise Unauthenticated("Log in first.", next_step="Call logIn and send the access token as a Bearer token.")
        return self.subject, self.tenant

    def must(self, scope: str) -> UUID:
        """The caller's tenant if they hold `scope`; raises Unauthenticated or Forbidden."""
        _, tenant = self.signed_in()
        if scope not in self.scopes:
            raise Forbidden(
                f"This needs the scope {scope}.",
                code="scope_missing",
                next_step="Ask an owner or admin of your organisation for a role that carries it.",
            )
        return tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A published fact, shaped as CloudEvents 1.0 (specversion 1.0; `subject` is the aggregate's id).

    `type` is `domain.entity.action.vN`. `partition` decides order and owner: events of one aggregate share one.
    """

    type: str
    subject: str
    data: Mapping[str, Any]
    tenant: UUID | None
    partition: int
    id: UUID = field(default_factory=uuid7)
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    correlation: UUID | None = None
    causation: UUID | None = None

    @property
    def source(self) -> str:
        return f"/linkflow/{self.type.split('.', 1)[0]}"

    def cloud(self) -> dict[str, Any]:
        """The event in CloudEvents JSON format, with our extension attributes."""
        return {
            "specversion": "1.0",
            "id": str(self.id),
            "source": self.source,
            "type": self.type,
            "subject": self.subject,
            "time": self.time.isoformat(),
            "datacontenttype": "application/json",
            "data": self.data,
            "tenant": str(self.tenant) if self.tenant else None,
            "correlationid": str(self.correlation or self.id),
            "causationid": str(self.causation) if self.causation else None,
        }


Change = TypeVar("Change")


class Aggregate(Generic[Change]):
    """A thing whose state is the fold of its recorded changes (event sourcing).

    `version` counts the changes applied; `fresh` are those not yet stored. Subclasses implement `apply`.
    """

    def __init__(self, id: UUID) -> None:
        self.id = id
        self.version = 0
        self.fresh: list[Change] = []

    def record(self, change: Change) -> None:
        self.apply(change)
        self.version += 1
        self.fresh.append(change)

    def apply(self, change: Change) -> None:
        raise TypeError(f"{type(self).__name__} does not say how {type(change).__name__} changes it")

    @classmethod
    def replay(cls, id: UUID, changes: list[Change]) -> Self:
        aggregate = cls(id)
        for change in changes:
            aggregate.apply(change)
            aggregate.version += 1
        return aggregate
