"""Rows of gates. A ticket is written and removed only by its run's commits, a verdict is given only by the gate's.

So a place is taken exactly while there is a ticket with a verdict that let its run in: it comes free in the commit that
ends the run, and no count can differ from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

import msgspec
from sqlalchemy import BigInteger, Column, SmallInteger, Table, Text, Uuid

from subgraphs.execution.limits.gate import Gate, Memo, Ticket, Word, arrive, note
from subgraphs.execution.limits.terms import terms_of
from subgraphs.execution.storage import metadata
from subgraphs.platform import writer

ticket = Table(
    "ticket",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("run", Uuid, primary_key=True),
    Column("gate", Uuid, primary_key=True),
    Column("part", SmallInteger, nullable=False),
    Column("run_part", SmallInteger, nullable=False),
    Column("workflow", Uuid),
    Column("name", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("turn", Text, nullable=False),
    Column("terms", Text, nullable=False),
)
verdict = Table(
    "verdict",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("run", Uuid, primary_key=True),
    Column("gate", Uuid, primary_key=True),
    Column("part", SmallInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("until", BigInteger),
    Column("word", SmallInteger, nullable=False),
)

GATE = writer.Table(
    "execution.gate",
    (
        ("tenant", "uuid"),
        ("id", "uuid"),
        ("part", "smallint"),
        ("version", "integer"),
        ("epoch", "bigint"),
        ("memo", "text"),
    ),
    "head",
    ("tenant", "id"),
)
TICKET = writer.Table(
    "execution.ticket",
    (
        ("tenant", "uuid"),
        ("run", "uuid"),
        ("gate", "uuid"),
        ("part", "smallint"),
        ("run_part", "smallint"),
        ("workflow", "uuid"),
        ("name", "text"),
        ("key", "text"),
        ("at", "bigint"),
        ("priority", "smallint"),
        ("turn", "text"),
        ("terms", "text"),
    ),
    "insert",
    ("tenant", "run", "gate"),
)
VERDICT = writer.Table(
    "execution.verdict",
    (
        ("tenant", "uuid"),
        ("run", "uuid"),
        ("gate", "uuid"),
        ("part", "smallint"),
        ("at", "bigint"),
        ("until", "bigint"),
        ("word", "smallint"),
    ),
    "upsert",
    ("tenant", "run", "gate"),
)
WRITTEN = (GATE, TICKET, VERDICT)
WORDS: tuple[Word, ...] = ("admitted", "refused", "stopped")
"""What a verdict says, as numbers."""

Row = Mapping[str, Any]
Place = tuple[UUID, UUID]
"""A gate: tenant and id."""

ASKED = "unnest($1::uuid[], $2::uuid[]) q(tenant, gate)"
TICKETS = f"""
select t.*, v.at as told_at, v.word from {ASKED} join execution.ticket t on t.tenant = q.tenant and t.gate = q.gate
left join execution.verdict v on v.tenant = t.tenant and v.run = t.run and v.gate = t.gate order by t.at, t.run
"""  # noqa: S608
STARTS = f"""
select v.gate, v.run, v.at from {ASKED} join execution.verdict v on v.tenant = q.tenant and v.gate = q.gate
where v.until > $3 and v.word = 0
"""  # noqa: S608
GATES = f"select g.* from {ASKED} join execution.gate g on g.tenant = q.tenant and g.id = q.gate"  # noqa: S608
STANDING = "select tenant, run, gate from execution.ticket where part = any($1::smallint[])"
DEAD = """
delete from execution.ticket t using execution.run r where t.part = any($1::smallint[])
and r.tenant = t.tenant and r.id = t.run and r.status >= 4
"""
OVER = """
delete from execution.verdict v where v.part = any($1::smallint[]) and (v.until <= $2 or v.until is null
and not exists (select 1 from execution.ticket t where t.tenant = v.tenant and t.run = v.run and t.gate = v.gate))
"""
EMPTY = """
delete from execution.gate g where g.part = any($1::smallint[]) and g.id <> all($2::uuid[])
and not exists (select 1 from execution.ticket t where t.tenant = g.tenant and t.gate = g.id)
and not exists (select 1 from execution.verdict v where v.tenant = g.tenant and v.gate = g.id)
"""
EXCEEDED = """
select v.tenant, v.gate, v.part, min(t.name) as name, min(t.key) as key, count(*) as held,
  max(coalesce((t.terms::jsonb ->> 'limit')::integer, 1)) as allowed
from execution.verdict v join execution.ticket t on t.tenant = v.tenant and t.run = v.run and t.gate = v.gate
where v.part = any($1::smallint[]) and v.word <> 1 and t.terms::jsonb ->> 'kind' = 'concurrency'
group by v.tenant, v.gate, v.part
having count(*) > max(coalesce((t.terms::jsonb ->> 'limit')::integer, 1)) limit $2
"""
LEAKED = """
select t.tenant, t.run as id, t.part from execution.ticket t
join execution.run r on r.tenant = t.tenant and r.id = t.run
where t.part = any($1::smallint[]) and r.status >= 4 limit $2
"""
PAUSED_TOPIC = "execution.paused"
PAUSED = "select tenant, workflow from execution.paused"


@dataclass(slots=True)
class Read:
    """A gate as the database has it, and the workflow whose runs pass it."""

    gate: Gate
    version: int
    workflow: UUID | None


class Shelf(Protocol):
    """What keepers read, and the removal of rows that count for nothing any more."""

    async def gates(self, places: Sequence[Place], at: int) -> dict[UUID, Read]:
        """These gates as they stand."""

    async def standing(self, parts: Sequence[int]) -> Sequence[tuple[UUID, UUID, UUID]]:
        """(tenant, run, gate) of all tickets of gates of these partitions."""

    async def tidy(self, parts: Sequence[int], at: int, kept: Iterable[UUID]) -> None:
        """Removes tickets of runs that have ended, verdicts about nobody, gates (none of `kept`) at which nobody is."""

    async def paused(self) -> frozenset[Place]:
        """(tenant, workflow) of everything paused; the nil UUID stands for all workflows."""


class Rows(Protocol):
    async def fetch(self, query: str, *args: Any) -> Sequence[Row]: ...


class PostgresShelf:
    """On PostgreSQL, as the role that works across tenants."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    async def gates(self, places: Sequence[Place], at: int) -> dict[UUID, Read]:
        keys = [tenant for tenant, _ in places], [gate for _, gate in places]
        heads = {row["id"]: row for row in await self.rows.fetch(GATES, *keys)}
        found = {gate: _empty(gate, heads.get(gate)) for _, gate in places}
        for row in await self.rows.fetch(TICKETS, *keys):
            read, stands = found[row["gate"]], _ticket(row)
            read.workflow = row["workflow"]
            if row["word"] is None:
                arrive(read.gate, stands)
            else:
                note(read.gate, row["run"], stands, row["told_at"], WORDS[row["word"]])
        for row in await self.rows.fetch(STARTS, *keys, at):
            found[row["gate"]].gate.starts[row["run"]] = row["at"]
        for read in found.values():
            if not read.gate.waiting:
                read.gate.memo.since = None
        return found

    async def standing(self, parts: Sequence[int]) -> Sequence[tuple[UUID, UUID, UUID]]:
        rows = await self.rows.fetch(STANDING, parts)
        return [(row["tenant"], row["run"], row["gate"]) for row in rows]

    async def tidy(self, parts: Sequence[int], at: int, kept: Iterable[UUID]) -> None:
        await self.rows.fetch(DEAD, parts)
        await self.rows.fetch(OVER, parts, at)
        await self.rows.fetch(EMPTY, parts, list(kept))

    async def paused(self) -> frozenset[Place]:
        return frozenset((row["tenant"], row["workflow"]) for row in await self.rows.fetch(PAUSED))


def _empty(gate: UUID, head: Row | None) -> Read:
    if head is None:
        return Read(Gate(gate), 0, None)
    return Read(Gate(gate, memo=msgspec.json.decode(head["memo"], type=Memo)), head["version"], None)


def _ticket(row: Row) -> Ticket:
    terms = terms_of(row["terms"].encode())
    return Ticket(row["run"], row["at"], row["run_part"], terms, row["priority"], row["turn"])
