"""Runs that start runs: what comes back, what is stopped, how deep it goes; and error workflows."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from subgraphs.engine.step import StepError
from subgraphs.platform.domain import uuid7
from tests.subgraphs.execution.test_letters import control, waiting
from tests.subgraphs.execution.world import World, definition, eventually

FAMILY = """query($id: ID!) { execution(id: $id) { id status mode error { code message } parent { id } trigger { items }
  children(first: 50) { edges { node { id status mode error { code } } } } } }"""


def calling(callee: UUID | str, settings: dict[str, Any] | None = None, **detail: Any) -> dict[str, Any]:
    words = {"workflow": str(callee), "release": None, "mode": "wait", "input": {"who": "you"}, **detail}
    hold: Any = ("sub:child", {"name": str(callee), "detail": words}, settings or {})
    return definition("a:manual", hold, "c:set", edges="a>sub sub>c")


async def family(world: World, run: str) -> Any:
    return (await world.ask(FAMILY, id=run))["execution"]


async def only_child(world: World, run: str) -> Any:
    found: list[Any] = []

    async def look() -> bool:
        found[:] = [edge["node"] for edge in (await family(world, run))["children"]["edges"]]
        return bool(found)

    await eventually(look)
    (child,) = found
    return child


@pytest.mark.shows("WF-16")
async def test_a_run_waits_for_the_run_it_starts_and_goes_on_with_its_items(world: World) -> None:
    callee = await world.release(definition("m:manual", ("s:set", {"x": 1}, {}), edges="m>s"))
    run = (await world.start(await world.release(calling(callee)), input={"n": 1}))["id"]
    ended = await world.finished(run)
    assert ended["status"] == "SUCCEEDED"
    assert ended["steps"][2]["input"] == {"main": [{"who": "you", "x": 1}]}
    child = await only_child(world, run)
    told = await family(world, child["id"])
    assert (told["mode"], told["parent"], told["trigger"]["items"]) == ("CHILD", {"id": run}, [{"who": "you"}])


@pytest.mark.shows("WF-16")
async def test_detached_the_step_ends_at_once_with_the_id_of_the_other_run(world: World) -> None:
    callee = await world.release(definition("m:manual", "long:call", edges="m>long"))
    gate = world.executor.gate("long")
    gate.clear()
    run = (await world.start(await world.release(calling(callee, mode="detach"))))["id"]
    ended = await world.finished(run)
    child = await only_child(world, run)
    assert ended["steps"][2]["input"] == {"main": [{"executionId": child["id"]}]}
    gate.set()
    assert (await world.finished(child["id"]))["status"] == "SUCCEEDED"


@pytest.mark.shows("WF-16", "XR-22")
async def test_the_failure_of_a_child_is_the_typed_error_of_the_step(world: World) -> None:
    callee = await world.release(definition("m:manual", "bad:call", edges="m>bad"))
    world.executor.faults["bad"] = [StepError("bank.closed", "Closed.")]
    ended = await world.finished((await world.start(await world.release(calling(callee))))["id"])
    assert (ended["status"], ended["steps"][1]["status"]) == ("FAILED", "FAILED")
    assert ended["error"]["code"] == "bank.closed"


@pytest.mark.shows("WF-16")
@pytest.mark.parametrize("why", ["missing", "input"])
async def test_a_child_that_cannot_start_fails_its_step(world: World, why: str) -> None:
    graph = {**definition("m:manual"), "inputs": [{"name": "n", "type": "number", "required": True}]}
    callee = uuid7() if why == "missing" else await world.release(graph)
    ended = await world.finished((await world.start(await world.release(calling(callee))))["id"])
    assert (ended["status"], ended["error"]["code"]) == ("FAILED", "execution.unrunnable")


@pytest.mark.shows("EX-08", "WF-16")
@pytest.mark.parametrize("name", ["cancelExecution", "killExecution"])
async def test_the_end_of_a_run_reaches_its_children_and_theirs(world: World, name: str) -> None:
    low = await world.release(definition("m:manual", "deep:call", edges="m>deep"))
    middle = await world.release(calling(low))
    world.executor.gate("deep").clear()
    world.executor.stopped.clear()
    run = (await world.start(await world.release(calling(middle))))["id"]
    child = await only_child(world, run)
    grandchild = await only_child(world, child["id"])
    await eventually(lambda: any(str(r.execution) == grandchild["id"] for r in world.executor.requests))
    assert (await control(world, name, run))["status"] == "CANCELLED"
    for id in (child["id"], grandchild["id"]):
        assert (await world.finished(id))["status"] == "CANCELLED"
    await eventually(lambda: "deep" in world.executor.stopped)


@pytest.mark.shows("WF-16")
async def test_a_workflow_that_calls_itself_without_end_fails_typed(world: World) -> None:
    workflow = uuid4()
    await world.release(calling(workflow), workflow=workflow)
    run = (await world.start(workflow))["id"]
    ended = await world.finished(run)
    assert (ended["status"], ended["error"]["code"]) == ("FAILED", "call.too_deep")
    count = "select count(*) from execution.run where workflow = $1"
    assert await world.ground.database.engine.fetchval(count, workflow) == 21


@pytest.mark.shows("WF-20")
async def test_a_failed_run_starts_its_error_workflow_once_and_that_one_starts_none(world: World) -> None:
    handler = uuid7()
    settings = {"errorWorkflow": {"workflowId": str(handler)}}
    await world.release(definition("e:error", "worse:call", edges="e>worse", settings=settings), workflow=handler)
    failing = await world.release(definition("a:manual", "bad:call", edges="a>bad", settings=settings))
    world.executor.faults["bad"] = [StepError("bank.closed", "Closed.")]
    world.executor.faults["worse"] = [StepError("mail.down", "Down.")]
    run = (await world.start(failing))["id"]
    await world.finished(run)
    child = await only_child(world, run)
    ended = await world.finished(child["id"])
    assert (ended["status"], ended["mode"]) == ("FAILED", "ERROR")
    (told,) = ended["trigger"]["items"]
    assert told["execution"]["id"] == run
    assert told["workflow"] == {"id": str(failing), "name": "Test", "release": 1}
    assert (told["error"]["code"], told["lastNode"]) == ("bank.closed", told["lastNode"])
    assert (await family(world, child["id"]))["children"]["edges"] == []
    await world.finished((await world.start(failing))["id"])
    count = "select count(*) from execution.run where workflow = $1"
    assert await world.ground.database.engine.fetchval(count, handler) == 1


async def test_a_wait_for_a_child_is_listed_while_it_lasts(world: World) -> None:
    callee = await world.release(definition("m:manual", "slow:call", edges="m>slow"))
    gate = world.executor.gate("slow")
    gate.clear()
    run = (await world.start(await world.release(calling(callee))))["id"]
    await waiting(world, run, "sub")
    gate.set()
    assert (await world.finished(run))["status"] == "SUCCEEDED"
