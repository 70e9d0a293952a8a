"""The laws of the data layer run over a schema of their own, in one database a module."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from subgraphs.platform.migrate import migrate
from subgraphs.platform.postgres import Postgres
from subgraphs.platform.settings import Settings
from tests.laws.adapters import Adapter, simulated
from tests.laws.ground import Process, make, make_tables, process_on, running


@pytest.fixture(scope="module")
async def law_settings(cluster: Postgres, scratch: Path) -> Settings:
    """A database with the bus alone and the laws' own tables; workers are replaced after a second of silence."""
    name = f"law_{uuid4().hex[:12]}"
    admin = await asyncpg.connect(cluster.dsn("postgres"))
    try:
        await admin.execute(f"create database {name} template template0")
    finally:
        await admin.close()
    environment = {"LINKFLOW_HOME": str(scratch / name), "LINKFLOW_DATABASE_URL": cluster.dsn(name)}
    settings = Settings.load({**environment, "LINKFLOW_LEASE_SECONDS": "1"})
    settings.prepare()
    await migrate(settings, ["bus"])
    await make_tables(settings)
    return settings


@pytest.fixture(params=["postgres", "simulated"])
def adapter(request: pytest.FixtureRequest, law_settings: Settings) -> Adapter:
    """Both databases, one after the other: a law that takes this holds on both."""
    return simulated() if request.param == "simulated" else Adapter("postgres", partial(make, law_settings))


@pytest.fixture
async def either(adapter: Adapter) -> AsyncIterator[Process]:
    """An opened process that owns every partition, on both databases."""
    async with running(adapter.make()) as opened:
        yield opened


@pytest.fixture
async def process(law_settings: Settings) -> AsyncIterator[Process]:
    """An opened process that owns every partition."""
    async with process_on(law_settings) as opened:
        yield opened
