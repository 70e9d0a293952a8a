"""A database server in memory: what it stores, and the group commit's statement as PostgreSQL carries it out.

Only committed things are here; each method is one statement and happens at one instant. `driver.py` brings delay, loss
and broken connections between it and a process. `tests/laws` hold it to the same laws as PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg

from subgraphs.platform.commits import Stored
from subgraphs.platform.flush import Batch, Row, Table

RANGES = {"smallint": 1 << 15, "integer": 1 << 31, "bigint": 1 << 63}
KINDS: dict[str, type] = {"uuid": UUID, "text": str, "bytea": bytes, "timestamptz": datetime}
LOG = ("part", "seq", "id", "tenant", "type", "subject", "at", "correlation", "causation", "data")
BLOBS = "bus.blob"
Key = tuple[Any, ...]


@dataclass(slots=True)
class Worker:
    """A row of `bus.worker`."""

    id: UUID
    lock: int
    claims: bool
    beat: float
    alive: bool = True


@dataclass(slots=True)
class Lease:
    """A row of `bus.lease`."""

    part: int
    owner: UUID | None = None
    epoch: int = 0


@dataclass(slots=True)
class Position:
    """A row of `bus.pos`."""

    types: list[str]
    snap: str = "1:1:"
    upto: str | None = None
    after_xid: str | None = None
    after_seq: int | None = None


@dataclass(slots=True)
class Held:
    """A row of `bus.held`."""

    consumer: str
    id: UUID
    part: int
    xid: int
    seq: int
    attempts: int
    due: float
    parked: bool = False


@dataclass(slots=True, eq=False)
class Session:
    """A connection as the server knows it: what it locks, what it waits for, whom it tells."""

    name: str
    owner: Any = None
    alive: bool = True
    ears: dict[str, Callable[..., None]] = field(default_factory=dict)
    locks: dict[int, None] = field(default_factory=dict)
    running: int = 0
    on_end: list[Callable[[], None]] = field(default_factory=list)


class Server:
    """The state of one database. `watch` sees every flush as it is carried out (judge.py)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.tables: dict[str, Table] = {}
        self.rows: dict[str, dict[Key, Row]] = {BLOBS: {}}
        self.log: list[dict[str, Any]] = []
        self.workers: dict[UUID, Worker] = {}
        self.leases: dict[int, Lease] = {}
        self.positions: dict[tuple[str, int], Position] = {}
        self.held: dict[tuple[str, UUID], Held] = {}
        self.inbox: set[tuple[str, UUID]] = set()
        self.objects: dict[tuple[UUID, str], bytes] = {}
        self.locked: dict[Any, Any] = {}
        self.xid = 10
        self.in_progress: set[int] = set()
        self.watch: Any = None
        self.fences = True
        self.versions = True

    def register(self, table: Table) -> None:
        self.tables[table.name] = table
        self.rows.setdefault(table.name, {})

    # -- reading

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)

    def row(self, table: str, key: Key) -> dict[str, Any] | None:
        found = self.rows[table].get(key)
        return None if found is None else dict(zip(self.tables[table].names, found, strict=True))

    def all(self, table: str) -> list[dict[str, Any]]:
        names = self.tables[table].names
        return [dict(zip(names, row, strict=True)) for row in self.rows[table].values()]

    def snapshot(self) -> str:
        """As pg_current_snapshot() writes it."""
        xmax = self.xid + 1
        running = sorted(self.in_progress)
        return f"{min(running, default=xmax)}:{xmax}:{','.join(map(str, running))}"

    # -- transactions

    def begin(self) -> int:
        self.xid += 1
        self.in_progress.add(self.xid)
        return self.xid

    def end(self, xid: int) -> None:
        self.in_progress.discard(xid)

    def store(self, table: str, row: Row) -> bool:
        """Inserts a row unless its key is there."""
        key = self._key(self.tables[table], row)
        self.check(self.tables[table], row)
        if key in self.rows[table]:
            return False
        self.rows[table][key] = row
        return True

    def append(self, rows: list[Row], xid: int) -> None:
        for row in rows:
            kind = row[4]
            if kind.count(".") != 3 or " " in kind:
                raise asyncpg.CheckViolationError(f"{kind} is no name of an event")
            self.log.append({**dict(zip(LOG, row, strict=True)), "xid": str(xid)})

    # -- the flush

    def flush(self, batch: Batch, owner: UUID, xid: int) -> Stored:
        """All of it or, when a row breaks a rule, nothing."""
        for group in (batch.claims, batch.ingress, batch.begun, batch.moved, batch.written):
            for rows in group.values():
                for row in rows.rows:
                    self.check(rows.table, row)
        won = self._claims(batch)
        streams = self._streams(batch, owner, won)
        changes = self._changes(batch, streams)
        if self.watch is not None:
            self.watch(batch, owner, streams, changes)
        every: list[tuple[str, Key, Row | None]] = [*won.values(), *self._ingress(batch, won), *changes]
        for name, key, changed in every:
            if changed is None:
                self.rows[name].pop(key, None)
            else:
                self.rows[name][key] = changed
        width = len(LOG)
        wanted: Mapping[Any, Any]
        for events, wanted in ((batch.ingress_events, won), (batch.unit_events, streams)):
            self.append([row[:width] for row in events if _admitted(row[width:], wanted)], xid)
        return Stored(xid, frozenset(id for _, id in streams), frozenset(won))

    def check(self, table: Table, row: Row) -> None:
        """Values have the types of their columns."""
        for (name, kind), value in zip(table.columns, row, strict=False):
            if value is None:
                continue
            limit = RANGES.get(kind)
            if limit is not None:
                if not isinstance(value, int) or not -limit <= value < limit:
                    raise asyncpg.DataError(f"{table.name}.{name}: {value!r} is out of range")
            elif not isinstance(value, KINDS.get(kind, object)):
                raise asyncpg.DataError(f"{table.name}.{name}: {value!r} is no {kind}")

    @staticmethod
    def _key(table: Table, row: Row) -> Key:
        return tuple(row[place] for place in table.places())

    def _claims(self, batch: Batch) -> dict[UUID, tuple[str, Key, Row]]:
        won = {}
        for name, rows in batch.claims.items():
            names = rows.table.names
            id, until = names.index("id"), names.index("until")
            for row in rows.rows:
                key = self._key(rows.table, row)
                former = self.rows[name].get(key)
                if former is None or former[until] < self.now() or former[id] == row[id]:
                    won[row[id]] = (name, key, row)
        return won

    def _ingress(self, batch: Batch, won: Mapping[UUID, Any]) -> list[tuple[str, Key, Row]]:
        found: dict[tuple[str, Key], Row] = {}
        for name, rows in batch.ingress.items():
            for *row, claim in rows.rows:
                key = self._key(rows.table, tuple(row))
                if (claim is None or claim in won) and key not in self.rows[name]:
                    found.setdefault((name, key), tuple(row))
        return [(name, key, row) for (name, key), row in found.items()]

    def _streams(self, batch: Batch, owner: UUID, won: Mapping[UUID, Any]) -> dict[tuple[UUID, UUID], Any]:
        """The heads that are written: (tenant, id) to (table, key, row)."""
        found: dict[tuple[UUID, UUID], Any] = {}
        for name, rows in batch.begun.items():
            for *head, claim in rows.rows:
                row = tuple(head)
                key = self._key(rows.table, row)
                if (
                    self.fenced(owner, row[2], row[4])
                    and (claim is None or claim in won)
                    and key not in self.rows[name]
                ):
                    found.setdefault((row[0], row[1]), (name, key, row))
        for name, rows in batch.moved.items():
            for *head, expected in rows.rows:
                row = tuple(head)
                key = self._key(rows.table, row)
                former = self.rows[name].get(key)
                if former is None or not self.fenced(owner, former[2], row[4]):
                    continue
                if former[3] == expected or not self.versions:
                    found[(row[0], row[1])] = (name, key, (*row[:2], former[2], *row[3:]))
        return found

    def fenced(self, owner: UUID, part: int, epoch: int) -> bool:
        lease = self.leases.get(part)
        return not self.fences or (lease is not None and lease.owner == owner and lease.epoch == epoch)

    def _changes(self, batch: Batch, streams: Mapping[tuple[UUID, UUID], Any]) -> list[tuple[str, Key, Row | None]]:
        changes: list[tuple[str, Key, Row | None]] = list(streams.values())
        for name, rows in batch.written.items():
            fresh: set[Key] = set()
            width = len(rows.table.columns)
            for row in rows.rows:
                if row[width:] not in streams:
                    continue
                key = self._key(rows.table, row)
                if rows.table.kind == "ingress" and key in self.rows[name]:
                    continue
                if rows.table.kind == "insert" and self.versions and (key in self.rows[name] or key in fresh):
                    raise asyncpg.UniqueViolationError(f"{name} has {key} already")
                fresh.add(key)
                changes.append((name, key, row[:width]))
        for name, rows in batch.deleted.items():
            width = len(rows.table.key)
            changes += [(name, row[:width], None) for row in rows.rows if row[width:] in streams]
        return changes


def _admitted(extra: Row, wanted: Mapping[Any, Any]) -> bool:
    """Whether an event's claim was won (or it has none), or its unit's head was written."""
    if len(extra) == 1:
        return extra[0] is None or extra[0] in wanted
    return extra in wanted
