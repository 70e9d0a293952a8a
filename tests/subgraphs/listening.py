"""Subgraphs on a real loopback port, for clients that are programs of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import uvicorn

from subgraphs.platform.server import Build, application, ground_opened
from subgraphs.platform.settings import Settings
from tests.subgraphs.graph_client import Client


@asynccontextmanager
async def listening(settings: Settings, builds: Sequence[Build]) -> AsyncIterator[Client]:
    """Serves on `settings.serve_port`; the client speaks to it over sockets."""
    async with ground_opened(settings, builds) as ground:
        server = uvicorn.Server(
            uvicorn.Config(
                application(ground, ground.subgraphs),
                host="127.0.0.1",
                port=settings.serve_port,
                http="httptools",
                ws="websockets-sansio",
                log_config=None,
                access_log=False,
                ws_max_size=settings.max_graphql_bytes,
                lifespan="off",
                timeout_graceful_shutdown=1,
            )
        )
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.serve_port}", timeout=30) as http:
            yield Client(ground, http)
        server.should_exit = True
        await serving
