"""What the runner needs of the world, as ports: storage, the group commit, partitions, time and chance.

Runner, sweep, preparation and loading reach nothing outside but through these and the executor. Here stands the
implementation on PostgreSQL and the system's clock; the simulator brings its own and drives the same code through
crashes, lost answers and years of virtual time (tests/simulation).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

import asyncpg

from subgraphs.execution import storage
from subgraphs.platform.leases import Lease
from subgraphs.platform.writer import Committed, Ingress, Unit

Key = tuple[UUID, UUID]
"""A run: tenant and id."""

Row = Mapping[str, Any]

UNREACHABLE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""What a store raises when it is the storage that failed, not the row that was asked for."""


class Clock(Protocol):
    """Time and chance. What it says enters the journal, so that a replay needs no clock."""

    def now(self) -> int:
        """Journal time: microseconds since 1970."""

    def seed(self) -> int:
        """A number nobody can guess, below 2^62: what a run draws its random numbers from."""

    def ticks(self) -> float:
        """Seconds on a clock that only goes forward: how long something took."""


class Commits(Protocol):
    """The group commit (platform/writer.py)."""

    async def commit(self, ingress: Ingress | None = None, units: Sequence[Unit] = ()) -> Committed: ...


class Partitions(Protocol):
    """The partitions of this process (platform/leases.py)."""

    @property
    def owned(self) -> Mapping[int, Lease]: ...

    async def hand_back(self, partitions: Collection[int]) -> None:
        """Gives these up, and takes no more from now on."""


class Store(Protocol):
    """Reads across tenants for the owner of the runs, and the few deletions that belong to no run's commit.

    Rows are mappings with the columns of their table. Raises one of UNREACHABLE when the storage cannot answer.
    """

    async def open(self, part: int) -> list[Key]:
        """The runs of a partition that neither ended nor wait: those a new owner has to go on with at once."""

    async def unfinished(self, count: int) -> list[Key]:
        """The newest runs that have not ended, of all partitions."""

    async def newest_releases(self, count: int) -> Sequence[Row]:
        """The last release of each of the newest workflows."""

    async def heads(self, keys: Sequence[Key]) -> Sequence[Row]:
        """The head rows of these runs; unknown ones are left out."""

    async def snapshots(self, keys: Sequence[Key]) -> Sequence[Row]:
        """The latest snapshot (run, version, data) of each of these runs that has one."""

    async def chunks(self, keys: Sequence[Key], after: Sequence[int]) -> Sequence[Row]:
        """The journal rows (tenant, run, version, data) of each run after a version, in the order of versions."""

    async def release(self, tenant: UUID, workflow: UUID, number: int) -> Row | None:
        """The copy of a release, if it is held."""

    async def newest(self, tenant: UUID, workflow: UUID) -> int | None:
        """The number of the newest release that is held."""

    async def versions(self, keys: Sequence[Key]) -> Sequence[Row]:
        """(id, version) of these runs."""

    async def due(self, parts: Sequence[int]) -> Sequence[Row]:
        """Timers (tenant, run, name) whose time has come on the store's clock, at most `storage.AT_ONCE`."""

    async def letters(self, parts: Sequence[int]) -> Sequence[Row]:
        """What lies in the inboxes (tenant, run, id, kind, data) as written, at most `storage.AT_ONCE`."""

    async def final(self, key: Key) -> bool:
        """Whether the run is there and has ended."""

    async def over(self, key: Key, name: str) -> None:
        """Removes a timer of a run that has ended."""

    async def discard(self, key: Key, id: UUID) -> None:
        """Removes a letter to a run that has ended."""

    async def expire(self) -> None:
        """Removes idempotency keys whose time is over."""


class SystemClock:
    """The clock of this machine; seeds from the operating system."""

    ticks = staticmethod(time.perf_counter)

    def now(self) -> int:
        return time.time_ns() // 1000

    def seed(self) -> int:
        return secrets.randbits(62)


class Rows(Protocol):
    """Reads across tenants, as asyncpg's pool does."""

    async def fetch(self, query: str, *args: Any) -> Sequence[Row]: ...

    async def fetchrow(self, query: str, *args: Any) -> Row | None: ...


class PostgresStore:
    """The store on PostgreSQL, as the role that works across tenants."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    async def open(self, part: int) -> list[Key]:
        return [(row["tenant"], row["id"]) for row in await self.rows.fetch(storage.OPEN, part)]

    async def unfinished(self, count: int) -> list[Key]:
        return [(row["tenant"], row["id"]) for row in await self.rows.fetch(storage.UNFINISHED, count)]

    async def newest_releases(self, count: int) -> Sequence[Row]:
        return await self.rows.fetch(storage.NEWEST_RELEASES, count)

    async def heads(self, keys: Sequence[Key]) -> Sequence[Row]:
        return await self.rows.fetch(storage.RUNS, *_columns(keys))

    async def snapshots(self, keys: Sequence[Key]) -> Sequence[Row]:
        return await self.rows.fetch(storage.SNAPSHOTS, *_columns(keys))

    async def chunks(self, keys: Sequence[Key], after: Sequence[int]) -> Sequence[Row]:
        return await self.rows.fetch(storage.CHUNKS, *_columns(keys), after)

    async def release(self, tenant: UUID, workflow: UUID, number: int) -> Row | None:
        return await self.rows.fetchrow(storage.RELEASE, tenant, workflow, number)

    async def newest(self, tenant: UUID, workflow: UUID) -> int | None:
        row = await self.rows.fetchrow(storage.NEWEST, tenant, workflow)
        return None if row is None else int(row["release"])

    async def versions(self, keys: Sequence[Key]) -> Sequence[Row]:
        return await self.rows.fetch(storage.WATCHED, *_columns(keys))

    async def due(self, parts: Sequence[int]) -> Sequence[Row]:
        return await self.rows.fetch(storage.DUE, parts)

    async def letters(self, parts: Sequence[int]) -> Sequence[Row]:
        return await self.rows.fetch(storage.MAIL, parts)

    async def final(self, key: Key) -> bool:
        head = await self.rows.fetchrow(storage.FINAL, *key)
        return head is not None and bool(head["final"])

    async def over(self, key: Key, name: str) -> None:
        await self.rows.fetch(storage.OVER, *key, name)

    async def discard(self, key: Key, id: UUID) -> None:
        await self.rows.fetch(storage.DISCARD, *key, id)

    async def expire(self) -> None:
        await self.rows.fetch(storage.EXPIRED)


def _columns(keys: Sequence[Key]) -> tuple[list[UUID], list[UUID]]:
    return [tenant for tenant, _ in keys], [run for _, run in keys]
