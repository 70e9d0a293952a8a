"""A process that is killed while calls come in has lost none that it said yes to."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from subgraphs.webhook.domain import Endpoint
from tests.conftest import free_port
from tests.subgraphs.webhook.conftest import Hooks

SERVE = Path(__file__).with_name("serve.py")


@asynccontextmanager
async def serving(hooks: Hooks, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A second process on the same database; killed at the end, if not before."""
    settings = hooks.ground.settings
    environment = os.environ | {
        "LINKFLOW_HOME": str(settings.home),
        "LINKFLOW_DATABASE_URL": str(settings.database_url),
        "LINKFLOW_SERVE_PORT": str(port),
    }
    process = await asyncio.create_subprocess_exec(sys.executable, str(SERVE), env=environment)
    try:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.returncode is None
            await asyncio.sleep(0.05)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def call_until_killed(port: int, endpoint: Endpoint, killed: asyncio.Event, told: list[UUID]) -> None:
    """Calls one after the other, and notes the runs it was told of."""
    async with httpx.AsyncClient(timeout=5) as http:
        while not killed.is_set():
            try:
                answer = await http.post(f"http://127.0.0.1:{port}/webhook/hooks/{endpoint.token}", json={})
            except httpx.TransportError:
                continue
            if answer.status_code == 200:
                told.append(UUID(answer.json()["executionId"]))


@pytest.mark.shows("WH-04")
@pytest.mark.timeout(60)
async def test_calls_that_were_answered_survive_a_kill(hooks: Hooks) -> None:
    endpoint = await hooks.one()
    told: list[UUID] = []
    for many in (5, 20, 60):
        port, killed = free_port(), asyncio.Event()
        async with serving(hooks, port) as process:
            calling = [asyncio.create_task(call_until_killed(port, endpoint, killed, told)) for _ in range(6)]
            goal = len(told) + many
            while len(told) < goal:
                await asyncio.sleep(0)
            process.kill()
            await process.wait()
            killed.set()
            await asyncio.gather(*calling)
    rows = await hooks.calls(endpoint)
    assert told
    assert set(told) <= {row["id"] for row in rows}
    logged = await hooks.ground.database.engine.fetch(
        "select id, count(*) as n from bus.log where type = 'webhook.call.received.v1' and id = any($1) group by id",
        [row["id"] for row in rows],
    )
    assert {row["id"]: row["n"] for row in logged} == {row["id"]: 1 for row in rows}, "call and event: both or neither"
