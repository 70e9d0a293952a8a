"""Gates and their runs move between processes: the queue goes on where it was, and no place is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.subgraphs.execution.limits.test_kills import overlaps
from tests.subgraphs.execution.limits.test_limits import closed, limited, order, statuses
from tests.subgraphs.execution.world import World, eventually, opened


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies that tests hold are not waited for when a process closes."""
    monkeypatch.setattr("subgraphs.execution.service.GRACE", 0.1)


async def joined(stack: AsyncExitStack, settings: Any, first: World) -> World:
    """Another process that owns its share of the partitions."""
    other = await stack.enter_async_context(opened(settings))
    other.caller = first.caller
    owned = first.ground.leases.owned, other.ground.leases.owned
    await eventually(lambda: [len(each) for each in owned], [settings.partitions // 2] * 2)
    return other


@pytest.mark.shows("EX-14", "EX-17")
async def test_the_next_keeper_goes_on_with_the_queue(fresh_settings: Callable[..., Any]) -> None:
    settings = await fresh_settings(lease_seconds=1)
    async with AsyncExitStack() as stack:
        async with opened(settings) as first:
            closed(first, "work")
            workflow = await first.release(limited(concurrency={"limit": 1}))
            runs = [await first.call(workflow, {"n": n}, "hook") for n in range(4)]
            await eventually(lambda: statuses(first, workflow), ["RUNNING", *["QUEUED"] * 3])
        second = await stack.enter_async_context(opened(settings))
        second.caller = first.caller
        for run in runs:
            assert (await second.finished(run))["status"] == "SUCCEEDED"
        assert order(second, runs) == [0, 1, 2, 3]


async def counted(world: World, workflow: UUID) -> Counter[str]:
    return Counter(await statuses(world, workflow))


@pytest.mark.shows("EX-14")
async def test_keeper_and_runs_in_different_processes_agree(fresh_settings: Callable[..., Any]) -> None:
    settings = await fresh_settings(lease_seconds=1)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(opened(settings))
        second = await joined(stack, settings, first)
        gates = [closed(world, "work") for world in (first, second)]
        workflow = await first.release(limited(concurrency={"limit": 2}))
        runs = [await world.call(workflow, {}, "hook") for world in (first, second) * 4]
        # Which two is the keeper's to say: it hears of two processes' runs in the order their commits reach it.
        await eventually(lambda: counted(first, workflow), {"RUNNING": 2, "QUEUED": 6})
        assert len(first.executor.requests) + len(second.executor.requests) == 2
        for gate in gates:
            gate.set()
        for run in runs:
            assert (await first.finished(run))["status"] == "SUCCEEDED"
        admin = await asyncpg.connect(settings.dsn("lf_admin"))
        assert await overlaps(admin) == (8, 2)
        await admin.close()
        assert first.executor.requests, "no run lived in the first process: the test proved nothing"
        assert second.executor.requests, "no run lived in the second process: the test proved nothing"
