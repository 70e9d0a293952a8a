"""A small ground for the laws: the data layer of one process over three tables of a schema made for the tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from subgraphs.platform.bus import Bus
from subgraphs.platform.database import Database, tenant_table
from subgraphs.platform.domain import Event, uuid7
from subgraphs.platform.leases import Lease, Leases
from subgraphs.platform.settings import Settings
from subgraphs.platform.writer import Table, Unit, Writer

SCHEMA = """
create schema law;
grant usage on schema law to lf_api, lf_engine, lf_ingress;
create table law.run (tenant uuid, id uuid, part smallint not null, version bigint not null, epoch bigint not null,
                      state text not null, small smallint, primary key (tenant, id));
create table law.journal (tenant uuid, run uuid, version bigint, word text, primary key (tenant, run, version));
create table law.call (tenant uuid, id uuid, body text, primary key (tenant, id));
create table law.seen (tenant uuid, key text, id uuid not null, until timestamptz not null, primary key (tenant, key));
create table law.effect (tenant uuid, consumer text, event uuid, nth bigserial, primary key (tenant, consumer, nth))
"""
RUN = Table(
    "law.run",
    (
        ("tenant", "uuid"),
        ("id", "uuid"),
        ("part", "smallint"),
        ("version", "bigint"),
        ("epoch", "bigint"),
        ("state", "text"),
        ("small", "smallint"),
    ),
    "head",
    ("tenant", "id"),
)
JOURNAL = Table(
    "law.journal",
    (("tenant", "uuid"), ("run", "uuid"), ("version", "bigint"), ("word", "text")),
    "insert",
    ("tenant", "run", "version"),
)
CALL = Table("law.call", (("tenant", "uuid"), ("id", "uuid"), ("body", "text")), "ingress", ("tenant", "id"))
SEEN = Table(
    "law.seen",
    (("tenant", "uuid"), ("key", "text"), ("id", "uuid"), ("until", "timestamptz")),
    "claim",
    ("tenant", "key"),
)
STARTED = "law.run.requested.v1"


async def make_tables(settings: Settings) -> None:
    connection = await asyncpg.connect(settings.dsn("lf_admin"))
    try:
        await connection.execute(SCHEMA)
        for table, words in {
            "run": {"engine": True, "flush": ("head",)},
            "journal": {"engine": True, "flush": ("insert",)},
            "call": {"engine": True, "flush": ("ingress",)},
            "seen": {"flush": ("claim",)},
            "effect": {"engine": True},
        }.items():
            for statement in tenant_table("law", table, **words):  # type: ignore[arg-type]
                await connection.execute(statement)
        await connection.execute("grant usage on sequence law.effect_nth_seq to lf_api")
    finally:
        await connection.close()


@dataclass
class Process:
    """What one process holds; several may live in one interpreter, each with its own connections."""

    settings: Settings
    database: Database
    writer: Writer
    leases: Leases
    bus: Bus
    lost: list[int] = field(default_factory=list)

    async def words(self, run: UUID) -> list[str]:
        """The journal of a run."""
        rows = await self.database.engine.fetch("select word from law.journal where run = $1 order by version", run)
        return [row["word"] for row in rows]

    async def state(self, run: UUID) -> str | None:
        found = await self.database.engine.fetchval("select state from law.run where id = $1", run)
        return None if found is None else str(found)

    async def calls(self, call: UUID) -> int:
        return int(await self.database.engine.fetchval("select count(*) from law.call where id = $1", call))

    async def logged(self, *subjects: UUID) -> int:
        """How many events of these subjects are in the log."""
        query, ids = "select count(*) from bus.log where subject = any($1)", [str(subject) for subject in subjects]
        return int(await self.database.engine.fetchval(query, ids))

    async def hand_over(self, part: int, owner: UUID | None, epochs: int = 0) -> None:
        """Changes the owner of a partition behind everybody's back."""
        query = "update bus.lease set owner = $2, epoch = epoch + $3 where part = $1"
        await self.database.engine.execute(query, part, owner, epochs)

    async def owners(self) -> dict[int, UUID | None]:
        return {row["part"]: row["owner"] for row in await self.database.engine.fetch("select * from bus.lease")}

    async def parked(self, event: UUID) -> bool:
        """Whether an event is among the dead letters."""
        query = "select 1 from bus.held where id = $1 and parked is not null"
        return bool(await self.database.engine.fetch(query, event))

    def unit(self, run: UUID, tenant: UUID, lease: Lease, expected: int, word: str, *, small: int = 0) -> Unit:
        version = expected + 1
        head = (tenant, run, lease.partition, version, lease.epoch, word, small)
        unit = Unit(tenant, run, lease.partition, lease.epoch, expected, version, RUN.name, head)
        unit.rows.append((JOURNAL.name, (tenant, run, version, word)))
        return unit

    def event(self, kind: str, tenant: UUID | None, subject: UUID | None = None, **data: Any) -> Event:
        subject = subject or uuid7()
        return Event(
            type=kind, subject=str(subject), data=data, tenant=tenant, partition=self.leases.partition_of(subject)
        )


class Starts:
    """A preparer that begins a law.run with each event, and counts how often it was asked."""

    name, types, head_table = "law.starts", frozenset({STARTED}), RUN.name

    def __init__(self) -> None:
        self.asked = 0
        self.settled_as: dict[UUID, list[bool]] = {}
        self.poison = False

    async def prepare(self, event: Event, lease: Lease) -> Unit | None:
        self.asked += 1
        assert event.tenant is not None
        head = (event.tenant, event.id, lease.partition, 1, lease.epoch, "begun", 99_999 if self.poison else 0)
        unit = Unit(event.tenant, event.id, lease.partition, lease.epoch, 0, 1, RUN.name, head)
        unit.rows.append((JOURNAL.name, (event.tenant, event.id, 1, "begun")))
        return unit

    def settled(self, event: Event, unit: Unit, committed: bool) -> None:
        self.settled_as.setdefault(event.id, []).append(committed)


def make(settings: Settings, *, works: bool = True) -> Process:
    database = Database(settings)
    writer = Writer(database, settings)
    for table in (RUN, JOURNAL, CALL, SEEN):
        writer.register(table)
    leases = Leases(database, writer, settings)
    process = Process(settings, database, writer, leases, Bus(database, writer, leases, settings))

    async def acquired(lease: Lease) -> None:
        return None

    if works:
        leases.watch(acquired, process.lost.append)
    return process


@asynccontextmanager
async def running(process: Process) -> AsyncIterator[Process]:
    await process.database.open()
    await process.writer.open()
    await process.leases.open()
    await process.bus.open()
    try:
        yield process
    finally:
        await process.bus.close()
        await process.leases.close()
        await process.writer.close()
        await process.database.close()


@asynccontextmanager
async def process_on(settings: Settings) -> AsyncIterator[Process]:
    async with running(make(settings)) as process:
        yield process


TENANT = uuid4()
OTHER = uuid4()


async def settled(condition: Callable[[], Awaitable[bool]]) -> None:
    """Waits until the condition holds; the test's own time limit is the bound."""
    while not await condition():
        await asyncio.sleep(0.02)
