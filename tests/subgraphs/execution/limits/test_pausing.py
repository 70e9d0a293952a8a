"""Triggers of a paused workflow or tenant wait, and go on in order."""

from __future__ import annotations

from uuid import UUID

import pytest

from subgraphs.execution.limits.terms import NOBODY
from tests.subgraphs.execution.limits.test_limits import closed, limited, order, statuses
from tests.subgraphs.execution.world import World, definition, eventually

PAUSE = "mutation($id: ID!) { pauseWorkflow(input: {workflowId: $id}) { __typename } }"
RESUME = "mutation($id: ID!) { resumeWorkflow(input: {workflowId: $id}) { __typename } }"
PAUSE_ALL = 'mutation { pauseTenant(input: {reason: "a move"}) { __typename } }'
RESUME_ALL = "mutation { resumeTenant { __typename } }"


async def pause(world: World, workflow: UUID) -> None:
    answer = await (world.ask(PAUSE_ALL) if workflow == NOBODY else world.ask(PAUSE, id=str(workflow)))
    assert "Problem" not in str(answer)
    await _known(world, workflow, True)


async def resume(world: World, workflow: UUID) -> None:
    await (world.ask(RESUME_ALL) if workflow == NOBODY else world.ask(RESUME, id=str(workflow)))
    await _known(world, workflow, False)


async def _known(world: World, workflow: UUID, wanted: bool) -> None:
    keeper = world.ground.ports["keeper"]
    await eventually(lambda: (world.tenant, workflow) in keeper.paused, wanted)


@pytest.mark.shows("EX-09")
@pytest.mark.parametrize("scope", ["workflow", "tenant"])
async def test_triggers_queue_while_paused_and_go_on_in_order(world: World, scope: str) -> None:
    gate = closed(world, "work")
    gate.set()
    workflow = await world.release(definition("hook:webhook", "work:call", edges="hook>work"))
    held = workflow if scope == "workflow" else NOBODY
    await pause(world, held)
    runs = [await world.call(workflow, {"n": n}, "hook") for n in range(5)]
    await eventually(lambda: statuses(world, workflow), ["QUEUED"] * 5)
    assert order(world, runs) == []
    await resume(world, held)
    for run in runs:
        assert (await world.finished(run))["status"] == "SUCCEEDED"
    assert order(world, runs) == [0, 1, 2, 3, 4]


@pytest.mark.shows("EX-09", "EX-14")
async def test_a_paused_workflow_lets_nobody_through_its_limits(world: World) -> None:
    gate = closed(world, "work")
    workflow = await world.release(limited(concurrency={"limit": 1}))
    runs = [await world.call(workflow, {"n": n}, "hook") for n in range(3)]
    await eventually(lambda: statuses(world, workflow), ["RUNNING", "QUEUED", "QUEUED"])
    await pause(world, workflow)
    await eventually(lambda: statuses(world, workflow), ["PAUSED", "QUEUED", "QUEUED"])
    await world.ask("mutation($id: ID!) { cancelExecution(input: {executionId: $id}) { __typename } }", id=str(runs[0]))
    await eventually(lambda: statuses(world, workflow), ["CANCELLED", "QUEUED", "QUEUED"])
    gate.set()
    await resume(world, workflow)
    for run in runs[1:]:
        assert (await world.finished(run))["status"] == "SUCCEEDED"
    assert order(world, runs) == [0, 1, 2]
