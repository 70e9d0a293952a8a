"""Approvals: who may decide, by the graph and by a link, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from subgraphs.platform.domain import Caller, uuid7
from subgraphs.platform.server import application
from tests.subgraphs.execution.test_letters import waiting
from tests.subgraphs.execution.world import World, definition, eventually, someone

DECIDE = """mutation($input: AnswerApprovalInput!) { answerApproval(input: $input) {
  __typename ... on Execution { status } ... on Problem { code } } }"""
DELEGATE = """mutation($input: DelegateApprovalInput!) { delegateApproval(input: $input) {
  __typename ... on Problem { code } } }"""
OPEN = """query($id: ID!) { execution(id: $id) { waits { node kind name until detail approvers
  delegations { by { id } approver } } } }"""
HTML = {"accept": "text/html"}
JSON = {"accept": "application/json"}


def asking(**detail: Any) -> dict[str, Any]:
    hold: Any = ("ask:approval", {"name": "Pay?", "detail": detail}, {})
    return definition(
        "a:manual", "send:call", hold, "yes:set", "no:set", edges="a>send send>ask ask.approved>yes ask.rejected>no"
    )


async def asked(world: World, **detail: Any) -> str:
    run: str = (await world.start(await world.release(asking(**detail)), input={"n": 1}))["id"]
    await waiting(world, run, "ask")
    return run


async def decide(world: World, caller: Caller | None, run: str, approved: bool = True, **more: Any) -> Any:
    words = {"executionId": run, "node": "ask", "approved": approved, **more}
    return (await world.ask(DECIDE, caller, input=words))["answerApproval"]


def link(world: World, run: str) -> str:
    """The link a step could have sent before the run began to wait."""
    (sent,) = [r for r in world.executor.requests if str(r.execution) == run and r.node == "send"]
    url: str = sent.scope["execution"]["links"]["ask"]
    return url.removeprefix(world.ground.settings.public_url)


@pytest.fixture
async def door(world: World) -> AsyncIterator[httpx.AsyncClient]:
    app = application(world.ground, world.ground.subgraphs)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test/execution") as client:
        yield client


@pytest.mark.shows("EX-20", "WF-22")
async def test_a_named_approver_decides_and_others_do_not(world: World) -> None:
    approver, other = someone("operator", world.tenant), someone("editor", world.tenant)
    run = await asked(world, approvers=[str(approver.subject)], message="Really?")
    (wait,) = (await world.ask(OPEN, id=run))["execution"]["waits"]
    assert (wait["kind"], wait["name"], wait["approvers"]) == ("APPROVAL", "Pay?", [str(approver.subject)])
    assert (await decide(world, other, run))["code"] == "approver_other"
    assert (await decide(world, approver, run, comment="fine"))["__typename"] == "Execution"
    ended = await world.finished(run)
    steps = {step["node"]: step for step in ended["steps"]}
    assert (steps["yes"]["status"], steps["no"]["status"]) == ("SUCCEEDED", "SKIPPED")
    told = steps["yes"]["input"]["main"][0]["approval"]
    assert (told["approved"], told["comment"], told["by"]) == (True, "fine", str(approver.subject))
    assert (await decide(world, approver, run))["code"] == "execution_final"


@pytest.mark.shows("EX-20")
async def test_a_rejection_leaves_by_its_own_port_and_an_administrator_may_decide(world: World) -> None:
    run = await asked(world, approvers=[str(uuid7())])
    assert (await decide(world, None, run, approved=False))["__typename"] == "Execution"
    steps = {step["node"]: step["status"] for step in (await world.finished(run))["steps"]}
    assert (steps["yes"], steps["no"]) == ("SKIPPED", "SUCCEEDED")


@pytest.mark.shows("EX-20")
async def test_an_approver_delegates_and_who_may_not_decide_may_not_delegate(world: World) -> None:
    first, second = someone("operator", world.tenant), someone("operator", world.tenant)
    run = await asked(world, approvers=[str(first.subject)])
    words = {"executionId": run, "node": "ask", "userId": str(second.subject)}
    assert (await world.ask(DELEGATE, second, input=words))["delegateApproval"]["code"] == "approver_other"
    assert (await world.ask(DELEGATE, first, input=words))["delegateApproval"]["__typename"] == "Execution"
    (wait,) = (await world.ask(OPEN, id=run))["execution"]["waits"]
    assert wait["delegations"] == [{"by": {"id": str(first.subject)}, "approver": str(second.subject)}]
    assert (await decide(world, second, run))["__typename"] == "Execution"
    assert (await world.finished(run))["status"] == "SUCCEEDED"


@pytest.mark.shows("EX-20")
async def test_an_approval_escalates_when_its_time_has_passed(world: World) -> None:
    boss = someone("operator", world.tenant)
    named = [str(uuid7())]
    early = await asked(world, approvers=named, escalation={"after": 3600, "to": [str(boss.subject)]})
    late = await asked(world, approvers=named, escalation={"after": 0, "to": [str(boss.subject)]})
    assert (await decide(world, boss, early))["code"] == "approver_other"
    assert (await decide(world, boss, late))["__typename"] == "Execution"


@pytest.mark.shows("EX-20")
async def test_who_started_a_run_does_not_approve_it_unless_the_node_allows(world: World) -> None:
    run = await asked(world, approvers=[], allowSelf=False)
    assert (await decide(world, None, run))["code"] == "approver_self"
    assert (await decide(world, someone("admin", world.tenant), run))["__typename"] == "Execution"


@pytest.mark.shows("EX-20", "WF-22")
async def test_an_approval_nobody_decides_leaves_by_its_timeout(world: World) -> None:
    hold: Any = ("ask:approval", {"name": "Pay?"}, {"timeout": "PT0.5S"})
    graph = definition("a:manual", hold, "late:set", "yes:set", edges="a>ask ask.timeout>late ask.approved>yes")
    run = (await world.start(await world.release(graph)))["id"]
    steps = {step["node"]: step["status"] for step in (await world.finished(run))["steps"]}
    assert (steps["late"], steps["yes"]) == ("SUCCEEDED", "SKIPPED")


@pytest.mark.shows("EX-20")
async def test_a_link_shows_a_page_and_takes_one_decision(world: World, door: httpx.AsyncClient) -> None:
    run = await asked(world, approvers=["ada@example.com"], message="<b>1000</b> euro")
    path = link(world, run)
    for _ in range(2):
        shown = await door.get(path, headers=HTML)
        assert shown.status_code == 200
        assert "&lt;b&gt;1000&lt;/b&gt; euro" in shown.text
        assert "<script" not in shown.text
        assert "no-store" in shown.headers["cache-control"]
    assert (await door.head(path, headers=HTML)).status_code == 200
    answers = await asyncio.gather(*(door.post(path, data={"decision": "approved"}, headers=JSON) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [410] * 7
    assert {answer.json()["code"] for answer in answers if answer.status_code == 410} <= {"link_used", "run_ended"}
    ended = await world.finished(run)
    assert {step["node"]: step["status"] for step in ended["steps"]}["yes"] == "SUCCEEDED"
    used = await door.post(path, data={"decision": "rejected"}, headers=HTML)
    assert used.status_code == 410
    assert "answered already" in used.text


@pytest.mark.shows("EX-20")
async def test_forged_links_and_links_of_others_are_unknown(world: World, door: httpx.AsyncClient) -> None:
    first, second = await asked(world), await asked(world)
    good, other = link(world, first), link(world, second)
    token = good.rpartition("/")[2]
    forged = [token[:-2] + ("AA" if token[-2:] != "AA" else "BB"), token[1:], "A" * 120, "x", token + "A" * 4]
    mixed = other.rpartition("/")[2][: len(token) // 2] + token[len(token) // 2 :]
    for bad in [*forged, mixed]:
        answer = await door.post(f"/resume/{bad}", json={"decision": "approved"})
        assert (answer.status_code, answer.json()["code"]) == (404, "link_unknown"), bad
    assert (await door.put(good, json={})).status_code == 405
    assert (await door.post(good, json={"decision": "maybe"})).json()["code"] == "decision_missing"
    for path in (good, other):
        assert (await door.post(path, json={"decision": "approved"})).status_code == 200


@pytest.mark.shows("EX-20")
async def test_a_link_is_good_for_a_time_and_not_before_the_run_waits(world: World, door: httpx.AsyncClient) -> None:
    from subgraphs.execution.door.links import Links, Ticket

    gate = world.executor.gate("send")
    gate.clear()
    run = (await world.start(await world.release(asking())))["id"]
    await eventually(lambda: any(str(r.execution) == run and r.node == "send" for r in world.executor.requests))
    path = link(world, run)
    assert (await door.get(path)).json()["code"] == "wait_early"
    gate.set()
    await waiting(world, run, "ask")
    links = Links(world.ground.secrets, "")
    ticket = Ticket(world.tenant, UUID(run), "ask", 1, "approval", 1)
    assert (await door.get(links.url(ticket))).json()["code"] == "link_expired"
    assert (await door.post(path, json={"decision": "approved"})).status_code == 200
