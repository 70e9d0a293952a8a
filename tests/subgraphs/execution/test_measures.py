"""What runs and steps took, read from their journals."""

from __future__ import annotations

import pytest

from subgraphs.engine.step import StepError
from tests.subgraphs.execution.world import World, definition

MEASURED = """query($id: ID!) { execution(id: $id) { durationMs
  metrics { queueMs waitMs runMs steps attempts bytesIn bytesOut }
  steps { node metrics { waitMs runMs attempts itemsIn itemsOut bytesIn bytesOut } } } }"""


@pytest.mark.shows("EX-06")
async def test_a_run_and_its_steps_tell_what_they_took(world: World) -> None:
    retry = {"retry": {"attempts": 3, "backoff": "fixed", "delay": "PT0.05S", "jitter": False}}
    graph = definition(
        "begin:manual", ("put:set", {"total": 7}, {}), ("ask:call", {}, retry), "end:set", "never:set",
        edges="begin>put put>ask ask>end ask.error>never",
    )  # fmt: skip
    workflow = await world.release(graph)
    world.executor.faults["ask"] = [StepError("test.no", "No.", "infrastructure")]

    run = (await world.start(workflow, input={"who": "Ada"}))["id"]
    await world.finished(run)
    found = (await world.ask(MEASURED, id=run))["execution"]
    steps = {step["node"]: step["metrics"] for step in found["steps"]}
    assert steps["never"] is None
    assert (steps["begin"]["bytesIn"], steps["begin"]["bytesOut"]) == (0, len('{"who":"Ada"}'))
    put = steps["put"]
    assert (put["itemsIn"], put["itemsOut"], put["attempts"]) == (1, 1, 1)
    assert (put["bytesIn"], put["bytesOut"]) == (len('{"who":"Ada"}'), len('{"who":"Ada","total":7}'))
    ask = steps["ask"]
    assert ask["attempts"] == 2
    assert 0 < ask["runMs"] < found["durationMs"]  # the pause between the attempts is not in it
    total = found["metrics"]
    assert (total["steps"], total["attempts"]) == (4, 5)
    assert total["bytesOut"] == sum(step["bytesOut"] for step in steps.values() if step)
    assert total["runMs"] == pytest.approx(sum(step["runMs"] for step in steps.values() if step))
    assert total["queueMs"] >= 0
