"""What is handed to the writer and what it hands back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg

from subgraphs.platform.domain import Event, Limited
from subgraphs.platform.flush import Ingress, Unit


class Unavailable(Limited):
    """The database cannot be reached, or cannot store now; nothing of this commit was stored."""

    default_code, default_next_step = "database_unavailable", "Nothing was stored. Send it again in a moment."

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after=1.0)


class OutcomeUnknown(Limited):
    """The connection broke during the commit and the database stayed away: it may or may not have been stored."""

    default_code, default_next_step = "outcome_unknown", "Look whether it was stored, or send it under the same key."

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after=1.0)


PASSING = frozenset({"25", "40", "53", "55", "57", "58"})
"""Classes of SQLSTATE that say nothing against a statement's rows: read-only for now, ties of locks, no room on disk or
in memory, a lock not had, cancelled by somebody, an error of the system (PostgreSQL, appendix A)."""


def passing(error: BaseException) -> bool:
    """Whether the database could not do it now, and may do the very same later."""
    return isinstance(error, asyncpg.PostgresError) and (error.sqlstate or "")[:2] in PASSING


@dataclass(slots=True)
class Prepared:
    """A unit that an event of an ingress starts; it shares the ingress's flush. `settle(written)` follows it."""

    event: Event
    unit: Unit
    settle: Callable[[bool], None]


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of a commit: `evicted` units were not written (lease, epoch or version moved on: forget and reload);
    `failed` are the poisonous ones; `claimed` is False when the ingress lost its claim and nothing of it was stored."""

    evicted: frozenset[UUID] = frozenset()
    failed: dict[UUID, Exception] = field(default_factory=dict)
    claimed: bool = True


@dataclass(slots=True)
class Entry:
    """One caller's commit while it waits and is worked on."""

    ingress: Ingress | None
    units: Sequence[Unit]
    prepared: list[Prepared]
    done: asyncio.Future[Committed]
    size: int
    written: set[UUID] = field(default_factory=set)
    failed: dict[UUID, Exception] = field(default_factory=dict)
    claimed: bool = True
    told: bool = False
    """Whether the events of its ingress were dispatched already."""
    announced: set[UUID] = field(default_factory=set)
    """Units whose events were."""
    over: bool = False
    """Whether what became of it is known, and its units are settled. Its caller may have been told before."""

    def all_units(self) -> list[Unit]:
        return [*self.units, *(prepared.unit for prepared in self.prepared)]


@dataclass(slots=True)
class Stored:
    """What a statement reported."""

    xid: int
    written: frozenset[UUID]
    claimed: frozenset[UUID]


def part(ingress: Ingress | None, units: Sequence[Unit] = ()) -> Entry:
    return Entry(ingress, units, [], asyncio.get_running_loop().create_future(), 0)


def size_of(ingress: Ingress | None, units: Sequence[Unit]) -> int:
    """Roughly the bytes of their large values."""
    rows = [row for _, row in ingress.rows] if ingress is not None else []
    for unit in units:
        rows.append(unit.head)
        rows += [row for _, row in unit.rows]
    return sum(len(value) for row in rows for value in row if isinstance(value, (bytes, str)))
