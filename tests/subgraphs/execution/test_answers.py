"""Waits that others than people end, or people by a form: forms, calls, events, and the list of what is open."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import httpx
import pytest

from subgraphs.platform.domain import uuid7
from tests.subgraphs.execution.test_approvals import HTML, door, link
from tests.subgraphs.execution.test_letters import WAITS, waiting
from tests.subgraphs.execution.world import World, definition, eventually, someone

__all__ = ["door"]

SCHEMA = {
    "type": "object",
    "required": ["name", "count"],
    "properties": {
        "name": {"type": "string", "title": "Your name", "minLength": 2},
        "count": {"type": "integer", "minimum": 1},
        "size": {"type": "string", "enum": ["S", "M"]},
        "agreed": {"type": "boolean"},
    },
}
SEND = """mutation($input: SendEventInput!) { sendEvent(input: $input) {
  __typename ... on SentEvent { id } ... on Problem { code } } }"""


async def asked(world: World, kind: str, **detail: Any) -> str:
    hold: Any = (f"ask:{kind}", {"name": "Order", "detail": detail}, {})
    graph = definition("a:manual", "send:call", hold, "c:set", edges="a>send send>ask ask>c")
    run: str = (await world.start(await world.release(graph), input={"n": 1}))["id"]
    await waiting(world, run, "ask")
    return run


async def result(world: World, run: str) -> Any:
    ended = await world.finished(run)
    assert ended["status"] == "SUCCEEDED"
    return {step["node"]: step for step in ended["steps"]}["c"]["input"]["main"][0]


@pytest.mark.shows("WF-22")
async def test_a_form_is_shown_checked_and_taken_as_its_fields_mean_it(world: World, door: httpx.AsyncClient) -> None:
    run = await asked(world, "form", schema=SCHEMA, description="What do you want?")
    path = link(world, run)
    page = await door.get(path, headers=HTML)
    assert page.status_code == 200
    assert 'name="count"' in page.text
    assert "Your name" in page.text
    wrong = await door.post(path, data={"name": "A", "count": "0"}, headers=HTML)
    assert wrong.status_code == 422
    assert wrong.text.count("class=wrong") == 2
    assert (await door.post(path, json={"name": "Ada"})).json()["fields"] == {"count": "This field is needed."}
    sent = {"name": "Ada", "count": "3", "size": "M", "agreed": "true"}
    assert (await door.post(path, data=sent, headers=HTML)).status_code == 200
    assert (await result(world, run))["form"] == {"name": "Ada", "count": 3, "size": "M", "agreed": True}
    assert (await door.post(path, json=sent)).json()["code"] in {"link_used", "run_ended"}


@pytest.mark.shows("WF-22")
async def test_a_call_to_the_url_of_a_step_ends_its_wait_with_what_it_brought(
    world: World, door: httpx.AsyncClient
) -> None:
    run = await asked(world, "callback")
    path = link(world, run)
    assert (await door.get(path)).status_code == 405
    headers = {"x-from": "bank", "authorization": "Bearer secret"}
    assert (await door.post(f"{path}?ref=7", json={"paid": True}, headers=headers)).status_code == 200
    told = (await result(world, run))["webhook"]
    assert (told["body"], told["query"], told["headers"]["x-from"]) == ({"paid": True}, {"ref": "7"}, "bank")
    assert "authorization" not in told["headers"]
    assert (await door.post(path, json={})).status_code == 410


@pytest.mark.shows("WF-22")
async def test_a_call_that_comes_before_the_step_waits_is_kept_for_it(world: World, door: httpx.AsyncClient) -> None:
    hold: Any = ("ask:callback", {"name": ""}, {})
    graph = definition("a:manual", "send:call", hold, "c:set", edges="a>send send>ask ask>c")
    gate = world.executor.gate("send")
    gate.clear()
    run = (await world.start(await world.release(graph)))["id"]
    await eventually(lambda: any(str(r.execution) == run and r.node == "send" for r in world.executor.requests))
    path = link(world, run)
    assert (await door.post(path, json={"fast": 1})).status_code == 200
    assert (await door.post(path, json={"fast": 2})).json()["code"] == "link_used"
    live = world.ground.ports["execution"].runs[UUID(run)]
    await eventually(lambda: len(live.early), 1)
    gate.set()
    assert (await result(world, run))["webhook"]["body"] == {"fast": 1}


@pytest.mark.shows("EX-19")
async def test_an_event_reaches_the_runs_whose_condition_it_meets_and_no_other_tenants(world: World) -> None:
    first = await asked(world, "event", match="event.sum > 10")
    second = await asked(world, "event", match="event.sum > 100")
    broken = await asked(world, "event", match="event.nothing.there")
    elsewhere = someone()
    words = {"type": "Order", "data": {"sum": 50}, "idempotencyKey": "e-1"}
    assert (await world.ask(SEND, elsewhere, input=words))["sendEvent"]["__typename"] == "SentEvent"
    sent = (await world.ask(SEND, input=words))["sendEvent"]
    assert (await world.ask(SEND, input=words))["sendEvent"] == sent
    assert (await world.ask(SEND, input=words | {"data": 1}))["sendEvent"]["code"] == "key_reused"
    told = (await result(world, first))["event"]
    assert (told["data"], told["id"]) == ({"sum": 50}, sent["id"])
    for run in (second, broken):
        assert len((await world.ask(WAITS, id=run))["execution"]["waits"]) == 1
    await world.ask(SEND, input={"type": "Order", "data": {"sum": 101}})
    assert (await result(world, second))["event"]["data"] == {"sum": 101}


@pytest.mark.shows("EX-19")
async def test_an_operator_answers_a_wait_and_open_waits_are_listed(world: World) -> None:
    run = await asked(world, "form", schema=SCHEMA)
    query = """query($kind: WaitKind) { executionWaits(kind: $kind, first: 100) { edges { node {
        node kind execution { id } } } } }"""
    edges = (await world.ask(query, kind="FORM"))["executionWaits"]["edges"]
    assert {"node": "ask", "kind": "FORM", "execution": {"id": run}} in [edge["node"] for edge in edges]
    assert (await world.ask(query, someone(), kind="FORM"))["executionWaits"]["edges"] == []
    answer = """mutation($input: AnswerWaitInput!) { answerWait(input: $input) {
        __typename ... on Problem { code } } }"""
    words = {"executionId": run, "node": "ask", "data": {"name": "by hand"}}
    assert (await world.ask(answer, someone("viewer", world.tenant), input=words))["answerWait"][
        "__typename"
    ] == "Forbidden"
    assert (await world.ask(answer, input=words | {"node": "c"}))["answerWait"]["code"] == "wait_missing"
    assert (await world.ask(answer, input=words | {"executionId": str(uuid7())}))["answerWait"]["code"] == "missing"
    assert (await world.ask(answer, input=words))["answerWait"]["__typename"] == "Execution"
    assert (await result(world, run))["form"] == {"name": "by hand"}
    rows = "select count(*) from execution.wait where run = $1"
    assert await world.ground.database.engine.fetchval(rows, UUID(run)) == 0
