"""The rows of workers: one per process, renewed while it lives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, Integer, MetaData, Table, Text, Uuid, text

from subgraphs.executor.domain import Worker

metadata = MetaData(schema="executor")

worker = Table(
    "worker",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("catalogue", Text, nullable=False),
    Column("started", DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()")),
    Column("beat", DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()")),
    Column("busy", Integer, nullable=False, server_default=text("0")),
    Column("done", BigInteger, nullable=False, server_default=text("0")),
    Column("failed", BigInteger, nullable=False, server_default=text("0")),
)
"""It has no tenant, so only the role of the engine reaches it. `catalogue`: digest of the node types it can run."""

SILENT = 15.0
"""Seconds without a sign of life after which a worker counts as lost."""
FORGOTTEN = 3600.0
"""Seconds after which a lost worker's row goes."""

BEAT = """
insert into executor.worker (id, name, slots, catalogue, busy, done, failed) values ($1, $2, $3, $4, $5, $6, $7)
on conflict (id) do update set beat = clock_timestamp(), catalogue = excluded.catalogue, busy = excluded.busy,
    done = excluded.done, failed = excluded.failed
"""
LISTED = """
select id, name, slots, catalogue, started, beat, busy, done, failed,
       beat > clock_timestamp() - make_interval(secs => $1) as alive
  from executor.worker order by started, id limit 100
"""


class Pool(Protocol):
    """The part of an asyncpg pool that is used."""

    async def execute(self, query: str, *args: Any) -> Any: ...
    async def fetch(self, query: str, *args: Any) -> Any: ...


class WorkerRows:
    """Reads and writes the rows. The pool is asked for at each use, since it exists only while the process serves."""

    def __init__(self, pool: Callable[[], Pool]) -> None:
        self._pool = pool

    async def beat(self, id: UUID, name: str, slots: int, catalogue: str, busy: int, done: int, failed: int) -> None:
        """This worker lives."""
        await self._pool().execute(BEAT, id, name, slots, catalogue, busy, done, failed)

    async def sweep(self) -> None:
        """Drops rows of workers that were lost long ago."""
        statement = "delete from executor.worker where beat < clock_timestamp() - make_interval(secs => $1)"
        await self._pool().execute(statement, FORGOTTEN)

    async def gone(self, id: UUID) -> None:
        """This worker ends as it should."""
        await self._pool().execute("delete from executor.worker where id = $1", id)

    async def listed(self) -> list[Worker]:
        """The oldest first, at most 100."""
        return [Worker(*row.values()) for row in await self._pool().fetch(LISTED, SILENT)]
