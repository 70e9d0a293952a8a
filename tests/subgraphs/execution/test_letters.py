"""What people tell runs while they run: signals, pauses, kills. Each has one effect, in the order it was said."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from tests.subgraphs.execution.world import World, definition, eventually, someone

SIGNAL = """mutation($input: SignalExecutionInput!) { signalExecution(input: $input) {
  __typename ... on Execution { status } ... on Problem { code field } } }"""
CONTROL = """mutation($id: ID!) {{ {name}(input: {{executionId: $id}}) {{
  __typename ... on Execution {{ status }} ... on Problem {{ code }} }} }}"""
WAITS = "query($id: ID!) { execution(id: $id) { status waits { node kind name attempt } } }"


async def signalled(world: World, run: str, name: str, **more: Any) -> Any:
    return (await world.ask(SIGNAL, input={"executionId": run, "name": name, **more}))["signalExecution"]


async def control(world: World, name: str, run: str) -> Any:
    return (await world.ask(CONTROL.format(name=name), id=run))[name]


async def waiting(world: World, run: str, node: str) -> None:
    """Until the run waits at the node."""

    async def look() -> bool:
        found = (await world.ask(WAITS, id=run))["execution"]
        return found is not None and any(wait["node"] == node for wait in found["waits"])

    await eventually(look)


@pytest.mark.shows("EX-19")
async def test_a_signal_ends_the_wait_for_it_and_brings_its_data(world: World) -> None:
    graph = definition("a:manual", ("hear:signal", {"name": "paid"}, {}), "c:set", edges="a>hear hear>c")
    run = (await world.start(await world.release(graph), input={"n": 1}))["id"]
    await waiting(world, run, "hear")
    assert await signalled(world, run, "other") == {"__typename": "Execution", "status": "WAITING"}
    assert (await signalled(world, run, "paid", data={"sum": 7}))["__typename"] == "Execution"
    ended = await world.finished(run)
    assert ended["status"] == "SUCCEEDED"
    assert ended["steps"][2]["input"] == {"main": [{"n": 1, "signal": {"sum": 7}}]}
    assert (await world.ask(WAITS, id=run))["execution"]["waits"] == []


@pytest.mark.shows("EX-19")
async def test_a_signal_that_comes_first_is_kept_for_the_step_that_will_wait(world: World) -> None:
    graph = definition("a:manual", "work:call", ("hear:signal", {"name": "go"}, {}), edges="a>work work>hear")
    gate = world.executor.gate("work")
    gate.clear()
    run = (await world.start(await world.release(graph)))["id"]
    assert (await signalled(world, run, "go", data=1))["__typename"] == "Execution"
    gate.set()
    ended = await world.finished(run)
    assert ended["steps"][2]["output"]["main"][0]["signal"] == 1


@pytest.mark.shows("EX-19")
async def test_the_same_message_twice_has_one_effect_and_order_is_kept(world: World) -> None:
    nodes: list[Any] = [(f"h{n}:signal", {"name": "tick"}, {}) for n in range(3)]
    graph = definition("a:manual", "work:call", *nodes, edges="a>work work>h0 h0>h1 h1>h2")
    gate = world.executor.gate("work")
    gate.clear()
    run = (await world.start(await world.release(graph)))["id"]
    for _ in range(3):
        await signalled(world, run, "tick", data=1, id="m-1")
    await signalled(world, run, "tick", data=2, id="m-2")
    gate.set()
    await waiting(world, run, "h2")
    await signalled(world, run, "tick", data=1, id="m-1")
    await signalled(world, run, "tick", data=3, id="m-3")
    ended = await world.finished(run)
    steps = {step["node"]: step for step in ended["steps"]}
    assert [steps[f"h{n}"]["output"]["main"][0]["signal"] for n in range(3)] == [1, 2, 3]


async def test_a_signal_is_refused_with_what_is_wrong(world: World) -> None:
    run = (await world.start(await world.release(definition("a:manual", "c:set", edges="a>c"))))["id"]
    await world.finished(run)
    assert await signalled(world, run, "late") == {
        "__typename": "Conflict",
        "code": "execution_final",
        "field": "executionId",
    }
    assert (await signalled(world, run, ""))["code"] == "name_malformed"
    assert (await signalled(world, run, "x", data="y" * 300_000))["code"] == "data_large"
    viewer = someone("viewer", world.tenant)
    asked = await world.ask(SIGNAL, viewer, input={"executionId": run, "name": "x"})
    assert asked["signalExecution"]["__typename"] == "Forbidden"


@pytest.mark.shows("EX-09")
async def test_a_paused_run_lets_its_body_end_begins_nothing_and_goes_on_when_resumed(world: World) -> None:
    graph = definition("a:manual", "b:call", "c:call", edges="a>b b>c")
    gate = world.executor.gate("b")
    gate.clear()
    run = (await world.start(await world.release(graph)))["id"]
    await eventually(lambda: [r.node for r in world.executor.requests if str(r.execution) == run], ["b"])
    assert await control(world, "pauseExecution", run) == {"__typename": "Execution", "status": "PAUSED"}
    assert (await control(world, "pauseExecution", run))["status"] == "PAUSED"
    gate.set()

    async def bodies() -> Any:
        found = await world.ask("query($id: ID!) { execution(id: $id) { steps { node status } } }", id=run)
        return [step["status"] for step in found["execution"]["steps"][:2]]

    await eventually(bodies, ["SUCCEEDED", "SUCCEEDED"])
    await eventually(lambda: UUID(run) not in world.ground.ports["execution"].runs)
    assert [r.node for r in world.executor.requests if str(r.execution) == run] == ["b"]
    assert (await control(world, "resumeExecution", run))["__typename"] == "Execution"
    assert (await world.finished(run))["status"] == "SUCCEEDED"
    assert [r.node for r in world.executor.requests if str(r.execution) == run] == ["b", "c"]


@pytest.mark.shows("EX-09", "EX-21")
async def test_a_timer_that_comes_due_in_a_pause_fires_when_it_ends(world: World) -> None:
    graph = definition("a:manual", ("w:wait", {"seconds": 0.4}, {}), "c:set", edges="a>w w>c")
    run = (await world.start(await world.release(graph)))["id"]
    assert (await control(world, "pauseExecution", run))["status"] == "PAUSED"
    timers = "select count(*) from execution.timer where run = $1"
    assert await world.ground.database.engine.fetchval(timers, UUID(run)) == 0
    await asyncio.to_thread(lambda: None)
    await control(world, "resumeExecution", run)
    assert (await world.finished(run))["status"] == "SUCCEEDED"


@pytest.mark.shows("EX-09")
async def test_pausing_a_workflow_holds_its_runs_and_no_others(world: World) -> None:
    graph = definition("a:manual", ("hear:signal", {"name": "go"}, {}), "c:call", edges="a>hear hear>c")
    held, free = await world.release(graph), await world.release(graph)
    first, second = (await world.start(held))["id"], (await world.start(free))["id"]
    for run in (first, second):
        await waiting(world, run, "hear")
    pause = """mutation($id: ID!) { pauseWorkflow(input: {workflowId: $id, reason: "stocktaking"}) {
        __typename ... on ExecutionPause { reason workflow { id } } ... on Problem { code } } }"""
    told = (await world.ask(pause, id=str(held)))["pauseWorkflow"]
    assert told == {"__typename": "ExecutionPause", "reason": "stocktaking", "workflow": {"id": str(held)}}

    async def status(run: str) -> str:
        return str(
            (await world.ask("query($id: ID!) { execution(id: $id) { status } }", id=run))["execution"]["status"]
        )

    await eventually(lambda: status(first), "PAUSED")
    assert await status(second) == "WAITING"
    listed = await world.ask("{ executionPauses { reason workflow { id } } }")
    assert listed["executionPauses"] == [{"reason": "stocktaking", "workflow": {"id": str(held)}}]
    resume = """mutation($id: ID!) { resumeWorkflow(input: {workflowId: $id}) {
        __typename ... on Problem { code field } } }"""
    assert (await world.ask(resume, id=str(held)))["resumeWorkflow"]["__typename"] == "ExecutionPause"
    assert (await world.ask(resume, id=str(held)))["resumeWorkflow"]["code"] == "pause_missing"
    for run in (first, second):
        await signalled(world, run, "go")
        assert (await world.finished(run))["status"] == "SUCCEEDED"


@pytest.mark.shows("EX-08")
async def test_kill_stops_bodies_at_once(world: World) -> None:
    graph = definition("a:manual", "long:call", edges="a>long")
    world.executor.gate("long").clear()
    run = (await world.start(await world.release(graph)))["id"]
    await eventually(lambda: any(str(r.execution) == run for r in world.executor.requests))
    assert await control(world, "killExecution", run) == {"__typename": "Execution", "status": "CANCELLED"}
    await eventually(lambda: "long" in world.executor.stopped)
