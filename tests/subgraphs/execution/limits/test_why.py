"""Why a run does not go on: the true cause, who holds it, and when it will go on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subgraphs.execution.limits.gate import Gate, Terms, Ticket, arrive, decide, settle
from subgraphs.execution.limits.standing import standings
from subgraphs.execution.limits.why import Standing
from tests.subgraphs.execution.limits.test_limits import closed, limited, statuses
from tests.subgraphs.execution.limits.test_pausing import pause, resume
from tests.subgraphs.execution.world import World, definition, eventually

WHY = """query($id: ID!) { execution(id: $id) { status whyWaiting { __typename summary nextStep
  ... on WaitingAtLimit { limit key allowed place waiting held beginsAt holders { id status } }
  ... on WaitingForResume { scope reason }
  ... on WaitingForSteps { steps { key name needs until about attempt } } } } }"""
LIST = """query($workflow: ID!) { executions(filter: {workflowId: $workflow}, first: 50) { edges { node {
  id whyWaiting { __typename ... on WaitingAtLimit { place holders { id } } } } } } }"""


async def why(world: World, run: UUID) -> Any:
    return (await world.ask(WHY, id=str(run)))["execution"]["whyWaiting"]


@pytest.mark.shows("EX-18")
async def test_a_queued_run_names_its_limit_its_holders_and_its_place(world: World) -> None:
    gate = closed(world, "work")
    workflow = await world.release(limited(concurrency={"limit": 2, "key": "{{ trigger.who }}"}))
    runs = [await world.call(workflow, {"who": "ada"}, "hook") for _ in range(4)]
    await eventually(lambda: statuses(world, workflow), ["RUNNING", "RUNNING", "QUEUED", "QUEUED"])
    told = await why(world, runs[3])
    assert (told["__typename"], told["limit"], told["key"]) == ("WaitingAtLimit", "concurrency", "ada")
    assert (told["allowed"], told["held"], told["place"], told["waiting"]) == (2, 2, 2, 2)
    assert {holder["id"] for holder in told["holders"]} == {str(run) for run in runs[:2]}
    assert told["beginsAt"] is None  # nobody has left yet, so nothing is known
    assert (await why(world, runs[2]))["place"] == 1
    cancel = "mutation($id: ID!) { cancelExecution(input: {executionId: $id}) { __typename } }"
    await world.ask(cancel, id=str(runs[0]))  # the next step it names is the one that clears it
    await eventually(lambda: statuses(world, workflow), ["CANCELLED", "RUNNING", "RUNNING", "QUEUED"])
    told = await why(world, runs[3])
    assert told["place"] == 1
    assert {holder["id"] for holder in told["holders"]} == {str(run) for run in runs[1:3]}
    gate.set()
    for run in runs[1:]:
        await world.finished(run)
    assert await why(world, runs[3]) is None


@pytest.mark.shows("EX-18")
async def test_a_list_of_queued_runs_costs_the_same_as_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = closed(world, "work")
    workflow = await world.release(limited(concurrency={"limit": 1}))
    runs = [await world.call(workflow, {}, "hook") for _ in range(12)]
    await eventually(lambda: statuses(world, workflow), ["RUNNING", *["QUEUED"] * 11])
    asked: list[int] = []

    async def counted(*words: Any) -> Any:
        asked.append(len(words[1]))
        return await standings(*words)

    monkeypatch.setattr("subgraphs.execution.reasons.standings", counted)
    edges = (await world.ask(LIST, workflow=str(workflow)))["executions"]["edges"]
    assert asked == [11]
    places = {edge["node"]["id"]: edge["node"]["whyWaiting"].get("place") for edge in edges}
    assert [places[str(run)] for run in runs] == [None, *range(1, 12)]
    gate.set()
    for run in runs:
        await world.finished(run)


@pytest.mark.shows("EX-18")
async def test_turns_decide_the_place_of_round_robin(world: World) -> None:
    gate = closed(world, "work")
    limit = {"limit": 1, "onLimit": "roundRobin", "group": "{{ trigger.who }}"}
    workflow = await world.release(limited(concurrency=limit))
    runs = [await world.call(workflow, {"who": "a"}, "hook")]
    await eventually(lambda: statuses(world, workflow), ["RUNNING"])
    runs += [await world.call(workflow, {"who": who}, "hook") for who in "aab"]
    await eventually(lambda: statuses(world, workflow), ["RUNNING", *["QUEUED"] * 3])
    assert [(await why(world, run))["place"] for run in runs[1:]] == [2, 3, 1]
    gate.set()
    for run in runs:
        await world.finished(run)


@pytest.mark.shows("EX-18")
async def test_a_throttled_run_says_when_it_begins(world: World) -> None:
    workflow = await world.release(limited("work:set", throttle={"limit": 1, "period": "PT1H"}))
    first = await world.call(workflow, {}, "hook")
    assert (await world.finished(first))["status"] == "SUCCEEDED"
    second = await world.call(workflow, {}, "hook")
    await eventually(lambda: statuses(world, workflow), ["SUCCEEDED", "QUEUED"])
    told = await why(world, second)
    assert (told["limit"], told["place"], told["holders"]) == ("throttle", 1, [])
    wait = datetime.fromisoformat(told["beginsAt"].replace("Z", "+00:00")) - datetime.now(UTC)
    assert 3500 < wait.total_seconds() <= 3600
    assert "1 of 1 have begun in 3600 s" in told["summary"]


@pytest.mark.shows("EX-18", "EX-09")
async def test_a_run_of_a_paused_workflow_says_so(world: World) -> None:
    workflow = await world.release(definition("hook:webhook", "work:set", edges="hook>work"))
    await pause(world, workflow)
    run = await world.call(workflow, {}, "hook")
    await eventually(lambda: statuses(world, workflow), ["QUEUED"])
    told = await why(world, run)
    assert (told["__typename"], told["scope"]) == ("WaitingForResume", "WORKFLOW")
    await resume(world, workflow)
    assert (await world.finished(run))["status"] == "SUCCEEDED"


@pytest.mark.shows("EX-18")
async def test_a_begun_run_names_the_steps_it_waits_for(world: World) -> None:
    gate = closed(world, "work")
    graph = definition("hook:webhook", ("rest:wait", {"seconds": 3600}, {}), "work:call", edges="hook>rest hook>work")
    workflow = await world.release(graph)
    run = await world.call(workflow, {}, "hook")
    await eventually(lambda: any(request.execution == run for request in world.executor.requests))
    told = await why(world, run)
    assert told["__typename"] == "WaitingForSteps"
    needs = {step["key"]: (step["needs"], step["until"] is not None) for step in told["steps"]}
    assert needs == {"rest": ("TIME", True), "work": ("RUNNING", False)}
    gate.set()
    cancel = "mutation($id: ID!) { cancelExecution(input: {executionId: $id}) { __typename } }"
    await world.ask(cancel, id=str(run))
    assert await why(world, run) is None


@pytest.mark.shows("EX-18")
@given(st.integers(1, 5), st.lists(st.integers(0, 1_500_000), max_size=12), st.integers(1, 12))
def test_the_estimate_of_a_throttle_is_when_the_gate_lets_it_in(limit: int, gaps: list[int], place: int) -> None:
    """What is told is what a gate does whose runs come and go as now."""
    terms = Terms("throttle", limit, period=1_000_000)
    gate, now = Gate(UUID(int=1)), 0
    for number, gap in enumerate(gaps, 1):
        now += gap
        arrive(gate, Ticket(UUID(int=number), now, 0, terms))
        made = decide(gate, now)
        settle(gate, made.verdicts, made.memo)
    gate.waiting.clear()
    starts = [at for at in gate.starts.values() if at + terms.period > now]
    run = UUID(int=1000 + place)
    for number in range(1, place + 1):
        arrive(gate, Ticket(UUID(int=1000 + number), now + number, 0, terms))
    told = Standing("throttle", "", terms, now, place, place, now, now, starts=starts).due(now)
    at = now
    while run in gate.waiting:
        made = decide(gate, at)
        settle(gate, made.verdicts, made.memo)
        if run in gate.waiting:
            assert made.due is not None
            at = max(at, made.due)
    assert told == at
