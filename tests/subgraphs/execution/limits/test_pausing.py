"""Triggers of a paused workflow or tenant wait, and go on in order."""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy import text

from subgraphs.execution.limits.storage import PAUSED_TOPIC
from subgraphs.execution.limits.terms import NOBODY
from tests.subgraphs.execution.limits.test_limits import closed, limited, order, statuses
from tests.subgraphs.execution.world import World, definition, eventually


async def pause(world: World, workflow: UUID) -> None:
    async with world.ground.database.write(world.tenant) as transaction:
        row = {"tenant": world.tenant, "workflow": workflow}
        await transaction.execute(
            text("insert into execution.paused values (:tenant, :workflow, null, '', now())"), row
        )
        transaction.wake(PAUSED_TOPIC, 0)
    await _known(world, workflow, True)


async def resume(world: World, workflow: UUID) -> None:
    async with world.ground.database.write(world.tenant) as transaction:
        await transaction.execute(
            text("delete from execution.paused where workflow = :workflow"), {"workflow": workflow}
        )
        transaction.wake(PAUSED_TOPIC, 0)


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
    gate.set()
    assert (await world.finished(runs[0]))["status"] == "SUCCEEDED"
    assert order(world, runs) == [0]
    await resume(world, workflow)
    for run in runs[1:]:
        assert (await world.finished(run))["status"] == "SUCCEEDED"
    assert order(world, runs) == [0, 1, 2]
