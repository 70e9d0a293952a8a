"""What an operator does with the log: see dead letters and have them tried again, have one consumer read again, count.

Dead letters are events whose handling failed to the last attempt (`bus.held`, parked). All functions take a connection
of role lf_engine; running processes notice by their sweeps, so nothing has to be stopped.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from subgraphs.platform.domain import Invalid, Missing

BATCH = 500
SHOWN = 20
"""Ids named of each kind of difference."""

DEAD = """
select h.consumer, h.id, l.type, h.subject, h.tenant, h.attempts, h.error, l.at, h.parked
from bus.held h join bus.log l on l.part = h.part and l.xid = h.xid and l.seq = h.seq
where h.parked is not null and ($1::text is null or h.consumer = $1) order by h.consumer, h.xid, h.seq limit $2
"""
REDRIVE = """
update bus.held set parked = null, attempts = 0, due = clock_timestamp() where (consumer, id) in (
  select consumer, id from bus.held where parked is not null and parked <= $3 and consumer = $1
  and ($2::uuid[] is null or id = any($2)) order by xid, seq limit $4 for update skip locked)
returning id
"""
WAITING = "select count(*) from bus.held where parked is not null and consumer = $1"
READER = "select part, types from bus.pos where consumer = $1 order by part for update"
AT_TIME = """
select min(l.xid::text::bigint) from unnest($2::smallint[]) p(part)
cross join lateral (select xid from bus.log where part = p.part and at >= $1 and type = any($3::text[])
  order by xid, seq limit 1) l
"""
ACTED = """
delete from bus.inbox i using bus.log l
where i.consumer = $1 and i.id = l.id and l.part = any($2::smallint[]) and l.xid >= $3::text::xid8
"""
REWIND = """
update bus.pos set upto = pg_current_snapshot(), after_seq = -1, after_xid =
  least($2::text::xid8, pg_snapshot_xmin(snap), coalesce(after_xid, $2::text::xid8)), snap = '1:1:'
where consumer = $1
"""
AGAIN = """
select count(*) from bus.log l
where l.part = any($1::smallint[]) and l.xid >= $2::text::xid8 and l.type = any($3::text[])
"""
FORGET_HELD = """
delete from bus.held h using bus.log l where h.consumer = $1 and l.part = h.part and l.xid = h.xid and l.seq = h.seq
and l.xid >= $2::text::xid8
"""
COUNTS = """
with seen as (
  select c.consumer, l.id, i.id is not null as acted, h.id is not null as held, h.parked is not null as dead,
    (pg_visible_in_snapshot(l.xid, c.snap) or (c.upto is not null and pg_visible_in_snapshot(l.xid, c.upto)
      and (l.xid, l.seq) <= (c.after_xid, c.after_seq))) as passed
  from bus.pos c join bus.log l on l.part = c.part and l.type = any(c.types)
  left join bus.inbox i on i.consumer = c.consumer and i.id = l.id
  left join bus.held h on h.consumer = c.consumer and h.id = l.id
  where c.consumer <> all($1::text[]))
select consumer, count(*) as logged, count(*) filter (where passed) as passed, count(*) filter (where acted) as acted,
  count(*) filter (where held and not dead) as held, count(*) filter (where dead) as dead,
  count(*) filter (where passed and not acted and not held) as missing,
  (array_agg(id) filter (where passed and not acted and not held))[1:$2::integer] as missing_ids,
  count(*) filter (where acted and held) as doubled,
  (array_agg(id) filter (where acted and held))[1:$2::integer] as doubled_ids
from seen group by consumer order by consumer
"""
TWICE = "select id, count(*) from bus.log group by id having count(*) > 1 limit $1"


@dataclass(frozen=True, slots=True)
class Dead:
    """A dead letter: who could not handle what, how often it was tried and why not."""

    consumer: str
    id: UUID
    type: str
    subject: str
    tenant: UUID | None
    attempts: int
    error: str
    at: datetime
    parked: datetime


@dataclass(frozen=True, slots=True)
class Count:
    """One consumer against the log: events of its types, those its cursor is past, those it acted on, held and dead
    ones. What is past and neither acted on nor held is `missing`; what is both is `doubled`. Both must be 0."""

    consumer: str
    logged: int
    passed: int
    acted: int
    held: int
    dead: int
    missing: int
    missing_ids: Sequence[UUID]
    doubled: int
    doubled_ids: Sequence[UUID]

    def row(self) -> dict[str, Any]:
        return {**asdict(self), "missing_ids": [*self.missing_ids], "doubled_ids": [*self.doubled_ids]}


async def dead(connection: asyncpg.Connection, consumer: str | None = None, most: int = 1000) -> list[Dead]:
    """The dead letters, in the order of the log."""
    return [Dead(**dict(row)) for row in await connection.fetch(DEAD, consumer, most)]


async def redrive(
    connection: asyncpg.Connection, consumer: str, ids: Sequence[UUID] | None = None
) -> AsyncIterator[tuple[int, int]]:
    """Has dead letters of a consumer tried again, all that are dead now or those named; yields (so far, left).

    They are tried as if for the first time, with the attempts and pauses of that, in the order of the log. Raises
    Missing when there is none. Events of their subjects that came later have been handled meanwhile.
    """
    now, done = await connection.fetchval("select clock_timestamp()"), 0
    while rows := await connection.fetch(REDRIVE, consumer, list(ids) if ids is not None else None, now, BATCH):
        done += len(rows)
        yield done, await connection.fetchval(WAITING, consumer)
    if not done:
        raise Missing(
            f"{consumer} has no such dead letter.", field="consumer", next_step="`linkflow bus dead` lists them."
        )


async def replay(
    connection: asyncpg.Connection, consumer: str, *, since: datetime | None = None, offset: int | None = None
) -> int:
    """Has one consumer read again all that was stored since a time or a transaction id (offset), as if it had never
    acted on it; how many events. Nobody else notices. What it had not read yet is read too, in the log's order."""
    if (since is None) == (offset is None):
        raise Invalid("Say from where: a time or an offset.", field="since")
    async with connection.transaction():
        rows = await connection.fetch(READER, consumer)  # waits until a round that is under way has ended
        if not rows:
            raise Missing(f"Nobody reads the log as {consumer}.", field="consumer", next_step="`linkflow bus counts`")
        parts, types = [row["part"] for row in rows], rows[0]["types"]
        start = offset if offset is not None else await connection.fetchval(AT_TIME, since, parts, types)
        if start is None:
            return 0
        await connection.execute(FORGET_HELD, consumer, str(start))
        await connection.execute(ACTED, consumer, parts, str(start))
        await connection.execute(REWIND, consumer, str(start))
        return int(await connection.fetchval(AGAIN, parts, str(start), types))


async def counts(connection: asyncpg.Connection, starters: Sequence[str] = ("execution",)) -> list[Count]:
    """Every consumer against the log. `starters` begin streams, which are their own inbox: they are left out."""
    return [Count(**_lists(dict(row))) for row in await connection.fetch(COUNTS, list(starters), SHOWN)]


async def twice(connection: asyncpg.Connection) -> list[UUID]:
    """Events that stand in the log more than once; there must be none."""
    return [row["id"] for row in await connection.fetch(TWICE, SHOWN)]


def _lists(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value if value is not None or not name.endswith("_ids") else [] for name, value in row.items()}
