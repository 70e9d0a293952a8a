"""Three real processes share one limit and are killed without warning: it is never exceeded, and no place is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from subgraphs.engine.run import Admitted, Finished, decode
from subgraphs.platform.database import Database
from subgraphs.platform.domain import Event, uuid7
from tests.crashes.graphs import types
from tests.subgraphs.execution.limits.rig import Outside, Rig

LIMIT = 3
VERSION = "1.0.0"
RUNS = 150


def graph(port: int) -> dict[str, Any]:
    """Two calls one after the other, at most LIMIT runs at once."""

    def call(id: str) -> dict[str, Any]:
        parameters = {"method": "POST", "url": f"http://127.0.0.1:{port}/{id}", "response": "text"}
        return {
            "id": id,
            "type": "core.http",
            "version": VERSION,
            "parameters": parameters,
            "settings": {"onCrash": "retry"},
        }

    hook = {"id": "hook", "type": "core.webhook", "version": VERSION, "parameters": {}}
    edges = [("hook", "first"), ("first", "second")]
    return {
        "format": "linkflow/1",
        "nodes": [hook, call("first"), call("second")],
        "connections": [{"from": source, "output": "main", "to": to, "input": "main"} for source, to in edges],
        "settings": {"concurrency": {"limit": LIMIT}},
    }


@pytest.fixture
async def rig(fresh_settings: Callable[..., Any]) -> AsyncIterator[Rig]:
    settings = await fresh_settings(lease_seconds=1)
    outside = Outside(0.03)
    server = await asyncio.start_server(outside.serve, "127.0.0.1", 0)
    outside.port = server.sockets[0].getsockname()[1]
    async with server, httpx.AsyncClient() as client:
        found = Rig(settings, outside, client)
        try:
            for _ in range(3):
                await found.spawn()
            yield found
        finally:
            await found.close()
            for talk in list(outside.talks):
                talk.cancel()
            await asyncio.gather(*outside.talks, return_exceptions=True)


async def publish(rig: Rig) -> None:
    tenant, workflow = uuid7(), uuid7()
    data = {
        "workflowId": str(workflow),
        "name": "Limited",
        "release": 1,
        "definition": graph(rig.outside.port),
        "nodeTypes": types(),
    }
    database = Database(rig.settings)
    await database.open()
    async with database.write(tenant) as transaction:
        event = Event(
            type="workflow.release.published.v1", subject=str(workflow), tenant=tenant, partition=0, data=data
        )
        transaction.publish(event)
    await database.close()


async def overlaps(connection: asyncpg.Connection) -> tuple[int, int]:
    """(runs that ended, most runs at once) by the journals: from the admission to the end of each."""
    moments: list[tuple[int, int]] = []
    ended = 0
    for row in await connection.fetch("select run, data from execution.journal order by run, version"):
        for event in decode(bytes(row["data"])):
            if isinstance(event, Admitted):
                moments.append((event.at, 1))
            elif isinstance(event, Finished):
                moments.append((event.at, -1))
                ended += 1
    inside = most = 0
    for _, change in sorted(moments):
        inside += change
        most = max(most, inside)
    return ended, most


@pytest.mark.slow
@pytest.mark.shows("EX-14", "EX-17")
async def test_killed_keepers_and_holders_leak_no_place_and_exceed_no_limit(rig: Rig) -> None:
    chance = random.Random(20261125)
    connection = await asyncpg.connect(rig.settings.dsn("lf_admin"))
    await publish(rig)
    await rig.open_endpoint(connection)

    async def send(count: int) -> None:
        for _ in range(count):
            await rig.start()

    senders = [asyncio.create_task(send(RUNS // 3)) for _ in range(3)]
    for turn in range(6):
        await asyncio.sleep(chance.uniform(0.1, 0.4))
        await rig.replace(*(rig.workers if turn == 3 else [chance.choice(rig.workers)]))
    await asyncio.gather(*senders)
    async with asyncio.timeout(90):
        while await connection.fetchval("select count(*) from execution.run where status >= 4") < RUNS:
            await asyncio.sleep(0.1)
    ended, most = await overlaps(connection)
    statuses = await connection.fetch("select status, count(*) from execution.run group by status")
    assert [tuple(row) for row in statuses] == [(4, RUNS)]
    assert (len(rig.acknowledged), ended, set(map(UUID, rig.outside.done))) == (RUNS, RUNS, rig.acknowledged)
    assert most == LIMIT
    assert rig.outside.most <= LIMIT
    async with asyncio.timeout(20):
        while await connection.fetchval(
            "select (select count(*) from execution.ticket) + (select count(*) from execution.inbox)"
        ):
            await asyncio.sleep(0.05)
    await connection.close()
    print(f"\n{RUNS} runs, limit {LIMIT}, 8 kills: at once by the journals {most}, seen outside {rig.outside.most}")
