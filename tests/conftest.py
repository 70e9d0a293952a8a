"""One database server for the whole run, a migrated database of its own for each test module."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import hypothesis
import pytest

from subgraphs.platform.migrate import migrate
from subgraphs.platform.postgres import Postgres
from subgraphs.platform.settings import Settings

TEMPLATE = "linkflow_template"


def pytest_configure(config: pytest.Config) -> None:
    """Tests decide their settings: what the shell has set stays outside. No property test fails for being slow."""
    hypothesis.settings.register_profile("house", deadline=None)
    hypothesis.settings.load_profile("house")
    for name in [name for name in os.environ if name.startswith("LINKFLOW_")]:
        del os.environ[name]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A folder of the session whose path is short enough for sockets and open to the server's user."""
    folder = Path(tempfile.mkdtemp(prefix="lf-", dir="/tmp"))
    folder.chmod(0o711)  # else a server started by root is kept below /var/lib
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster(scratch: Path) -> Iterator[Postgres]:
    """A PostgreSQL server without fsync (throw-away data)."""
    server = Postgres(scratch / "postgres", durable=False, tuning={"max_connections": "200"})
    with (scratch / "postgres.log").open("ab") as log:
        server.start(log)
        yield server
        server.stop()


async def administer(cluster: Postgres, *statements: str) -> None:
    connection = await asyncpg.connect(cluster.dsn("postgres"))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def make_settings(home: Path, database_url: str, **changes: Any) -> Settings:
    """Settings of a fresh home on free ports."""
    ports = {"port": free_port(), "gateway_port": free_port(), "serve_port": free_port()}
    environment = {f"LINKFLOW_{name.upper()}": str(port) for name, port in ports.items()}
    environment |= {"LINKFLOW_HOME": str(home), "LINKFLOW_DATABASE_URL": database_url, "LINKFLOW_LOG_FORMAT": "json"}
    settings = dataclasses.replace(Settings.load(environment), **changes)
    settings.prepare()
    return settings


@pytest.fixture(scope="session")
def template(cluster: Postgres, scratch: Path) -> str:
    """A database that every migration has run on, to be copied."""

    async def make() -> None:
        await administer(cluster, f"create database {TEMPLATE} template template0")
        await migrate(make_settings(scratch / "template", cluster.dsn(TEMPLATE)))

    asyncio.run(make())
    return TEMPLATE


@pytest.fixture(scope="session")
def fresh_settings(cluster: Postgres, template: str, scratch: Path) -> Callable[..., Any]:
    """`await fresh_settings(**changes)`: settings with a home, ports and a migrated database of their own."""

    async def make(**changes: Any) -> Settings:
        name = f"t_{uuid4().hex[:12]}"
        await administer(cluster, f"create database {name} template {template}")
        return make_settings(scratch / name, cluster.dsn(name), **changes)

    return make


@pytest.fixture(scope="module")
def settings(fresh_settings: Callable[..., Any]) -> Settings:
    """Settings of this test module: its own home, ports and database."""
    made: Settings = asyncio.run(fresh_settings())
    return made


@pytest.fixture(scope="module")
async def ground(settings: Settings) -> AsyncIterator[Any]:
    """An opened Ground without subgraphs: database, writer, leases, bus, objects, keys."""
    from subgraphs.platform.server import ground_opened

    async with ground_opened(settings) as opened:
        yield opened
