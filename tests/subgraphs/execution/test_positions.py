"""Reading one's own writes by position, and the lag of readers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from subgraphs.platform.domain import uuid7
from tests.subgraphs.execution.world import World, definition, eventually, someone

PLAIN = definition("a:manual", "b:set", edges="a>b")
START = """mutation($input: StartExecutionInput!) { startExecution(input: $input) {
  ... on Execution { id status position } } }"""
ONE = "query($id: ID!, $p: String) { execution(id: $id, atLeast: $p) { id status position } }"
LIST = "query($p: String) { executions(first: 1, atLeast: $p) { edges { node { id } } } }"
LAG = "{ executionLag { reader events seconds targetSeconds } }"


async def refused(world: World, document: str, caller: Any = None, **variables: Any) -> str | None:
    result = await world.subgraph.schema.execute(document, variables, context_value=world.context(caller))
    assert result.errors
    code: str | None = getattr(result.errors[0].original_error, "code", None)
    return code


@pytest.mark.shows("CQ-04")
async def test_who_started_a_run_sees_it(world: World) -> None:
    workflow = await world.release(PLAIN)
    for _ in range(20):
        begun = (await world.ask(START, input={"workflowId": str(workflow)}))["startExecution"]
        (edge,) = (await world.ask(LIST, p=begun["position"]))["executions"]["edges"]
        assert edge["node"]["id"] == begun["id"]
        assert (await world.ask(ONE, id=begun["id"], p=begun["position"]))["execution"]["id"] == begun["id"]


@pytest.mark.shows("CQ-04")
async def test_a_reader_waits_for_a_run_that_is_about_to_begin(world: World) -> None:
    """As when another process owns its partition: the start is stored, the run is not there yet."""
    workflow = await world.release(PLAIN)
    id = uuid7()
    reading = asyncio.create_task(world.ask(LIST, p=f"{id.hex}.1"))
    await asyncio.sleep(0)
    data = {"workflowId": str(workflow), "release": 1, "input": {}}
    await world.publish("execution.execution.requested.v1", id, data, id)
    assert (await reading)["executions"]["edges"][0]["node"]["id"] == str(id)


@pytest.mark.shows("CQ-04")
async def test_what_has_not_happened_is_said_to_be_so(world: World) -> None:
    workflow = await world.release(PLAIN)
    run = (await world.start(workflow))["id"]
    ended = await world.finished(run)
    position = (await world.ask(ONE, id=run))["execution"]["position"]
    assert ended["status"] == "SUCCEEDED"
    later = f"{position.split('.')[0]}.999"
    assert await refused(world, LIST, p=later) == "position_not_reached"
    assert await refused(world, ONE, id=run, p=later) == "position_not_reached"
    for wrong in ("", "x", position + ".1", "." + "1" * 70, position.split(".")[0] + ".-1"):
        assert await refused(world, LIST, p=wrong) == "position_malformed"


async def test_positions_of_another_tenant_are_never_reached(world: World) -> None:
    workflow = await world.release(PLAIN)
    run = (await world.start(workflow))["id"]
    await world.finished(run)
    position = (await world.ask(ONE, id=run))["execution"]["position"]
    assert await refused(world, LIST, someone(), p=position) == "position_not_reached"
    assert await refused(world, LIST, someone(), p=f"{uuid7().hex}.1") == "position_not_reached"


@pytest.mark.shows("CQ-05")
async def test_how_far_behind_readers_are_is_in_the_answer(world: World) -> None:
    """A start nobody can begin yet counts, for its tenant alone; once begun it does not."""
    workflow = await world.release(PLAIN)
    run = (await world.start(workflow))["id"]
    await world.finished(run)

    async def waiting(caller: Any = None) -> int:
        lags = {lag["reader"]: lag for lag in (await world.ask(LAG, caller))["executionLag"]}
        assert {"execution", "execution.releases"} <= set(lags)
        assert all(lag["targetSeconds"] == 1.0 and lag["seconds"] >= 0 for lag in lags.values())
        return int(lags["execution"]["events"])

    await eventually(waiting, 0)
    absent = uuid7()
    started = await world.publish(
        "execution.execution.requested.v1", absent, {"workflowId": str(absent), "release": 1, "input": {}}
    )
    assert await waiting() == 1
    assert await waiting(someone()) == 0
    await world.release(PLAIN, workflow=absent)
    await eventually(waiting, 0)
    assert (await world.finished(started))["status"] == "SUCCEEDED"
