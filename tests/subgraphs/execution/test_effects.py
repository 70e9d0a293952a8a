"""Effects nobody saw the end of: shown, probed, settled by people, and given up when they kill."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.subgraphs.execution.test_letters import CONTROL
from tests.subgraphs.execution.world import SmallExecutor, World, definition, eventually, opened

SETTLE = """mutation($input: SettleStepInput!) { settleStep(input: $input) {
  __typename ... on Execution { status } ... on Problem { code } } }"""
STEPS = "query($id: ID!) { execution(id: $id) { status steps { node status output attempts { number } } } }"
GRAPH = definition("a:manual", "pay:unsafe", "c:set", edges="a>pay pay>c")


@pytest.fixture
async def torn(fresh_settings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """`await torn(happened)`: a run whose unsafe step was cut off with its process, in the process that took over."""
    monkeypatch.setattr("subgraphs.execution.service.GRACE", 0.0)
    settings = await fresh_settings(lease_seconds=1)
    async with AsyncExitStack() as later:

        async def tear(happened: bool | None = None) -> tuple[World, str]:
            async with AsyncExitStack() as first_stack:
                first = await first_stack.enter_async_context(opened(settings))
                first.executor.gate("pay")
                run = (await first.start(await first.release(GRAPH), input={"n": 1}))["id"]
                await eventually(lambda: any(str(r.execution) == run for r in first.executor.requests))
            executor = SmallExecutor()
            if happened is not None:
                executor.happened["pay"] = happened
            second = await later.enter_async_context(opened(settings, executor))
            second.caller = first.caller
            return second, run

        yield tear


async def pay(world: World, run: str) -> Any:
    found = (await world.ask(STEPS, id=run))["execution"]
    return found["steps"][1]["status"]


async def settle(world: World, run: str, happened: bool, **more: Any) -> Any:
    words = {"executionId": run, "node": "pay", "happened": happened, **more}
    return (await world.ask(SETTLE, input=words))["settleStep"]


@pytest.mark.shows("EX-23")
async def test_an_unsafe_step_that_was_cut_off_is_ambiguous_until_somebody_says_it_happened(torn: Any) -> None:
    world, run = await torn()
    await eventually(lambda: pay(world, run), "AMBIGUOUS")
    assert (await world.ask(STEPS, id=run))["execution"]["status"] == "WAITING"
    assert (await settle(world, run, True, attempt=7))["code"] == "step_not_ambiguous"
    assert (await settle(world, run, True, outputs=["x"]))["code"] == "outputs_malformed"
    assert (await settle(world, run, True, outputs=[{"paid": True}]))["__typename"] == "Execution"
    ended = await world.finished(run)
    assert ended["status"] == "SUCCEEDED"
    assert ended["steps"][2]["input"] == {"main": [{"paid": True}]}
    assert world.executor.requests == []


@pytest.mark.shows("EX-23")
async def test_a_step_that_did_not_happen_begins_again_under_the_same_key(torn: Any) -> None:
    world, run = await torn()
    await eventually(lambda: pay(world, run), "AMBIGUOUS")
    assert (await settle(world, run, False))["__typename"] == "Execution"
    assert (await world.finished(run))["status"] == "SUCCEEDED"
    assert [request.idempotency_key for request in world.executor.requests] == [f"{run}:pay"]
    assert (await settle(world, run, False))["code"] == "execution_final"


@pytest.mark.shows("EX-23")
@pytest.mark.parametrize("happened", [True, False])
async def test_the_nodes_own_probe_settles_it_when_it_can(torn: Any, happened: bool) -> None:
    world, run = await torn(happened)
    ended = await world.finished(run)
    assert ended["status"] == "SUCCEEDED"
    assert [request.node for request in world.executor.requests] == ([] if happened else ["pay"])


@pytest.mark.shows("EX-08", "EX-23")
async def test_an_ambiguous_run_can_be_cancelled(torn: Any) -> None:
    world, run = await torn()
    await eventually(lambda: pay(world, run), "AMBIGUOUS")
    assert (await world.ask(CONTROL.format(name="cancelExecution"), id=run))["cancelExecution"]["status"] == "CANCELLED"
    await asyncio.sleep(0)
