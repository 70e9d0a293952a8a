"""A process that is told to stop, beside one that goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import pytest

from subgraphs.platform.server import application
from tests.subgraphs.execution.world import definition, eventually, opened

STAIRS = definition("a:manual", "b:unsafe", "c:unsafe", edges="a>b b>c")


@pytest.mark.shows("XR-16", "EX-29")
async def test_partitions_go_back_at_once_but_for_those_where_a_body_runs_and_nothing_begins(
    fresh_settings: Callable[..., Any],
) -> None:
    settings = await fresh_settings()
    async with opened(settings) as first, opened(settings) as second:
        second.caller = first.caller
        share = settings.partitions // 2
        await eventually(lambda: (len(first.ground.leases.owned), len(second.ground.leases.owned)), (share, share))
        gate = first.executor.gate("b")
        run = (await first.start(await first.release(STAIRS)))["id"]
        await eventually(lambda: len(first.executor.requests), 1)
        app = application(first.ground, first.ground.subgraphs)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
            assert (await client.get("/health/ready")).status_code == 200
            first.ground.drain()
            answer = await client.get("/health/ready")
            assert (answer.status_code, answer.json()["failed"]) == (503, {"process": "It was told to stop."})
        head = "select part from execution.run where id = $1"
        part = await first.ground.database.engine.fetchval(head, UUID(run))
        await eventually(lambda: set(first.ground.leases.owned), {part})
        await eventually(lambda: len(second.ground.leases.owned), settings.partitions - 1)
        gate.set()
        ended = await second.finished(run)
        assert ended["status"] == "SUCCEEDED"
        assert [request.node for request in first.executor.requests] == ["b"]
        assert [request.node for request in second.executor.requests] == ["c"]
        tries = {step["node"]: [a["recovered"] for a in step["attempts"]] for step in ended["steps"]}
        assert (tries["b"], tries["c"]) == ([False], [False])
        await eventually(lambda: len(second.ground.leases.owned), settings.partitions)
