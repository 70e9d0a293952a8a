"""Runs that go on from other runs, and runs of a part of a draft."""

from __future__ import annotations

from typing import Any

import pytest

from subgraphs.engine.step import StepError
from subgraphs.platform.domain import uuid7
from tests.subgraphs.execution.world import TYPES, World, definition

RERUN = """mutation($input: RerunExecutionInput!) { rerunExecution(input: $input) {
  __typename ... on Execution { id release } ... on Problem { code field } } }"""
CHAIN = definition("a:manual", "one:call", "two:call", "three:set", edges="a>one one>two two>three")


async def failed(world: World, graph: dict[str, Any] = CHAIN) -> tuple[Any, dict[str, Any]]:
    """A run that failed at `two`, and its workflow."""
    world.executor.faults["two"] = [StepError("bank.closed", "Closed.")]
    workflow = await world.release(graph)
    run = await world.finished((await world.start(workflow, input={"n": 1}))["id"])
    assert run["status"] == "FAILED"
    return workflow, run


async def rerun(world: World, run: str, **more: Any) -> Any:
    return (await world.ask(RERUN, input={"executionId": run, **more}))["rerunExecution"]


def bodies(world: World, run: str) -> list[str]:
    return [request.node for request in world.executor.requests if str(request.execution) == run]


@pytest.mark.shows("EX-11")
async def test_a_failed_run_goes_on_from_the_step_that_failed_and_stays_as_it_was(world: World) -> None:
    _, run = await failed(world)
    again = await rerun(world, run["id"], fromFailed=True)
    ended = await world.finished(again["id"])
    assert (ended["status"], ended["rerunOf"]) == ("SUCCEEDED", {"id": run["id"]})
    assert bodies(world, again["id"]) == ["two"]
    kept = {step["node"]: step for step in ended["steps"]}
    assert kept["one"]["output"] == {step["node"]: step for step in run["steps"]}["one"]["output"]
    assert await world.finished(run["id"]) == run


@pytest.mark.shows("EX-11")
async def test_with_edited_data_what_follows_from_it_is_done_anew(world: World) -> None:
    _, run = await failed(world)
    edits = [{"key": "one", "items": [{"called": "by hand"}]}]
    ended = await world.finished((await rerun(world, run["id"], fromFailed=True, edits=edits))["id"])
    steps = {step["node"]: step for step in ended["steps"]}
    assert steps["two"]["input"] == {"main": [{"called": "by hand"}]}
    assert ended["status"] == "SUCCEEDED"


@pytest.mark.shows("EX-11")
async def test_a_failed_run_goes_on_with_a_newer_release(world: World) -> None:
    workflow, run = await failed(world)
    mended = definition(
        "a:manual", "one:call", ("two:set", {"mended": True}, {}), "three:set", edges="a>one one>two two>three"
    )
    await world.release(mended, 2, workflow)
    again = await rerun(world, run["id"], fromFailed=True, release=2)
    assert again["release"] == 2
    ended = await world.finished(again["id"])
    assert ended["status"] == "SUCCEEDED"
    assert bodies(world, again["id"]) == []
    steps = {step["node"]: step for step in ended["steps"]}
    assert steps["three"]["output"]["main"][0]["mended"] is True


async def test_what_cannot_be_repeated_so_is_refused(world: World) -> None:
    workflow = await world.release(definition("a:manual", "c:set", edges="a>c"))
    run = await world.finished((await world.start(workflow))["id"])
    assert (await rerun(world, run["id"], fromFailed=True))["code"] == "execution_not_failed"
    assert (await rerun(world, run["id"], release=1))["code"] == "rerun_whole"
    assert (await rerun(world, str(uuid7()), fromFailed=True))["code"] == "missing"
    _, torn = await failed(world)
    assert (await rerun(world, torn["id"], fromFailed=True, release=9))["code"] == "release_missing"
    wrong = [{"key": "nowhere", "items": [{}]}]
    assert (await rerun(world, torn["id"], fromFailed=True, edits=wrong))["code"] == "fork_impossible"


async def drafted(world: World, graph: dict[str, Any], **more: Any) -> Any:
    data = {"workflowId": str(uuid7()), "name": "Sketch", "revision": 1, "definition": graph, "nodeTypes": TYPES}
    return await world.finished(await world.publish("workflow.draft.requested.v1", uuid7(), data | more))


@pytest.mark.shows("EX-12")
async def test_a_draft_runs_up_to_a_node(world: World) -> None:
    graph = definition("a:manual", "one:call", "side:call", "two:call", edges="a>one a>side one>two")
    ended = await drafted(world, graph, until="one", input={"n": 1})
    assert ended["status"] == "SUCCEEDED"
    assert bodies(world, ended["id"]) == ["one"]


@pytest.mark.shows("EX-12")
async def test_one_node_of_a_draft_runs_alone_on_data_that_is_given(world: World) -> None:
    given = {"one": {"main": [{"cached": 7}]}}
    ended = await drafted(world, CHAIN, only="two", given=given)
    assert bodies(world, ended["id"]) == ["two"]
    assert {step["node"]: step for step in ended["steps"]}["two"]["input"] == {"main": [{"cached": 7}]}
    assert ended["status"] == "SUCCEEDED"
