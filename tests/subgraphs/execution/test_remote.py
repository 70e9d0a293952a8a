"""Runs whose Executor is in another process: what only computes is sent too, and the journal shows no difference."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from subgraphs.engine.step import StepRequest
from tests.subgraphs.execution.world import SmallExecutor, World, definition, eventually, opened

GRAPH = definition(
    "a:manual", ("b:set", {"x": 1}, {}), "c:call", ("d:set", {"y": 2}, {}), ("e:set", {"z": 3}, {}), "f:set",
    edges="a>b b>c b>d d>e c>f e>f",
)  # fmt: skip


class Held:
    """A probe that holds one node's body until it is cancelled."""

    def __init__(self, executor: SmallExecutor, node: str) -> None:
        self.reached, self.cancelled, self.node = asyncio.Event(), asyncio.Event(), node
        executor.watch = self

    async def __call__(self, request: StepRequest) -> None:
        if request.node != self.node:
            return
        self.reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


@pytest.fixture
async def far(fresh_settings: Callable[..., Any]) -> AsyncIterator[World]:
    async with opened(await fresh_settings()) as found:
        found.executor.remote = True
        yield found


@pytest.mark.shows("N2")
async def test_the_steps_and_their_outputs_are_those_of_an_executor_at_hand(far: World, world: World) -> None:
    seen = []
    called = asyncio.Event()

    async def branches_meet(request: StepRequest) -> None:
        """The commit that lets `c` begin comes while `d` is computed."""
        if request.node == "c":
            called.set()
        elif request.node == "d":
            await called.wait()

    far.executor.watch = branches_meet
    for one in (far, world):
        begun = await one.start(await one.release(GRAPH), input={"who": "Ada"})
        events = await one.events(begun["id"])
        run = await one.finished(begun["id"])
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        happened = {(event["type"], event["node"]) for event in events}
        seen.append((happened, {step["node"]: (step["status"], step["output"]) for step in run["steps"]}))
        assert run["status"] == "SUCCEEDED"
        assert ("STEP_STARTED", "c") in happened
        assert not {("STEP_STARTED", node) for node in "bdef"} & happened
    assert seen[0] == seen[1]
    assert sorted(request.node for request in far.executor.requests) == list("bcdef")
    assert [request.node for request in world.executor.requests] == ["c"]


@pytest.mark.shows("N2", "EX-08")
async def test_cancelling_stops_a_step_that_computes_elsewhere(far: World) -> None:
    held = Held(far.executor, "d")
    begun = await far.start(await far.release(GRAPH))
    async with asyncio.timeout(20):
        await held.reached.wait()
        mutation = "mutation($id: ID!) { cancelExecution(input: {executionId: $id}) { ... on Execution { id } } }"
        await far.ask(mutation, id=begun["id"])
        await held.cancelled.wait()
    assert (await far.finished(begun["id"]))["status"] == "CANCELLED"


@pytest.mark.shows("N2", "EX-01")
async def test_a_run_goes_on_where_the_executor_is_at_hand(
    fresh_settings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subgraphs.execution.service.GRACE", 0.1)
    settings = await fresh_settings(lease_seconds=1)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(opened(settings))
        await eventually(lambda: len(first.ground.leases.owned), settings.partitions)
        first.executor.remote = True
        held = Held(first.executor, "e")
        begun = await first.start(await first.release(GRAPH))
        async with asyncio.timeout(20):
            await held.reached.wait()
        await stack.aclose()
        assert held.cancelled.is_set()
        async with opened(settings) as second:
            second.caller = first.caller
            run = await second.finished(begun["id"])
    assert run["status"] == "SUCCEEDED"
    assert {step["node"]: len(step["attempts"]) for step in run["steps"]}["e"] == 1
