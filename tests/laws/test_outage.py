"""The database goes away and comes back: callers hear the truth, and work goes on by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from subgraphs.platform import writer
from subgraphs.platform.migrate import migrate
from subgraphs.platform.postgres import Postgres
from subgraphs.platform.settings import Settings
from subgraphs.platform.writer import Ingress, OutcomeUnknown, Unavailable
from tests.laws.ground import CALL, STARTED, TENANT, Process, Starts, make, make_tables, process_on, running


@pytest.fixture
def server(scratch: Path) -> Iterator[Postgres]:
    """A server of this test's own, to be stopped at will."""
    own = Postgres(scratch / f"outage-{uuid4().hex[:6]}" / "postgres", durable=False)
    own.start()
    yield own
    own.stop()


async def settings_on(server: Postgres, scratch: Path) -> Settings:
    home = {"LINKFLOW_HOME": str(scratch / f"outage-{uuid4().hex[:6]}"), "LINKFLOW_LEASE_SECONDS": "1"}
    settings = Settings.load({**home, "LINKFLOW_DATABASE_URL": server.dsn("postgres")})
    settings.prepare()
    await migrate(settings, ["bus"])
    await make_tables(settings)
    return settings


async def store(process: Process) -> UUID:
    event = process.event(STARTED, TENANT)
    await process.writer.commit(Ingress(rows=[(CALL.name, (TENANT, event.id, "x"))], events=[event]))
    return event.id


async def store_at_last(process: Process) -> UUID:
    while True:
        try:
            return await store(process)
        except Unavailable:
            await asyncio.sleep(0.05)


@pytest.mark.shows("WH-04")
async def test_a_restart_of_the_database_loses_and_doubles_nothing(
    server: Postgres, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PATIENCE", 0.3)
    process, starts = make(await settings_on(server, scratch)), Starts()
    process.bus.prepare(starts)
    async with running(process):
        stored, unknown = {await store(process)}, 0
        stopping = asyncio.create_task(asyncio.to_thread(server.stop))
        while not stopping.done():
            try:
                stored.add(await store(process))
            except OutcomeUnknown:
                unknown += 1
            except Unavailable:
                break
        await stopping
        with pytest.raises((Unavailable, OutcomeUnknown)):
            await store(process)
        await asyncio.to_thread(server.start)
        stored.add(await store_at_last(process))
        while len(process.leases.owned) < 16:
            await asyncio.sleep(0.05)
        last = await store(process)
        assert starts.settled_as[last] == [True]
        engine = process.database.engine
        found = await engine.fetch("select id, count(*) as n from bus.log group by id")
        assert {row["n"] for row in found} == {1}
        assert stored | {last} <= {row["id"] for row in found}
        assert len(found) - len(stored) - 1 <= unknown

        async def begun() -> int:
            return int(await engine.fetchval("select count(*) from law.run"))

        while await begun() < len(found):
            await asyncio.sleep(0.05)


async def test_a_deaf_process_hears_again(law_settings: Settings) -> None:
    """The connection on which others are heard is cut: within a sweep it is made anew."""
    async with process_on(law_settings) as one, process_on(law_settings) as two:
        heard = asyncio.Event()
        two.bus.listen(["law.thing.heard.v1"], lambda event: heard.set())
        admin = await asyncpg.connect(law_settings.dsn("lf_admin"))
        await admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name = 'linkflow ear' and datname = current_database()"
        )
        await admin.close()
        while not heard.is_set():
            await one.bus.publish(one.event("law.thing.heard.v1", TENANT))
            await asyncio.sleep(0.05)
