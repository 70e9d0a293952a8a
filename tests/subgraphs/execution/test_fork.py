"""A run that goes on from where another stood, with other data; the original stays as it is."""

from __future__ import annotations

from typing import Any

import pytest

from subgraphs.platform.domain import uuid7
from tests.subgraphs.execution.world import World, definition, someone

GRAPH = definition(
    "begin:manual", ("put:set", {"total": 7}, {}), "ask:call", "tell:call", "end:set",
    edges="begin>put put>ask ask>tell tell>end",
)  # fmt: skip
FORK = """mutation($input: ForkExecutionInput!) { forkExecution(input: $input) { __typename
  ... on Execution { id position rerunOf { id } } ... on Problem { code message field } } }"""
JOURNAL = "select md5(string_agg(encode(data, 'hex'), ',' order by version)) from execution.journal where run = $1"


async def ran(world: World) -> tuple[str, list[dict[str, Any]]]:
    run = (await world.start(await world.release(GRAPH), input={"who": "Ada"}))["id"]
    await world.finished(run)
    return run, await world.events(run)


def after(events: list[dict[str, Any]], node: str) -> int:
    return next(event["seq"] for event in events if event["type"] == "STEP_SUCCEEDED" and event["node"] == node)


async def forked(world: World, run: str, event: int, **words: Any) -> dict[str, Any]:
    made = (await world.ask(FORK, input={"executionId": run, "event": event, **words}))["forkExecution"]
    assert made["__typename"] == "Execution", made
    assert made["rerunOf"] == {"id": run}
    return await world.finished(made["id"])


def called(world: World, run: dict[str, Any]) -> list[str]:
    return [request.node for request in world.executor.requests if str(request.execution) == run["id"]]


def outputs(run: dict[str, Any]) -> dict[str, Any]:
    return {step["node"]: (step["output"] or {}).get("main") for step in run["steps"]}


@pytest.mark.shows("ES-06", "EX-11")
async def test_what_was_done_up_to_the_event_is_not_done_again(world: World) -> None:
    run, events = await ran(world)
    before = await world.ground.database.engine.fetchval(JOURNAL, run)
    fork = await forked(world, run, after(events, "ask"))
    assert fork["status"] == "SUCCEEDED"
    assert called(world, fork) == ["tell"]
    assert outputs(fork)["ask"] == [{"called": "ask", "attempt": 1}]
    assert await world.ground.database.engine.fetchval(JOURNAL, run) == before


@pytest.mark.shows("ES-06")
async def test_an_edit_flows_on_to_what_follows(world: World) -> None:
    run, events = await ran(world)
    edit = {"key": "ask", "items": [{"called": "me"}, {"called": "you"}]}
    fork = await forked(world, run, len(events), edits=[edit])
    assert outputs(fork)["ask"] == edit["items"]
    assert called(world, fork) == ["tell"], "what follows from an edit is done anew, what was before it is not"
    edit = {"key": "begin", "items": [{"who": "Bob"}]}
    whole = await forked(world, run, 1, edits=[edit])
    assert whole["trigger"]["items"] == [{"who": "Bob"}]
    assert outputs(whole)["put"] == [{"who": "Bob", "total": 7}]
    assert called(world, whole) == ["ask", "tell"]


@pytest.mark.shows("ES-06")
async def test_effects_may_come_from_the_record(world: World) -> None:
    """Then nothing outside is asked at all, also where steps follow from an edit."""
    run, _ = await ran(world)
    fork = await forked(world, run, 1, edits=[{"key": "begin", "items": [{"who": "Bob"}]}], effects="RECORD")
    assert fork["status"] == "SUCCEEDED"
    assert called(world, fork) == []
    assert outputs(fork)["ask"] == [{"called": "ask", "attempt": 1}]
    assert outputs(fork)["put"] == [{"who": "Bob", "total": 7}]


@pytest.mark.shows("EX-11")
async def test_a_fork_may_run_by_a_newer_release(world: World) -> None:
    workflow = await world.release(GRAPH)
    run = (await world.start(workflow))["id"]
    await world.finished(run)
    events = await world.events(run)
    changed = definition(
        "begin:manual", ("put:set", {"total": 7}, {}), "ask:call", ("end:set", {"new": True}, {}),
        edges="begin>put put>ask ask>end",
    )  # fmt: skip
    await world.release(changed, 2, workflow)
    fork = await forked(world, run, after(events, "ask"), release=2)
    assert (fork["status"], fork["release"]) == ("SUCCEEDED", 2)
    assert called(world, fork) == []
    assert outputs(fork)["end"] == [{"called": "ask", "attempt": 1, "new": True}]


@pytest.mark.shows("ES-06", "CQ-07")
async def test_the_same_key_gives_the_same_fork(world: World) -> None:
    run, events = await ran(world)
    words = {"executionId": run, "event": after(events, "ask"), "idempotencyKey": str(uuid7())}
    first, second = [(await world.ask(FORK, input=words))["forkExecution"] for _ in range(2)]
    assert first["id"] == second["id"]
    other = (await world.ask(FORK, input=words | {"event": 1}))["forkExecution"]
    assert (other["__typename"], other["code"]) == ("Conflict", "key_reused")


@pytest.mark.shows("ES-06")
async def test_what_cannot_be_forked_is_refused(world: World) -> None:
    run, events = await ran(world)
    for words, kind, code in (
        ({"event": len(events) + 1}, "Invalid", "event_unknown"),
        ({"event": 1, "edits": [{"key": "ask", "items": [{}]}]}, "Invalid", "fork_impossible"),
        ({"event": 1, "edits": [{"key": "begin", "items": [1]}]}, "Invalid", "items_malformed"),
        ({"event": 1, "edits": [{"key": "begin", "items": [{}]}] * 101}, "Invalid", "edits_many"),
        ({"event": 1, "release": 9}, "Missing", "release_missing"),
    ):
        found = (await world.ask(FORK, input={"executionId": run, **words}))["forkExecution"]
        assert (found["__typename"], found["code"]) == (kind, code), words
    stranger = (await world.ask(FORK, someone(), input={"executionId": run, "event": 1}))["forkExecution"]
    assert stranger["__typename"] == "Missing"
    viewer = await world.ask(FORK, someone("viewer", world.tenant), input={"executionId": run, "event": 1})
    assert viewer["forkExecution"]["code"] == "scope_missing"
