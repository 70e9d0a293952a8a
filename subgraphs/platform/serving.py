"""The HTTP server around an application: uvicorn, told at once when the process is to end.

On SIGTERM or SIGINT the ground drains first (not ready, no new work, partitions handed back), then uvicorn lets the
requests under way end, and the lifespan closes everything.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn

from subgraphs.platform.server import Ground, Served
from subgraphs.platform.settings import Settings

GRACEFUL = 3
"""Seconds requests under way may take when the process is told to end."""


class Server(uvicorn.Server):
    """uvicorn's server, which tells the ground of a signal before it acts on it."""

    def __init__(self, config: uvicorn.Config, ground: Ground) -> None:
        super().__init__(config)
        self.ground = ground
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: Any = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.ground.drain)
        super().handle_exit(sig, frame)


def serve(ground: Ground, app: Served, settings: Settings, port: int) -> None:
    """Serves until a signal; port 0 takes any that is free."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACEFUL,
        ws_max_size=settings.max_graphql_bytes,
        lifespan="on",
    )
    server = Server(config, ground)
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        raise SystemExit(3)
