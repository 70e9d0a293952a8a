"""Time travel: the state of a run after any of its events, and what an expression says there."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, get_args

import asyncpg
import pytest

from subgraphs.engine.run import Event
from subgraphs.engine.step import StepError
from subgraphs.execution import history, travel
from subgraphs.execution.schema.happenings import ExecutionEventType
from tests.subgraphs.execution.world import TYPES, World, definition, eventually, opened, someone

GRAPH = definition(
    "begin:manual", ("put:set", {"total": 7}, {}), "ask:call", "end:set", edges="begin>put put>ask ask>end"
)
AT = """query($id: ID!, $event: Int!) { execution(id: $id) { at(event: $event) {
  event events previous next status happened { seq type node }
  steps(first: 50) { edges { node { key name type status attempt input output error { code } } } }
  timers { name due } } } }"""
EVALUATE = """query($id: ID!, $event: Int!, $expression: String!, $node: String, $item: Int) { execution(id: $id) {
  at(event: $event) { scope(node: $node, item: $item)
    evaluate(expression: $expression, node: $node, item: $item) { value code message position } } } }"""
EVENTS = """query($id: ID!, $first: Int!, $after: String) { execution(id: $id) { events(first: $first, after: $after) {
  edges { cursor node { seq type node status at } } pageInfo { hasNextPage endCursor } } } }"""


@contextmanager
def dials() -> Iterator[list[Any]]:
    """Every connection to a host that this process opens meanwhile; the database's is a file."""
    made: list[Any] = []
    heard = [True]

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if heard[0] and event in {"socket.connect", "socket.getaddrinfo", "subprocess.Popen"}:
            address = arguments[1] if event == "socket.connect" else arguments[0]
            if not isinstance(address, str) or event != "socket.connect":
                made.append((event, address))

    sys.addaudithook(hear)
    yield made
    heard[0] = False


async def at(world: World, run: str, event: int) -> Any:
    return (await world.ask(AT, id=run, event=event))["execution"]["at"]


def steps(moment: Any) -> dict[str, Any]:
    return {edge["node"]["key"]: edge["node"] for edge in moment["steps"]["edges"]}


async def value(
    world: World, run: str, event: int, expression: str, node: str | None = None, item: int | None = None
) -> Any:
    words: dict[str, Any] = {"id": run, "event": event, "expression": expression, "node": node, "item": item}
    return (await world.ask(EVALUATE, **words))["execution"]["at"]["evaluate"]


@pytest.mark.shows("ES-04")
def test_every_kind_of_event_is_shown() -> None:
    kinds = get_args(Event)
    assert set(history.TYPES) == set(kinds)
    assert set(ExecutionEventType.__members__) == set(history.TYPES.values())


@pytest.mark.shows("ES-05", "ES-04")
async def test_every_moment_of_a_finished_run(world: World) -> None:
    """Forward and back over all events: the state is what the events up to there say."""
    workflow = await world.release(GRAPH)
    run = (await world.start(workflow, input={"who": "Ada"}))["id"]
    await world.finished(run)
    told = await world.events(run)
    asked = len(world.executor.requests)
    with dials() as made:
        seen = [await at(world, run, event["seq"]) for event in told]
        back = [await at(world, run, event["seq"]) for event in reversed(told)]
    assert back[::-1] == seen
    assert made == []
    assert len(world.executor.requests) == asked, "looking back asked the executor"
    for event, moment in zip(told, seen, strict=True):
        assert moment["happened"] == {"seq": event["seq"], "type": event["type"], "node": event["node"]}
        assert moment["status"] == event["status"]
        assert (moment["event"], moment["events"]) == (event["seq"], len(told))
    assert (seen[0]["previous"], seen[0]["next"], seen[-1]["next"]) == (None, 2, None)
    first, last = steps(seen[0]), steps(seen[-1])
    assert {key: step["status"] for key, step in first.items()} == {
        "begin": "SUCCEEDED", "put": "READY", "ask": "PENDING", "end": "PENDING",
    }  # fmt: skip
    assert first["put"]["input"] == {"main": [{"who": "Ada"}]}
    assert first["put"]["output"] == {}
    assert last["end"]["input"] == {"main": [{"called": "ask", "attempt": 1}]}
    assert {step["status"] for step in last.values()} == {"SUCCEEDED"}


@pytest.mark.shows("ES-05")
async def test_a_run_that_is_under_way_has_a_past(world: World) -> None:
    workflow = await world.release(GRAPH)
    gate = world.executor.gate("ask")
    gate.clear()
    try:
        run = (await world.start(workflow))["id"]
        await eventually(
            lambda: any(request.execution.hex == run.replace("-", "") for request in world.executor.requests)
        )
        moment = await at(world, run, 1)
        assert moment["status"] == "RUNNING"
        now = await at(world, run, moment["events"])
        assert steps(now)["ask"]["status"] == "RUNNING"
        assert now["next"] is None
    finally:
        gate.set()
    await world.finished(run)
    assert (await at(world, run, 1))["next"] == 2
    del world.executor.gates["ask"]


@pytest.mark.shows("ES-05")
async def test_failures_retries_and_timers_stand_where_they_stood(world: World) -> None:
    retry = {"retry": {"attempts": 2, "backoff": "fixed", "delay": "PT0.05S", "jitter": False}, "timeout": "PT5S"}
    graph = definition("begin:manual", ("flaky:call", {}, retry), edges="begin>flaky", settings={"timeout": "PT1H"})
    world.executor.faults["flaky"] = [StepError("test.flaky", "Not now.", "infrastructure")]
    workflow = await world.release(graph)
    run = (await world.start(workflow))["id"]
    await world.finished(run)
    told = await world.events(run)
    (failed,) = [event["seq"] for event in told if event["type"] == "STEP_FAILED"]
    moment = await at(world, run, failed)
    step = steps(moment)["flaky"]
    assert (step["status"], step["attempt"], step["error"]) == ("RETRYING", 1, {"code": "test.flaky"})
    assert [timer["name"] for timer in moment["timers"]] == ["retry:flaky", "run"]
    assert moment["status"] == "WAITING"
    ended = steps(await at(world, run, len(told)))["flaky"]
    assert (ended["status"], ended["attempt"]) == ("SUCCEEDED", 2)


@pytest.mark.shows("ES-05")
async def test_an_expression_is_evaluated_as_of_then(world: World) -> None:
    workflow = await world.release(GRAPH)
    run = (await world.start(workflow, input={"who": "Ada", "n": 2}))["id"]
    await world.finished(run)
    last = len(await world.events(run))
    assert (await value(world, run, 1, "item.who + '!'", "put"))["value"] == "Ada!"
    assert (await value(world, run, 1, "{{ item.who }} counts {{ item.n }}", "put"))["value"] == "Ada counts 2"
    assert (await value(world, run, last, "nodes.put.item.total + nodes.begin.item.n", "end"))["value"] == 9
    assert (await value(world, run, last, "execution.mode"))["value"] == "manual"
    too_early = await value(world, run, 1, "nodes.put.item.total", "end")
    assert (too_early["value"], too_early["code"]) == (None, "expression.no_such_key")
    wrong = await value(world, run, last, "1 + ")
    assert wrong["code"] == "expression.syntax"
    assert wrong["message"]
    costly = "[0,1,2,3,4,5,6,7,8,9]" + "".join(f".map(x{n}, [0,1,2,3,4,5,6,7,8,9]" for n in range(6)) + ")" * 6
    assert (await value(world, run, last, costly))["code"] == "expression.limit"
    scope = (await world.ask(EVALUATE, id=run, event=2, expression="1", node="ask", item=0))["execution"]["at"]["scope"]
    assert scope["item"] == {"who": "Ada", "n": 2, "total": 7}
    assert scope["nodes"] == ["begin", "put"]
    assert scope["trigger"] == {"who": "Ada", "n": 2}


@pytest.mark.shows("ES-05")
async def test_rounds_of_a_loop_are_seen_while_they_last(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TYPES, "core.loop@1", {"effect": "pure"})
    graph = definition(
        "begin:manual", "each:loop", "put:call", "end:set", edges="begin>each each.each>put put>each each.done>end"
    )
    graph["connections"][2]["input"] = "next"
    run = (await world.start(await world.release(graph), input={"who": "Ada"}))["id"]
    found = await world.finished(run)
    assert [(step["node"], step["status"]) for step in found["steps"]] == [
        (node, "SUCCEEDED") for node in ("begin", "put", "each", "end")
    ]
    told = [(event["type"], event["nodes"]) for event in await world.events(run)]
    began = told.index(("STEP_STARTED", ["put@0"])) + 1
    assert steps(await at(world, run, began))["put@0"]["input"] == {"main": [{"who": "Ada"}]}
    assert (await value(world, run, began, "nodes.begin.item.who", "put@0"))["value"] == "Ada"
    assert "put@0" not in steps(await at(world, run, len(told)))


@pytest.mark.shows("ES-05")
async def test_what_never_was_is_refused(world: World) -> None:
    workflow = await world.release(GRAPH)
    run = (await world.start(workflow))["id"]
    await world.finished(run)
    for words, code in (
        ({"event": 0}, "event_unknown"),
        ({"event": 99}, "event_unknown"),
        ({"event": 1, "node": "nobody"}, "node_unknown"),
        ({"event": 1, "node": "put", "item": 5}, "item_unknown"),
        ({"event": 1, "expression": "1" * 5000}, "too_long"),
    ):
        variables = {"id": run, "expression": "1", "node": None, "item": None, **words}
        result = await world.subgraph.schema.execute(EVALUATE, variables, context_value=world.context())
        assert result.errors
        assert getattr(result.errors[0].original_error, "code", None) == code, words


@pytest.mark.shows("ES-05")
async def test_events_come_in_pages(world: World) -> None:
    workflow = await world.release(GRAPH)
    run = (await world.start(workflow))["id"]
    await world.finished(run)
    told = [(event["seq"], event["type"], event["node"]) for event in await world.events(run)]
    seen: list[Any] = []
    after, more = None, True
    while more:
        page = (await world.ask(EVENTS, id=run, first=2, after=after))["execution"]["events"]
        seen += [(edge["node"]["seq"], edge["node"]["type"], edge["node"]["node"]) for edge in page["edges"]]
        after, more = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]
    assert seen == told


@pytest.mark.shows("ES-15")
async def test_todays_rights_decide_about_the_past(world: World) -> None:
    """Of another tenant, or without the scope, there is no past, whoever started the run then."""
    workflow = await world.release(GRAPH)
    run = (await world.start(workflow))["id"]
    await world.finished(run)
    for document, words in ((AT, {"event": 1}), (EVENTS, {"first": 5, "after": None})):
        assert (await world.ask(document, someone(), id=run, **words))["execution"] is None
        context = world.context(
            type(world.caller)(world.caller.subject, world.tenant, None, "", frozenset(), frozenset())
        )
        result = await world.subgraph.schema.execute(document, {"id": run, **words}, context_value=context)
        assert result.errors
        assert getattr(result.errors[0].original_error, "code", None) == "scope_missing"


@pytest.mark.shows("ES-05", "ES-03")
async def test_a_long_run_is_folded_from_the_nearest_snapshot(
    fresh_settings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with snapshots, without any, and with those that looking back leaves behind."""
    monkeypatch.setattr(travel, "APART", 50)
    nodes = ["begin:manual", *(f"n{n}:{'call' if n == 150 else 'set'}" for n in range(300))]
    edges = " ".join(["begin>n0", *(f"n{n}>n{n + 1}" for n in range(299))])
    async with opened(await fresh_settings()) as world:
        workflow = await world.release(definition(*nodes, edges=edges))
        run = (await world.start(workflow))["id"]
        await asyncio.wait_for(world.finished(run), 60)
        admin = await asyncpg.connect(world.ground.settings.dsn("lf_admin"))
        await admin.execute("delete from execution.snapshot")
        bare = [await at(world, run, event) for event in (40, 250, 251, 303)]
        left = [row["version"] for row in await admin.fetch("select version from execution.snapshot order by 1")]
        assert left == [50, 100, 150, 200, 250, 300]
        assert [await at(world, run, event) for event in (40, 250, 251, 303)] == bare
        cut = await admin.execute("delete from execution.journal where version < 200")
        assert cut != "DELETE 0"
        assert await at(world, run, 303) == bare[-1], "the fold began at the beginning"
        await admin.close()
