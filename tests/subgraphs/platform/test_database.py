"""Two walls between tenants, and transactions that publish what they commit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import column, insert, select, table, text, update
from sqlalchemy.exc import DBAPIError

from subgraphs.platform.database import Database, tenant_table
from subgraphs.platform.settings import Settings

THING = table("thing", column("tenant"), column("id"), column("name"), schema="wall")
MINE, THEIRS = uuid4(), uuid4()


@pytest.fixture(scope="module")
async def walled(settings: Settings) -> Settings:
    admin = await asyncpg.connect(settings.dsn("lf_admin"))
    try:
        await admin.execute("create schema wall; grant usage on schema wall to lf_api, lf_engine, lf_ingress")
        await admin.execute("create table wall.thing (tenant uuid, id uuid, name text, primary key (tenant, id))")
        for statement in tenant_table("wall", "thing", flush=("ingress",)):
            await admin.execute(statement)
    finally:
        await admin.close()
    return settings


@pytest.fixture(params=[True, False], ids=["filter on", "filter off"])
async def database(walled: Settings, request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    from dataclasses import replace

    opened = Database(replace(walled, tenant_filter=request.param))
    await opened.open()
    yield opened
    await opened.close()


async def write(database: Database, tenant: UUID, name: str) -> UUID:
    id = uuid4()
    async with database.write(tenant) as transaction:
        await transaction.execute(insert(THING).values(tenant=tenant, id=id, name=name))
    return id


@pytest.mark.shows("TE-03")
async def test_another_tenants_rows_are_not_there(database: Database) -> None:
    """With the filter off, row-level security alone keeps them apart."""
    theirs = await write(database, THEIRS, "theirs")
    mine = await write(database, MINE, "mine")
    async with database.read(MINE) as reading:
        query = select(THING.c.id).where(reading.tenant_filter(THING.c.tenant))
        found = {row["id"] for row in await reading.rows(query)}
        assert mine in found
        assert theirs not in found
        assert await reading.row(select(THING).where(THING.c.id == theirs)) is None
    async with database.read(None) as reading:
        assert await reading.rows(select(THING)) == []
    async with database.write(MINE) as transaction:
        moved = await transaction.execute(update(THING).where(THING.c.id == theirs).values(name="taken"))
        assert moved.rowcount == 0
    async with database.read(THEIRS) as reading:
        assert await reading.scalar(select(THING.c.name).where(THING.c.id == theirs)) == "theirs"


async def test_a_row_cannot_be_given_to_another_tenant(database: Database) -> None:
    with pytest.raises(DBAPIError, match="row-level security"):
        async with database.write(MINE) as transaction:
            await transaction.execute(insert(THING).values(tenant=THEIRS, id=uuid4(), name="forged"))


async def test_a_pooled_connection_forgets_its_tenant(database: Database) -> None:
    await write(database, MINE, "mine")
    for _ in range(database.settings.database_pool + 1):
        async with database.read(None) as reading:
            assert await reading.rows(select(THING)) == []


async def test_a_reading_cannot_write(database: Database) -> None:
    with pytest.raises(DBAPIError, match="read-only"):
        async with database.read(MINE) as reading:
            await reading.execute(insert(THING).values(tenant=MINE, id=uuid4(), name="x"))


async def test_the_flush_role_writes_where_it_may_and_cannot_read(walled: Settings) -> None:
    flush = await asyncpg.connect(walled.dsn("lf_ingress"))
    try:
        await flush.execute("insert into wall.thing values ($1, $2, 'x') on conflict do nothing", MINE, uuid4())
        for statement in ("select * from wall.thing", "delete from wall.thing", "select * from bus.log"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await flush.execute(statement)
    finally:
        await flush.close()


@pytest.mark.parametrize("name", ["worker", "lease", "log", "pos", "held", "inbox"])
async def test_tables_without_a_tenant_are_closed_to_the_api(walled: Settings, name: str) -> None:
    api = await asyncpg.connect(walled.dsn("lf_api"))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await api.execute(f"select 1 from bus.{name}")
    finally:
        await api.close()


async def test_the_api_cannot_log_an_event_under_another_tenant(walled: Settings) -> None:
    database = Database(walled)
    await database.open()
    row = {"tenant": THEIRS, "id": uuid4()}
    try:
        with pytest.raises(DBAPIError, match="row-level security"):
            async with database.write(MINE) as transaction:
                await transaction.execute(
                    text(
                        "insert into bus.log (part, seq, id, tenant, type, subject, at, data) "
                        "values (0, 0, :id, :tenant, 'wall.thing.forged.v1', 'x', now(), '')"
                    ),
                    row,
                )
    finally:
        await database.close()


async def test_a_cancelled_read_leaves_no_tenant_behind(walled: Settings) -> None:
    """The one connection of the pool is cut off in the middle of a statement; who comes next is nobody's tenant."""
    import asyncio
    from dataclasses import replace

    database = Database(replace(walled, database_pool=1))
    await database.open()
    try:
        await write(database, MINE, "mine")
        started = asyncio.Event()

        async def slow() -> None:
            async with database.read(MINE) as reading:
                started.set()
                await reading.execute(text("select pg_sleep(30)"))

        task = asyncio.create_task(slow())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with database.read(None) as reading:
            assert await reading.rows(select(THING)) == []
            assert not await reading.scalar(text("select current_setting('app.tenant', true)"))
    finally:
        await database.close()
