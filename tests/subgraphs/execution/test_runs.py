"""Runs from end to end on PostgreSQL: started, stepped, retried, cancelled, repeated."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from subgraphs.engine.step import StepError, StepRequest
from subgraphs.platform.domain import Event, uuid7
from tests.subgraphs.execution.world import TYPES, World, definition, eventually, someone

CHAIN = definition("a:manual", ("b:set", {"x": 1}, {}), "c:set", edges="a>b b>c")


@pytest.mark.shows("EX-01", "EX-03")
async def test_a_manual_start_runs_to_its_end_and_is_opened_whole(world: World) -> None:
    workflow = await world.release(CHAIN)
    begun = await world.start(workflow, input={"who": "me"})
    assert begun["__typename"] == "Execution"
    run = await world.finished(begun["id"])
    assert (run["status"], run["mode"], run["release"], run["workflowName"]) == ("SUCCEEDED", "MANUAL", 1, "Test")
    assert run["workflow"] == {"id": str(workflow)}
    assert run["startedBy"] == {"id": str(world.caller.subject)}
    assert run["trigger"] == {"node": "a", "items": [{"who": "me"}]}
    steps = {step["node"]: step for step in run["steps"]}
    assert [step["status"] for step in run["steps"]] == ["SUCCEEDED"] * 3
    assert steps["c"]["input"] == {"main": [{"who": "me", "x": 1}]} == steps["c"]["output"]
    assert steps["b"]["name"] == "B"
    assert [attempt["number"] for attempt in steps["b"]["attempts"]] == [1]


@pytest.mark.shows("EX-01")
async def test_branches_run_side_by_side_and_a_join_waits_for_all(world: World) -> None:
    graph = definition("a:manual", "left:call", "right:call", "join:set", edges="a>left a>right left>join right>join")
    left, right = world.executor.gate("left"), world.executor.gate("right")
    begun = await world.start(await world.release(graph))
    seen = []
    async for event in world.stream(begun["id"]):
        seen.append((event["type"], event["node"]))
        if seen[-2:] == [("STEP_STARTED", "left"), ("STEP_STARTED", "right")]:
            right.set()
        if event["node"] == "right" and event["type"] == "STEP_SUCCEEDED":
            left.set()
    assert seen == [
        ("STARTED", "a"),
        ("STEP_STARTED", "left"),
        ("STEP_STARTED", "right"),
        ("STEP_SUCCEEDED", "right"),
        ("STEP_SUCCEEDED", "left"),
        ("STEP_SUCCEEDED", "join"),
        ("FINISHED", None),
    ]
    run = await world.finished(begun["id"])
    assert [item["called"] for item in run["steps"][3]["output"]["main"]] == ["left", "right"]


@pytest.mark.shows("EX-04")
async def test_every_attempt_of_a_retried_step_is_visible(world: World) -> None:
    retry = {"retry": {"attempts": 3, "delay": "PT0.05S", "jitter": False}}
    graph = definition("a:manual", ("flaky:call", {}, retry), edges="a>flaky")
    world.executor.faults["flaky"] = [StepError("net.reset", "Reset.", "infrastructure")] * 2
    begun = await world.start(await world.release(graph))
    run = await world.finished(begun["id"])
    (_, step) = run["steps"]
    assert [(a["number"], a["error"] and a["error"]["code"]) for a in step["attempts"]] == [
        (1, "net.reset"),
        (2, "net.reset"),
        (3, None),
    ]
    keys = {r.idempotency_key for r in world.executor.requests if str(r.execution) == begun["id"]}
    assert keys == {f"{begun['id']}:flaky"}
    assert len({r.now for r in world.executor.requests if str(r.execution) == begun["id"]}) == 1


@pytest.mark.shows("EX-21")
async def test_a_wait_fires_when_due_and_holds_nothing_meanwhile(world: World) -> None:
    graph = definition("a:manual", ("pause:wait", {"seconds": 2.5}, {}), "c:set", edges="a>pause pause>c")
    begun = await world.start(await world.release(graph))
    stream = world.stream(begun["id"])
    async for event in stream:
        if event["type"] == "STEP_WAITING":
            break
    assert (await world.ask("query($id: ID!) { execution(id: $id) { status } }", id=begun["id"]))["execution"] == {
        "status": "WAITING"
    }
    runner = world.ground.ports["execution"]
    await eventually(lambda: UUID(begun["id"]) not in runner.runs)
    run = await world.finished(begun["id"])
    assert run["status"] == "SUCCEEDED"
    waited = run["steps"][1]["durationMs"]
    assert 2500 <= waited < 3500


@pytest.mark.shows("EX-10")
async def test_a_run_that_takes_too_long_times_out_and_its_bodies_stop(world: World) -> None:
    graph = definition("a:manual", "slow:call", edges="a>slow", settings={"timeout": "PT1S"})
    world.executor.gate("slow")
    begun = await world.start(await world.release(graph))
    run = await world.finished(begun["id"])
    assert (run["status"], run["error"]["code"]) == ("TIMED_OUT", "execution.timeout")
    assert "slow" in world.executor.stopped


@pytest.mark.shows("EX-08")
async def test_cancel_stops_running_bodies_and_is_told_once(world: World) -> None:
    graph = definition("a:manual", "long:call", edges="a>long")
    world.executor.gate("long")
    begun = await world.start(await world.release(graph))
    cancel = """mutation($id: ID!) { cancelExecution(input: {executionId: $id, reason: "enough"}) {
        __typename ... on Execution { status } ... on Problem { code } } }"""
    async for event in world.stream(begun["id"]):
        if event["type"] == "STEP_STARTED":
            answer = await world.ask(cancel, id=begun["id"])
            assert answer["cancelExecution"] == {"__typename": "Execution", "status": "CANCELLED"}
    run = await world.finished(begun["id"])
    assert (run["status"], run["error"]["message"]) == ("CANCELLED", "enough")
    assert run["steps"][1]["status"] == "CANCELLED"
    await eventually(lambda: "long" in world.executor.stopped)
    assert (await world.ask(cancel, id=begun["id"]))["cancelExecution"]["__typename"] == "Execution"
    await eventually(lambda: mail(world, begun["id"]), 0)
    await eventually(lambda: UUID(begun["id"]) not in world.ground.ports["execution"].runs)


async def mail(world: World, run: str) -> Any:
    query = "select count(*) from execution.inbox where run = $1"
    return await world.ground.database.engine.fetchval(query, UUID(run))


@pytest.mark.shows("EX-10")
async def test_a_node_over_its_total_time_fails_and_its_body_is_stopped(world: World) -> None:
    graph = definition("a:manual", ("long:call", {}, {"totalTimeout": "PT0.3S"}), edges="a>long")
    world.executor.gate("long")
    begun = await world.start(await world.release(graph))
    run = await world.finished(begun["id"])
    assert (run["status"], run["error"]["code"]) == ("FAILED", "step.total_timeout")
    await eventually(lambda: "long" in world.executor.stopped)


@pytest.mark.shows("EX-08")
async def test_a_finished_run_cannot_be_cancelled(world: World) -> None:
    begun = await world.start(await world.release(CHAIN))
    await world.finished(begun["id"])
    answer = await world.ask(
        "mutation($id: ID!) { cancelExecution(input: {executionId: $id}) { __typename ... on Problem { code } } }",
        id=begun["id"],
    )
    assert answer["cancelExecution"] == {"__typename": "Conflict", "code": "execution_final"}


@pytest.mark.shows("EX-05")
async def test_a_failing_step_stops_the_run_with_its_typed_error(world: World) -> None:
    graph = definition("a:manual", "bad:call", "after:set", edges="a>bad bad>after")
    world.executor.faults["bad"] = [StepError("http.status.404", "Not found.", "user")]
    run = await world.finished((await world.start(await world.release(graph)))["id"])
    assert (run["status"], run["error"]) == (
        "FAILED",
        {"code": "http.status.404", "message": "Not found.", "kind": "user"},
    )
    assert [(step["node"], step["status"]) for step in run["steps"]] == [
        ("a", "SUCCEEDED"),
        ("bad", "FAILED"),
        ("after", "PENDING"),
    ]


@pytest.mark.shows("EX-13")
async def test_the_same_key_and_input_give_the_same_run_and_other_input_a_conflict(world: World) -> None:
    workflow = await world.release(CHAIN)
    starts = [world.start(workflow, input={"n": 1}, idempotencyKey="k-1") for _ in range(20)]
    answers = await asyncio.gather(*starts)
    assert len({answer["id"] for answer in answers}) == 1
    other = await world.start(workflow, input={"n": 2}, idempotencyKey="k-1")
    assert (other["__typename"], other["code"], other["field"]) == ("Conflict", "key_reused", "idempotencyKey")
    await world.finished(answers[0]["id"])
    count = await world.ground.database.engine.fetchval(
        "select count(*) from execution.run where workflow = $1", workflow
    )
    assert count == 1


@pytest.mark.shows("EX-13")
async def test_racing_starts_of_one_key_with_different_input_have_one_winner(world: World) -> None:
    workflow = await world.release(CHAIN)
    for turn in range(5):
        starts = [world.start(workflow, input={"n": n % 2}, idempotencyKey=f"race-{turn}") for n in range(10)]
        answers = await asyncio.gather(*starts)
        won = {answer["id"] for answer in answers if answer["__typename"] == "Execution"}
        assert len(won) == 1
        assert sum(answer["__typename"] == "Conflict" for answer in answers) == 5


async def test_a_rerun_repeats_trigger_items_and_release_and_names_its_original(world: World) -> None:
    workflow = await world.release(CHAIN)
    first = await world.start(workflow, input={"n": 7})
    await world.finished(first["id"])
    answer = await world.ask(
        "mutation($id: ID!) { rerunExecution(input: {executionId: $id}) { ... on Execution { id } } }", id=first["id"]
    )
    run = await world.finished(answer["rerunExecution"]["id"])
    assert run["rerunOf"] == {"id": first["id"]}
    assert run["trigger"] == {"node": "a", "items": [{"n": 7}]}


async def test_a_draft_runs_from_its_event_and_can_be_opened_and_repeated(world: World) -> None:
    data = {
        "workflowId": str(uuid7()),
        "name": "Sketch",
        "revision": 4,
        "definition": CHAIN,
        "nodeTypes": TYPES,
        "trigger": None,
        "input": {"n": 1},
        "startedBy": str(world.caller.subject),
        "key": None,
    }
    made = await world.publish("workflow.draft.requested.v1", uuid7(), data)
    run = await world.finished(made)
    assert (run["mode"], run["release"], run["revision"], run["workflowName"]) == ("DRAFT", None, 4, "Sketch")
    answer = await world.ask(
        "mutation($id: ID!) { rerunExecution(input: {executionId: $id}) { ... on Execution { id } } }", id=str(made)
    )
    assert (await world.finished(answer["rerunExecution"]["id"]))["status"] == "SUCCEEDED"


@pytest.mark.shows("WH-19")
async def test_a_reply_goes_to_the_replica_that_holds_the_caller(world: World) -> None:
    graph = definition("hook:webhook", "answer:respond", "after:call", edges="hook>answer answer>after")
    workflow = await world.release(graph)
    heard: asyncio.Queue[Event] = asyncio.Queue()
    stop = world.ground.bus.listen(["execution.execution.replied.v1"], heard.put_nowait)
    gate = world.executor.gate("after")
    made = await world.call(workflow, {"body": {"n": 1}}, "hook", mode="node", address="replica-1")
    reply = (await asyncio.wait_for(heard.get(), 10)).data
    stop()
    assert (reply["executionId"], reply["address"], reply["status"]) == (str(made), "replica-1", 201)
    assert reply["body"] == {"body": {"n": 1}}
    gate.set()
    run = await world.finished(made)
    assert run["reply"]["status"] == 201
    assert run["mode"] == "WEBHOOK"


async def test_a_start_is_refused_with_what_is_wrong(world: World) -> None:
    graph = {**CHAIN, "inputs": [{"name": "who", "type": "string", "required": True}]}
    workflow = await world.release(graph)
    missing = await world.start(workflow)
    assert (missing["__typename"], missing["field"]) == ("Invalid", "input.who")
    wrong = await world.start(workflow, input={"who": 3})
    assert (wrong["__typename"], wrong["field"]) == ("Invalid", "input.who")
    assert (await world.start(workflow, input=[1]))["code"] == "input_not_object"
    assert (await world.start(workflow, trigger="b", input={"who": "x"}))["field"] == "trigger"
    assert (await world.start(workflow, release=9, input={"who": "x"}))["__typename"] == "Missing"
    assert (await world.start(UUID(int=5)))["__typename"] == "Missing"


async def test_a_viewer_may_watch_and_not_start(world: World) -> None:
    workflow = await world.release(CHAIN)
    viewer = someone("viewer", world.tenant)
    document = "mutation($w: ID!) { startExecution(input: {workflowId: $w}) { __typename } }"
    answer = await world.ask(document, viewer, w=str(workflow))
    assert answer["startExecution"] == {"__typename": "Forbidden"}


async def test_an_unrunnable_start_ends_as_a_failed_run_that_says_why(world: World) -> None:
    data = {"workflowId": str(uuid7()), "name": "X", "definition": {"nodes": []}, "nodeTypes": {}}
    made = await world.publish("workflow.draft.requested.v1", uuid7(), data)
    run = await world.finished(made)
    assert (run["status"], run["error"]["code"]) == ("FAILED", "execution.unrunnable")


async def test_finished_runs_are_counted_by_how_they_ended(world: World) -> None:
    def counted(status: str) -> float:
        value = world.ground.telemetry.metrics.registry.get_sample_value
        return value("workflow_executions_total", {"status": status}) or 0.0

    before = counted("SUCCEEDED"), counted("FAILED")
    await world.finished((await world.start(await world.release(CHAIN)))["id"])
    world.executor.faults["bad"] = [StepError("test.bad", "Bad.")]
    bad = await world.release(definition("a:manual", "bad:call", edges="a>bad"))
    await world.finished((await world.start(bad))["id"])
    assert (counted("SUCCEEDED"), counted("FAILED")) == (before[0] + 1, before[1] + 1)


async def test_what_the_database_refuses_ends_the_run_typed_and_others_go_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timer name no text column takes: the flush that carries it fails alone."""
    graph = definition("a:manual", "b:call", ("pause:wait", {"seconds": 60}, {}), edges="a>b b>pause")
    gate = world.executor.gate("b")
    gate.clear()
    begun = await world.start(await world.release(graph))
    live = world.ground.ports["execution"].runs[UUID(begun["id"])]
    live.run.timers["bad\x00name"] = 2**52
    gate.set()
    other = await world.start(await world.release(CHAIN))
    assert (await world.finished(other["id"]))["status"] == "SUCCEEDED"
    run = await world.finished(begun["id"])
    assert (run["status"], run["error"]["code"]) == ("FAILED", "execution.unstorable")


@pytest.mark.shows("EX-01")
async def test_a_body_starts_only_after_the_commit_that_says_so(world: World) -> None:
    seen: list[bool] = []

    async def probe(request: StepRequest) -> None:
        rows = await world.ground.database.engine.fetch(
            "select data from execution.journal where run = $1 order by version", request.execution
        )
        text = b"".join(bytes(row["data"]) for row in rows).decode()
        inputs = all(f'"node":"{name}"' in text for name in {"b": ("b",), "d": ("b", "c", "d")}[request.node])
        seen.append(inputs and f'"e":"step.started.v1","at":{at(text, request.node)}' in text)

    def at(text: str, node: str) -> str:
        return text.split(f',"node":"{node}","attempt":1}}')[0].rpartition('"at":')[2]

    world.executor.gates = {}
    world.executor.watch = probe
    graph = definition("a:manual", "b:call", "c:set", "d:call", edges="a>b b>c c>d")
    try:
        run = await world.finished((await world.start(await world.release(graph)))["id"])
    finally:
        world.executor.watch = None
    assert run["status"] == "SUCCEEDED"
    assert seen == [True, True]


def _deep() -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for _ in range(20_000):
        nested = {"n": nested}
    return nested


@pytest.mark.parametrize("output", [{"o": object()}, {"s": "\ud800"}, _deep()], ids=["object", "surrogate", "deep"])
async def test_output_that_is_no_json_fails_its_step_and_nothing_else(world: World, output: dict[str, Any]) -> None:
    world.executor.outputs["odd"] = output
    workflow = await world.release(definition("a:manual", "odd:set", edges="a>odd"))
    run = await world.finished((await world.start(workflow))["id"])
    assert (run["status"], run["error"]["code"]) == ("FAILED", "step.output_invalid")
    continued = definition("a:manual", ("odd:set", {}, {"onError": "output"}), "c:set", edges="a>odd odd.error>c")
    run = await world.finished((await world.start(await world.release(continued)))["id"])
    assert run["status"] == "SUCCEEDED"
