"""Where each reader of the log stands, without losing what commits late.

A cursor is a stored snapshot (`pg_snapshot`): everything visible in it has been read. The next page is what is visible
now and was not then: transactions that began since (`xid >= xmax`) and those that were running (`xip`). A cursor by id
or by (xid, id) either loses events or stalls behind the oldest open transaction of the cluster. A backlog is read in
pages: `upto` holds the snapshot of its first page, `after` the last event read, until the pages are through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from subgraphs.platform import eventlog

Connection = asyncpg.Connection | PoolConnectionProxy

PAGE = 200
STALE = 2000
"""Transactions after which a cursor moves on though nothing of its types came, so that the next look is short."""

LOCK = """
select snap::text as snap, upto::text as upto, after_xid::text as after_xid, after_seq
from bus.pos where consumer = $1 and part = $2 for update skip locked
"""

_FIELDS = f"{eventlog.NAMES}, xid::text as xid"
_BRANCH = """
(select {fields} from bus.log l where part = $1::smallint and {range} and type = any($3::text[])
 and ($4::text is null or pg_visible_in_snapshot(xid, $4::text::pg_snapshot))
 and (xid, seq) > ($5::text::xid8, $6::integer){absent} order by l.xid, seq limit $7)
"""


def _next(absent: str) -> str:
    branches = (
        _BRANCH.format(fields=_FIELDS, range=condition, absent=absent)
        for condition in (
            "xid >= pg_snapshot_xmax($2::text::pg_snapshot)",
            "xid = any(array(select pg_snapshot_xip($2::text::pg_snapshot)))",
        )
    )
    return f"""
    select pg_current_snapshot()::text as now, p.* from (select 1) one left join lateral
    (select * from ({" union all ".join(branches)}) b order by b.xid::xid8, seq limit $7) p on true
    order by p.xid::xid8, p.seq
    """  # noqa: S608 - our own words


ADVANCE = """
update bus.pos set snap = $3::text::pg_snapshot, upto = $4::text::pg_snapshot, after_xid = $5::text::xid8,
after_seq = $6 where consumer = $1 and part = $2
"""

BEHIND = f"""
select c.consumer, c.part from bus.pos c where c.consumer = any($1::text[]) and c.part = any($2::smallint[]) and (
  c.upto is not null
  or pg_snapshot_xmax(pg_current_snapshot())::text::bigint - pg_snapshot_xmax(c.snap)::text::bigint > {STALE}
  or exists (select 1 from bus.log l where l.part = c.part and l.xid >= pg_snapshot_xmax(c.snap)
             and l.type = any(c.types))
  or exists (select 1 from bus.log l where l.part = c.part and l.xid = any(array(select pg_snapshot_xip(c.snap)))
             and l.type = any(c.types))
  or exists (select 1 from bus.held h where h.consumer = c.consumer and h.part = c.part and h.parked is null
             and h.due <= clock_timestamp()))
"""  # noqa: S608 - a number of ours

LAGS = """
select c.consumer, sum((
  select count(*) from bus.log l where l.part = c.part and l.type = any(c.types)
  and (l.xid >= pg_snapshot_xmax(c.snap) or l.xid = any(array(select pg_snapshot_xip(c.snap))))
) + (select count(*) from bus.held h where h.consumer = c.consumer and h.part = c.part)) as lag
from bus.pos c where c.consumer = any($1::text[]) group by c.consumer
"""

FLOOR = "select min(pg_snapshot_xmin(snap)::text::bigint) from bus.pos"
TRIM_LOG = """
delete from bus.log l where (part, xid, seq) in (
  select part, xid, seq from bus.log o where o.part = $1 and o.xid < $2::text::xid8
  and o.at < clock_timestamp() - $3::interval
  and not exists (select 1 from bus.held h where h.part = o.part and h.xid = o.xid and h.seq = o.seq)
  order by o.xid, o.seq limit $4)
"""
OLDEST = """
select min(at) from generate_series(0, $1::integer - 1) p cross join lateral
(select at from bus.log where part = p order by xid, seq limit 1) first
"""
TRIM_INBOX = """
delete from bus.inbox where at < clock_timestamp() - $1::interval - interval '1 hour'
and at < coalesce($2::timestamptz - interval '1 hour', clock_timestamp())
"""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A reader's place in one partition, and the page after it."""

    consumer: str
    part: int
    snap: str
    upto: str | None
    after_xid: str
    after_seq: int


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of the log (COLUMNS and `xid` as text) in order, and where the reader stands once they are handled."""

    rows: Sequence[Any]
    then: Cursor
    moved: bool


async def enrol(connection: asyncpg.Pool, consumer: str, types: Sequence[str], partitions: int) -> None:
    """Makes a reader's cursors. A new reader begins with the oldest event kept; new types of an old one begin now."""
    await connection.execute(
        "insert into bus.pos (consumer, part, types) select $1, p, $2 from generate_series(0, $3::integer - 1) p "
        "on conflict (consumer, part) do update set types = excluded.types where pos.types <> excluded.types",
        consumer,
        sorted(types),
        partitions,
    )


async def lock(connection: Connection, consumer: str, part: int) -> Cursor | None:
    """The cursor, locked until the transaction ends; None while another process works on it."""
    row = await connection.fetchrow(LOCK, consumer, part)
    if row is None:
        return None
    return Cursor(
        consumer,
        part,
        row["snap"],
        row["upto"],
        row["after_xid"] or "0",
        -1 if row["after_seq"] is None else row["after_seq"],
    )


async def page(connection: Connection, cursor: Cursor, types: Sequence[str], head_table: str | None = None) -> Page:
    """The next events of `types`; with `head_table`, only those that have not started a stream there yet."""
    absent = f" and not exists (select 1 from {head_table} h where h.tenant = l.tenant and h.id = l.id)"  # noqa: S608
    found = await connection.fetch(
        _next(absent if head_table else ""),
        cursor.part,
        cursor.snap,
        list(types),
        cursor.upto,
        cursor.after_xid,
        cursor.after_seq,
        PAGE,
    )
    now, rows = found[0]["now"], [row for row in found if row["id"] is not None]
    upto = cursor.upto or now
    if len(rows) == PAGE:
        then = Cursor(cursor.consumer, cursor.part, cursor.snap, upto, rows[-1]["xid"], rows[-1]["seq"])
    else:
        then = Cursor(cursor.consumer, cursor.part, upto, None, "0", -1)
    stale = _xmax(now) - _xmax(cursor.snap) > STALE
    return Page(rows, then, bool(rows) or stale or cursor.upto is not None)


async def advance(connection: Connection, cursor: Cursor) -> None:
    """Stores the cursor; the reader will not see what is before it again."""
    after = (cursor.after_xid, cursor.after_seq) if cursor.upto else (None, None)
    await connection.execute(ADVANCE, cursor.consumer, cursor.part, cursor.snap, cursor.upto, *after)


async def trim(pool: asyncpg.Pool, partitions: int, retention: timedelta, most: int = 5000) -> int:
    """Deletes events that every reader is past, nothing holds and that are older than `retention`; how many."""
    floor = await pool.fetchval(FLOOR)
    if floor is None:
        return 0
    deleted = 0
    for part in range(partitions):
        deleted += int((await pool.execute(TRIM_LOG, part, str(floor), retention, most)).split()[-1])
    oldest = await pool.fetchval(OLDEST, partitions)
    await pool.execute(TRIM_INBOX, retention, oldest)
    return deleted


def _xmax(snapshot: str) -> int:
    return int(snapshot.split(":")[1])
