"""A PostgreSQL server of a test's own, to be stopped at will, with a proxy before it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from subgraphs.platform.migrate import migrate
from subgraphs.platform.postgres import PORT, Postgres
from subgraphs.platform.settings import Settings
from tests.conftest import make_settings
from tests.crashes.proxy import Proxy, proxying


@dataclass
class Server:
    """The server, and the proxy through which the product reaches it."""

    postgres: Postgres
    proxy: Proxy
    direct: str

    @property
    def url(self) -> str:
        return f"postgresql://lf_admin@127.0.0.1:{self.proxy.port}/postgres"

    async def stop_at_once(self) -> None:
        """As `pg_ctl stop -m immediate`: no farewell, recovery at the next start."""
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        assert self.postgres.process is not None
        self.postgres.process.send_signal(signal.SIGQUIT)
        self.postgres.process.wait(20)
        self.postgres.stop()

    async def start(self) -> None:
        await asyncio.to_thread(self.postgres.start)


@asynccontextmanager
async def server_running(scratch: Path, folder: Path | None = None) -> AsyncIterator[Server]:
    postgres = Postgres(folder or scratch / f"own-{uuid4().hex[:6]}" / "postgres", durable=False)
    await asyncio.to_thread(postgres.start)
    try:
        async with proxying(str(postgres.place.socket / f".s.PGSQL.{PORT}")) as proxy:
            yield Server(postgres, proxy, postgres.dsn("postgres"))
    finally:
        await asyncio.to_thread(postgres.stop)


async def settings_on(server: Server, scratch: Path) -> Settings:
    settings = make_settings(scratch / f"own-{uuid4().hex[:6]}", server.url, lease_seconds=1)
    await migrate(settings)
    return settings
