"""How long runs are kept: first their payload goes, later the runs themselves.

A rule is for one workflow or all, and for one way to end or any; of several the most particular one holds, a workflow
before an outcome. Without a rule everything is kept. Each worker applies the rules to the runs of its own partitions,
oldest first, a few at a time and in one transaction, so that nobody waits for it and a crash leaves nothing half done.

Stripping keeps every event, status, time and error, and the count and origin of every item; in the place of an item's
data stands REMOVED. It cannot be undone: objects the run held are released and its snapshots deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import Column, DateTime, Integer, SmallInteger, Table, Uuid, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from subgraphs.engine.run import Event, decode, encode_one
from subgraphs.execution.domain import CODES
from subgraphs.execution.runner.loading import Loading
from subgraphs.execution.storage import metadata
from subgraphs.platform.database import Database
from subgraphs.platform.domain import Invalid
from subgraphs.platform.leases import Leases
from subgraphs.platform.objects import RELEASE

log = structlog.get_logger("linkflow.execution")

EVERY = 600.0  # seconds between rounds in which nothing was due
BATCH = 50
SHORTEST = 8
"""Days a run is kept at least: the event that began it is kept for 7, and would begin it anew."""
LONGEST = 36_500
REMOVED = {"$removed": True}
ALL = UUID(int=0)

OF_A_RUN = (
    "journal", "snapshot", "run_key", "timer", "inbox", "wait", "answered", "delegation", "ticket", "verdict",
    "stripped", "finding",
)  # fmt: skip
"""Every table whose rows belong to one run (column `run`)."""

_NAMED = """
with named as (
  select r.tenant, r.id, r.finished_at, rule.* from execution.run r, lateral (
    select x.payload_days, x.keep_days from execution.retention x where x.tenant = r.tenant
    and (x.workflow = r.workflow or x.workflow = '00000000-0000-0000-0000-000000000000') and x.outcome in (r.status, 0)
    order by x.workflow <> '00000000-0000-0000-0000-000000000000' desc, x.outcome <> 0 desc limit 1) rule
  where r.tenant = $1 and r.part = any($2::smallint[]) and r.status >= 4 and r.id < $3)
select n.id from named n where n.finished_at < clock_timestamp() - make_interval(days => """
TENANTS = """
select tenant, min(least(payload_days, keep_days)) as days from execution.retention
where payload_days is not null or keep_days is not null group by tenant
"""
EXPIRED = _NAMED + "n.keep_days) order by n.id limit $4"
HEAVY = (
    _NAMED
    + "n.payload_days) and not exists (select from execution.stripped s where s.tenant = n.tenant and s.run = n.id) "
    "order by n.id limit $4"
)
CHUNKS = "select version, data from execution.journal where tenant = $1 and run = $2 order by version"
LIGHTEN = "update execution.journal set data = $4 where tenant = $1 and run = $2 and version = $3"
MARK = "insert into execution.stripped (tenant, run) values ($1, $2) on conflict do nothing"

rules = Table(
    "retention",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("workflow", Uuid, primary_key=True),
    Column("outcome", SmallInteger, primary_key=True),
    Column("payload_days", Integer),
    Column("keep_days", Integer),
    Column("by", Uuid),
    Column("at", DateTime(timezone=True)),
)


@dataclass(frozen=True, slots=True)
class Rule:
    """What is kept how long, in days after the end; None: as long as there is no other rule, for ever. `workflow` and
    `outcome` None: all of them."""

    workflow: UUID | None
    outcome: str | None
    payload_days: int | None
    keep_days: int | None
    by: UUID | None = None
    at: datetime | None = None


def checked(rule: Rule) -> Rule:
    """The rule, if it makes sense; raises Invalid."""
    if rule.outcome is not None and CODES[rule.outcome] < CODES["succeeded"]:
        raise Invalid(
            "A run that is open has no outcome.",
            code="outcome_open",
            field="outcome",
            next_step="Name an outcome that ends a run, such as SUCCEEDED.",
        )
    for name, days, least in (("payloadDays", rule.payload_days, 1), ("keepDays", rule.keep_days, SHORTEST)):
        if days is not None and not least <= days <= LONGEST:
            raise Invalid(
                f"{name} is {least} to {LONGEST} days.",
                code="days_out_of_range",
                field=name,
                next_step="Choose a number of days in this range.",
            )
    return rule


async def put(database: Database, tenant: UUID, rule: Rule) -> None:
    """Sets a rule, in the place of one for the same workflow and outcome; without days there is none afterwards."""
    place = {"workflow": rule.workflow or ALL, "outcome": CODES[rule.outcome] if rule.outcome is not None else 0}
    words = {
        "payload_days": rule.payload_days,
        "keep_days": rule.keep_days,
        "by": rule.by,
        "at": func.clock_timestamp(),
    }
    async with database.write(tenant) as transaction:
        if rule.payload_days is None and rule.keep_days is None:
            mine = transaction.tenant_filter(rules.c.tenant)
            at = (rules.c.workflow == place["workflow"], rules.c.outcome == place["outcome"])
            await transaction.execute(delete(rules).where(mine, *at))
            return
        made = insert(rules).values(tenant=tenant, **place, **words)
        await transaction.execute(
            made.on_conflict_do_update(index_elements=["tenant", "workflow", "outcome"], set_=words)
        )


async def listed(database: Database, tenant: UUID) -> list[Rule]:
    """The rules of a tenant, general ones first."""
    outcomes = {code: status for status, code in CODES.items()}
    async with database.read(tenant) as reading:
        query = select(rules).where(reading.tenant_filter(rules.c.tenant))
        rows = await reading.rows(query.order_by(rules.c.workflow, rules.c.outcome))
    return [
        Rule(
            row["workflow"] if row["workflow"] != ALL else None,
            outcomes[row["outcome"]] if row["outcome"] else None,
            row["payload_days"],
            row["keep_days"],
            row["by"],
            row["at"],
        )
        for row in rows
    ]


def stripped(event: Event) -> Event:
    """The event without data: items, bodies, console lines and messages are gone, what it says of the run stays."""
    said = msgspec.to_builtins(event)
    return decode(b"[" + msgspec.json.encode(_without(said)) + b"]")[0]


def _without(said: dict[str, Any]) -> dict[str, Any]:
    found = dict(said)
    for name, value in said.items():
        if name in ("outputs", "collected") and value is not None:
            found[name] = {port: [_made(entry) for entry in items] for port, items in value.items()}
        elif name == "items" and value is not None:
            found[name] = [_made(entry) for entry in value] or ([[REMOVED]] if said.get("stored") else [])
        elif name in ("given", "record"):
            found[name] = {key: {port: [_made(each) for each in items] for port, items in ports.items()}
                           for key, ports in value.items()}  # fmt: skip
        elif name in ("lines", "stored", "data", "detail"):
            del found[name]
        elif name == "reply":
            found[name] = {"status": value.get("status", 200), "body": REMOVED}
        elif name == "error" and value is not None:
            found[name] = {key: each for key, each in value.items() if key != "detail"}
        elif name == "state":
            found[name] = _deep(value)
    return found


def _made(entry: Any) -> Any:
    return [REMOVED, *entry[1:2]] if isinstance(entry, list) else entry


def _deep(value: Any) -> Any:
    """The state a fork began with: everything in it that is an item."""
    if isinstance(value, dict):
        if isinstance(value.get("json"), dict):
            return {**value, "json": REMOVED, "files": {}}
        return {name: REMOVED if name == "body" else _deep(each) for name, each in value.items()}
    return [_deep(each) for each in value] if isinstance(value, list) else value


class Retention:
    """Applies the rules, to the runs of the partitions this process owns."""

    def __init__(self, database: Database, leases: Leases, loading: Callable[[], Loading]) -> None:
        self.database, self.leases, self.loading = database, leases, loading
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._loop())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _loop(self) -> None:
        while True:
            try:
                done = await self.apply()
            except Exception:  # a tick's boundary: the next round finds the same
                log.exception("retention_failed")
                done = 0
            await asyncio.sleep(1.0 if done else EVERY)

    async def apply(self) -> int:
        """One batch of each kind for each tenant that has rules; how many runs it was."""
        parts, done = sorted(self.leases.owned), 0
        for row in await self.database.engine.fetch(TENANTS) if parts else ():
            tenant, before = row["tenant"], await self._bound(row["days"])
            expired = await self.database.engine.fetch(EXPIRED, tenant, parts, before, BATCH)
            done += await self.remove(tenant, [each["id"] for each in expired])
            for each in await self.database.engine.fetch(HEAVY, tenant, parts, before, BATCH):
                await self.strip(tenant, each["id"])
                done += 1
        return done

    async def _bound(self, days: int) -> UUID:
        """Above the id of every run that is so old."""
        milliseconds = await self.database.engine.fetchval(
            "select floor(extract(epoch from clock_timestamp() - make_interval(days => $1)) * 1000)::bigint", days
        )
        return UUID(int=(max(0, milliseconds) + 1 & 0xFFFF_FFFF_FFFF) << 80)

    async def remove(self, tenant: UUID, ids: Sequence[UUID]) -> int:
        """Deletes runs that have ended, with everything of theirs; how many."""
        if not ids:
            return 0
        async with self.database.engine.acquire() as connection, connection.transaction():
            gone = await connection.fetch(
                "delete from execution.run where tenant = $1 and id = any($2::uuid[]) and status >= 4 returning id",
                tenant,
                list(ids),
            )
            runs = [row["id"] for row in gone]
            for table in OF_A_RUN:
                query = f"delete from execution.{table} where tenant = $1 and run = any($2::uuid[])"  # noqa: S608
                await connection.execute(query, tenant, runs)
            await connection.execute(RELEASE, tenant, runs)
        return len(runs)

    async def strip(self, tenant: UUID, id: UUID) -> None:
        """Takes the payload out of a run that has ended."""
        loading = self.loading()
        async with self.database.engine.acquire() as connection, connection.transaction():
            for row in await connection.fetch(CHUNKS, tenant, id):
                events = decode(await loading.chunk(tenant, bytes(row["data"])))
                light = b"[%b]" % b",".join(encode_one(stripped(event)) for event in events)
                await connection.execute(LIGHTEN, tenant, id, row["version"], light)
            await connection.execute("delete from execution.snapshot where tenant = $1 and run = $2", tenant, id)
            await connection.execute(MARK, tenant, id)
            await connection.execute(RELEASE, tenant, [id])
