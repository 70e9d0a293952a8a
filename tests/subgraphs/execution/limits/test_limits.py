"""Limits of releases through the public door, on PostgreSQL: who runs, who waits, who is refused, in which order."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from tests.subgraphs.execution.world import World, definition, eventually

LIST = """query($workflow: ID!) { executions(filter: {workflowId: $workflow}, first: 50) {
  edges { node { id status error { code kind detail } trigger { items } } } } }"""
CANCEL = "mutation($id: ID!) { cancelExecution(input: {executionId: $id}) { __typename ... on Execution { status } } }"


def limited(*nodes: Any, edges: str = "hook>work", **settings: Any) -> dict[str, Any]:
    return definition("hook:webhook", *(nodes or ("work:call",)), edges=edges, settings=settings)


async def listed(world: World, workflow: UUID) -> list[dict[str, Any]]:
    """All runs, oldest first."""
    data = await world.ask(LIST, workflow=str(workflow))
    return [edge["node"] for edge in reversed(data["executions"]["edges"])]


async def statuses(world: World, workflow: UUID) -> list[str]:
    return [run["status"] for run in await listed(world, workflow)]


def closed(world: World, node: str) -> asyncio.Event:
    """Bodies of this node run until the event is set."""
    world.executor.gates[node] = asyncio.Event()
    return world.executor.gates[node]


def order(world: World, runs: list[UUID]) -> list[int]:
    """Which of these runs' bodies began, in order, as positions in `runs`."""
    return [runs.index(request.execution) for request in world.executor.requests if request.execution in runs]


async def codes(world: World, workflow: UUID) -> list[str | None]:
    return [run["error"] and run["error"]["code"] for run in await listed(world, workflow)]


@pytest.mark.shows("EX-14")
async def test_a_run_over_the_limit_waits_and_goes_on_when_one_ends(world: World) -> None:
    gate = closed(world, "work")
    workflow = await world.release(limited(concurrency={"limit": 2}))
    runs = [await world.call(workflow, {"n": n}, "hook") for n in range(4)]
    await eventually(lambda: statuses(world, workflow), ["RUNNING", "RUNNING", "QUEUED", "QUEUED"])
    assert sorted(order(world, runs)) == [0, 1]
    gate.set()
    for run in runs:
        assert (await world.finished(run))["status"] == "SUCCEEDED"
    assert order(world, runs)[2:] == [2, 3]


@pytest.mark.shows("EX-14")
async def test_each_value_of_the_key_has_places_of_its_own(world: World) -> None:
    gate = closed(world, "work")
    key = "{{ trigger.customer }}"
    workflow = await world.release(limited(concurrency={"limit": 1, "key": key}))
    runs = [await world.call(workflow, {"customer": name}, "hook") for name in "aabb"]
    await eventually(lambda: statuses(world, workflow), ["RUNNING", "QUEUED", "RUNNING", "QUEUED"])
    gate.set()
    for run in runs:
        assert (await world.finished(run))["status"] == "SUCCEEDED"


@pytest.mark.shows("EX-14", "EX-08")
async def test_a_queued_run_can_be_cancelled_and_never_begins(world: World) -> None:
    gate = closed(world, "work")
    workflow = await world.release(limited(concurrency={"limit": 1}))
    runs = [await world.call(workflow, {"n": n}, "hook") for n in range(3)]
    await eventually(lambda: statuses(world, workflow), ["RUNNING", "QUEUED", "QUEUED"])
    answer = await world.ask(CANCEL, id=str(runs[1]))
    assert answer["cancelExecution"]["status"] == "CANCELLED"
    gate.set()
    assert (await world.finished(runs[2]))["status"] == "SUCCEEDED"
    assert order(world, runs) == [0, 2]


@pytest.mark.shows("EX-14", "EX-17")
async def test_a_cancelled_holder_makes_room(world: World) -> None:
    closed(world, "work")
    workflow = await world.release(limited(concurrency={"limit": 1}))
    runs = [await world.call(workflow, {"n": n}, "hook") for n in range(2)]
    await eventually(lambda: statuses(world, workflow), ["RUNNING", "QUEUED"])
    await world.ask(CANCEL, id=str(runs[0]))
    await eventually(lambda: statuses(world, workflow), ["CANCELLED", "RUNNING"])
    await world.ask(CANCEL, id=str(runs[1]))


@pytest.mark.shows("EX-14")
async def test_drop_newest_leaves_a_run_that_says_which_limit_and_who_holds_it(world: World) -> None:
    gate = closed(world, "work")
    workflow = await world.release(limited(concurrency={"limit": 1, "onLimit": "dropNewest"}))
    first = await world.call(workflow, {}, "hook")
    await eventually(lambda: statuses(world, workflow), ["RUNNING"])
    second = await world.call(workflow, {}, "hook")
    dropped = await world.finished(second)
    assert (dropped["status"], dropped["error"]["code"], dropped["error"]["kind"]) == (
        "CANCELLED",
        "limit.concurrency",
        "limit",
    )
    (_, told) = await listed(world, workflow)
    assert told["error"]["detail"] == {"limit": 1, "holders": [str(first)]}
    gate.set()
    assert (await world.finished(first))["status"] == "SUCCEEDED"


@pytest.mark.shows("EX-14")
async def test_cancel_oldest_ends_the_one_that_runs_for_the_newest(world: World) -> None:
    gate = closed(world, "work")
    workflow = await world.release(limited(concurrency={"limit": 1, "onLimit": "cancelOldest"}))
    first = await world.call(workflow, {}, "hook")
    await eventually(lambda: statuses(world, workflow), ["RUNNING"])
    second = await world.call(workflow, {}, "hook")
    await eventually(lambda: statuses(world, workflow), ["CANCELLED", "RUNNING"])
    assert await codes(world, workflow) == ["limit.replaced", None]
    gate.set()
    assert (await world.finished(second))["status"] == "SUCCEEDED"
    assert order(world, [first, second]) == [0, 1]


@pytest.mark.shows("EX-14")
async def test_round_robin_takes_turns_between_groups(world: World) -> None:
    gate = closed(world, "work")
    limit = {"limit": 1, "onLimit": "roundRobin", "group": "{{ trigger.who }}"}
    workflow = await world.release(limited(concurrency=limit))
    runs = [await world.call(workflow, {"who": "a"}, "hook")]
    await eventually(lambda: statuses(world, workflow), ["RUNNING"])
    runs += [await world.call(workflow, {"who": who}, "hook") for who in "aabb"]
    await eventually(lambda: statuses(world, workflow), ["RUNNING", *["QUEUED"] * 4])
    gate.set()
    for run in runs:
        await world.finished(run)
    assert order(world, runs) == [0, 3, 1, 4, 2]


@pytest.mark.shows("EX-15")
async def test_a_singleton_skips_the_second_start(world: World) -> None:
    gate = closed(world, "work")
    workflow = await world.release(limited(singleton={}))
    first = await world.call(workflow, {}, "hook")
    await eventually(lambda: statuses(world, workflow), ["RUNNING"])
    second = await world.call(workflow, {}, "hook")
    assert (await world.finished(second))["error"]["code"] == "limit.concurrency"
    gate.set()
    assert (await world.finished(first))["status"] == "SUCCEEDED"
    third = await world.call(workflow, {}, "hook")
    assert (await world.finished(third))["status"] == "SUCCEEDED"


@pytest.mark.shows("EX-15")
async def test_throttle_spreads_starts_and_loses_none(world: World) -> None:
    workflow = await world.release(limited("work:set", throttle={"limit": 2, "period": "PT1S"}))
    runs = [await world.call(workflow, {"n": n}, "hook") for n in range(5)]
    for run in runs:
        assert (await world.finished(run))["status"] == "SUCCEEDED"
    rows = await world.ground.database.engine.fetch(
        "select v.run, v.at from execution.verdict v join execution.run r on r.id = v.run where r.workflow = $1",
        workflow,
    )
    starts = {row["run"]: row["at"] for row in rows}
    at = sorted(starts.values())
    assert all(later - sooner >= 1_000_000 for sooner, later in zip(at, at[2:], strict=False))
    assert sorted(starts, key=lambda run: starts[run]) == [run for run in runs if run in starts]


@pytest.mark.shows("EX-15")
async def test_a_rate_limit_refuses_and_says_when_to_come_again(world: World) -> None:
    workflow = await world.release(limited("work:set", rateLimit={"limit": 1, "period": "PT1H"}))
    first = await world.call(workflow, {}, "hook")
    assert (await world.finished(first))["status"] == "SUCCEEDED"
    second = await world.call(workflow, {}, "hook", mode="done", address="nobody")
    refused = await world.finished(second)
    assert (refused["status"], refused["error"]["code"]) == ("CANCELLED", "limit.rate")
    assert (refused["reply"]["status"], refused["reply"]["body"]["error"]["code"]) == (429, "limit.rate")


@pytest.mark.shows("EX-15")
async def test_debounce_runs_the_last_of_a_burst(world: World) -> None:
    workflow = await world.release(limited("work:set", debounce={"period": "PT1S"}))
    runs = [await world.call(workflow, {"n": n}, "hook") for n in range(4)]
    assert (await world.finished(runs[-1]))["status"] == "SUCCEEDED"
    assert await codes(world, workflow) == ["limit.debounced"] * 3 + [None]


@pytest.mark.shows("EX-15")
async def test_a_batch_is_one_run_with_the_items_of_all(world: World) -> None:
    workflow = await world.release(limited("work:set", batch={"size": 3, "timeout": "PT1H"}))
    runs = [await world.call(workflow, {"n": n}, "hook") for n in range(3)]
    gathered = await world.finished(runs[0])
    assert gathered["status"] == "SUCCEEDED"
    work = next(step for step in gathered["steps"] if step["node"] == "work")
    assert work["output"] == {"main": [{"n": 0}, {"n": 1}, {"n": 2}]}
    for run in runs[1:]:
        await world.finished(run)
    members = (await listed(world, workflow))[1:]
    assert [run["error"]["code"] for run in members] == ["limit.batched"] * 2
    assert [run["error"]["detail"] for run in members] == [{"by": str(runs[0])}] * 2


@pytest.mark.shows("EX-15")
async def test_a_batch_that_is_not_full_goes_on_after_its_timeout(world: World) -> None:
    workflow = await world.release(limited("work:set", batch={"size": 100, "timeout": "PT0.5S"}))
    runs = [await world.call(workflow, {"n": n}, "hook") for n in range(2)]
    assert (await world.finished(runs[0]))["status"] == "SUCCEEDED"
    assert (await world.finished(runs[1]))["error"]["code"] == "limit.batched"


@pytest.mark.shows("EX-14", "EX-15")
async def test_several_limits_are_passed_one_after_the_other(world: World) -> None:
    gate = closed(world, "work")
    settings: dict[str, Any] = {"throttle": {"limit": 100, "period": "PT1H"}, "concurrency": {"limit": 1}}
    workflow = await world.release(limited(**settings))
    runs = [await world.call(workflow, {"n": n}, "hook") for n in range(3)]
    await eventually(lambda: statuses(world, workflow), ["RUNNING", "QUEUED", "QUEUED"])
    gate.set()
    for run in runs:
        assert (await world.finished(run))["status"] == "SUCCEEDED"
    assert order(world, runs) == [0, 1, 2]


@pytest.mark.shows("EX-16")
async def test_in_a_queue_the_higher_priority_goes_first(world: World) -> None:
    gate = closed(world, "work")
    workflow = await world.release(limited(concurrency={"limit": 1}, priority="{{ trigger.p }}"))
    runs = [await world.call(workflow, {"p": 0}, "hook")]
    await eventually(lambda: statuses(world, workflow), ["RUNNING"])
    runs += [await world.call(workflow, {"p": p}, "hook") for p in (0, 5, -5, 5)]
    await eventually(lambda: statuses(world, workflow), ["RUNNING", *["QUEUED"] * 4])
    gate.set()
    for run in runs:
        await world.finished(run)
    assert order(world, runs) == [0, 2, 4, 1, 3]


@pytest.mark.shows("EX-14")
async def test_a_key_without_a_value_fails_the_run_typed(world: World) -> None:
    workflow = await world.release(limited(concurrency={"limit": 1, "key": "{{ trigger.absent.deep }}"}))
    run = await world.finished(await world.call(workflow, {}, "hook"))
    assert (run["status"], run["error"]["code"]) == ("FAILED", "limit.key")


@pytest.mark.shows("EX-14", "EX-17")
async def test_nothing_is_left_when_all_have_ended(world: World) -> None:
    workflow = await world.release(limited("work:set", concurrency={"limit": 2}))
    runs = [await world.call(workflow, {"n": n}, "hook") for n in range(20)]
    for run in runs:
        assert (await world.finished(run))["status"] == "SUCCEEDED"
    rows = "select count(*) from execution.{} where run = any($1::uuid[])"
    for table in ("ticket", "verdict", "inbox"):
        await eventually(partial(world.ground.database.engine.fetchval, rows.format(table), runs), 0)


@pytest.mark.shows("EX-14")
async def test_gates_hear_of_runs_at_once(world: World) -> None:
    """Nobody waits for the comparison of gates with their rows: each ticket is told, and so is its return."""
    workflow = await world.release(limited("work:set", concurrency={"limit": 1}))
    run = await world.call(workflow, {}, "hook")
    assert (await world.finished(run))["status"] == "SUCCEEDED"
    rows = await world.ground.database.engine.fetch(
        "select type from bus.log where tenant = $1 and convert_from(data, 'utf8') like $2 order by xid, seq",
        world.tenant,
        f"%{run}%",
    )
    told = [row["type"] for row in rows if row["type"].split(".")[1] in {"ticket", "verdict"}]
    assert told == ["execution.ticket.taken.v1", "execution.verdict.given.v1", "execution.ticket.returned.v1"]


@pytest.mark.shows("EX-14")
async def test_a_run_without_limits_has_no_ticket_and_asks_no_gate(world: World) -> None:
    workflow = await world.release(definition("hook:webhook", "work:set", edges="hook>work"))
    run = await world.call(workflow, {}, "hook")
    assert (await world.finished(run))["status"] == "SUCCEEDED"
    (chunk,) = await world.ground.database.engine.fetch("select data from execution.journal where run = $1", run)
    assert b"gates" not in chunk["data"]
    assert b"priority" not in chunk["data"]
    found = await world.ground.database.engine.fetchval(
        "select count(*) from bus.log where type like 'execution.ticket.%' and tenant = $1 "
        "and convert_from(data, 'utf8') like $2",
        world.tenant,
        f"%{run}%",
    )
    assert found == 0
