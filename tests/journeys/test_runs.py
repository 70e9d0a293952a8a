"""Runs: started by hand and by webhook, watched live over three protocols, cancelled, run again, listed, opened."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from typing import Any

import pytest

from subgraphs.platform.demo import github_push
from tests.journeys.person import Person, chain, example, greeting, node
from tests.router.clients import HEARTBEAT, PROTOCOLS, opened

CROSSING = """subscription ($id: ID!, $after: Int!) { executionEvents(executionId: $id, afterSeq: $after) {
  seq last execution { id workflow { id name } startedBy { name email } } } }"""
SLOW = chain(
    node("begin", "manual"),
    *(node(f"w{n}", "wait", {"for": "duration", "duration": "PT0.3S"}) for n in range(5)),
)


@pytest.mark.shows("EX-01")
async def test_a_run_is_started_watched_and_opened(ada: Person) -> None:
    id = await ada.workflow(greeting("PT0.2S"), name="Greeting")
    run = await ada.start(id, input={"who": "Ada"})
    events = await ada.watched(run)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["last"] for event in events] == [False] * (len(events) - 1) + [True]
    assert (events[0]["type"], events[-1]["type"], events[-1]["status"]) == ("STARTED", "FINISHED", "SUCCEEDED")
    assert "hello Hello Ada" in [line["text"] for event in events for line in event["lines"]]
    found = await ada.open(run)
    assert (found["status"], found["mode"], found["release"], found["workflowName"]) == (
        "SUCCEEDED",
        "MANUAL",
        1,
        "Greeting",
    )
    assert found["workflow"] == {"id": id, "name": "Greeting"}
    assert found["startedBy"]["name"] == "Ada"
    steps = {step["node"]: step for step in found["steps"]}
    assert {step["status"] for step in steps.values()} == {"SUCCEEDED"}
    assert "Hello Ada" in json.dumps(steps["greet"]["output"])
    assert "Ada" in json.dumps(steps["greet"]["input"])
    assert [line["text"] for line in steps["say"]["lines"]] == ["hello Hello Ada"]
    assert steps["pause"]["durationMs"] >= 200
    assert steps["say"]["attempts"][0]["number"] == 1


@pytest.mark.shows("WH-01", "WH-08", "WH-19")
async def test_a_github_push_runs_a_workflow_and_gets_its_answer(ada: Person) -> None:
    id = await ada.workflow(example("github-push"), name="GitHub push")
    endpoint = await ada.endpoint(id)
    secret = "a secret of thirty-two characters!"
    selection = "... on Endpoint { id auth preset secretSet state }"
    words = {"endpointId": endpoint["id"], "auth": "HMAC", "preset": "GITHUB", "secret": secret}
    configured = await ada.change("configureEndpoint", selection, **words)
    assert (configured["secretSet"], configured["state"]) == (True, "ACTIVE")
    body = json.dumps(github_push()).encode()
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "content-type": "application/json",
        "x-github-event": "push",
        "x-hub-signature-256": f"sha256={signature}",
    }
    path = "/hooks/" + endpoint["url"].rpartition("/hooks/")[2]
    forged = await ada.http.post(path, content=body, headers=headers | {"x-hub-signature-256": "sha256=" + "0" * 64})
    assert forged.status_code == 401
    answer = await ada.http.post(path, content=body, headers=headers | {"x-github-delivery": "delivery-1"})
    assert answer.status_code == 200, answer.text
    assert "pushed" in answer.json()["headline"]
    run = answer.headers["x-linkflow-execution"]
    events = await ada.watched(run)
    assert "REPLIED" in {event["type"] for event in events}
    assert events[-1]["status"] == "SUCCEEDED"
    found = await ada.open(run)
    assert (found["mode"], found["startedBy"], found["reply"]["status"]) == ("WEBHOOK", None, 200)
    query = """query ($id: ID!) { endpoint(id: $id) { calls { edges { node {
      outcome status reason execution { id status } } } } } }"""
    calls = [edge["node"] for edge in (await ada.ask(query, id=endpoint["id"]))["endpoint"]["calls"]["edges"]]
    assert [call["outcome"] for call in calls] == ["ACCEPTED", "REFUSED"]
    assert calls[1]["status"] == 401
    assert calls[0]["execution"] == {"id": run, "status": "SUCCEEDED"}
    assert calls[1]["reason"]


@pytest.mark.shows("RT-03", "RT-08")
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_run_is_watched_while_it_happens_and_resumed_without_gap_or_repeat(ada: Person, protocol: str) -> None:
    id = await ada.workflow(SLOW)
    run = await ada.start(id)
    seen: list[Any] = []
    async for event in ada.events(run, protocol=protocol):
        seen.append(event)
        if len(seen) == 3:
            break
    assert (await ada.open(run))["status"] in {"RUNNING", "WAITING"}
    seen += await ada.watched(run, after=3, protocol=protocol)
    assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))
    assert seen[-1]["last"] is True
    again = await ada.watched(run, protocol=protocol)
    assert again == seen
    assert await ada.watched(run, after=seen[-1]["seq"] - 1, protocol=protocol) == seen[-1:]


@pytest.mark.shows("RT-03")
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_events_may_ask_for_what_other_subgraphs_know(ada: Person, protocol: str) -> None:
    id = await ada.workflow(SLOW, name="Crossing")
    run = await ada.start(id)
    assert ada.token
    url = f"{ada.origin}/graphql"
    stream = PROTOCOLS[protocol](ada.http, url, CROSSING, ada.token, id=run, after=0)
    found = [result async for result in stream if result is not HEARTBEAT]
    assert all("errors" not in result for result in found), found
    events = [result["data"]["executionEvents"] for result in found]
    expected = {"id": run, "workflow": {"id": id, "name": "Crossing"}, "startedBy": {"name": "Ada", "email": ada.email}}
    assert [event["execution"] for event in events] == [expected] * len(events)
    assert events[-1]["last"] is True


@pytest.mark.shows("RT-09")
async def test_a_stream_outlives_the_refresh_of_its_token(ada: Person) -> None:
    """The first session is logged out while the stream runs: it goes on under the session that came by `ping`."""
    id = await ada.workflow(SLOW, name="Long")
    run = await ada.start(id)
    assert ada.token
    async with opened(f"{ada.origin}/graphql", ada.token) as socket:
        stream = socket.stream(CROSSING, id=run, after=0)
        events = [(await anext(stream))["data"]["executionEvents"]]
        old = ada.refresh_token
        await ada.log_in()
        await socket.send("ping", payload={"authorization": f"Bearer {ada.token}"})
        async for result in stream:
            if result is HEARTBEAT:
                ended = await ada.ask(
                    "mutation ($i: LogOutInput!) { logOut(input: $i) { ended } }", i={"refreshToken": old}
                )
                assert ended["logOut"]["ended"] is True
                continue
            events.append(result["data"]["executionEvents"])
    assert events[-1]["last"] is True
    assert {event["execution"]["startedBy"]["name"] for event in events} == {"Ada"}


@pytest.mark.shows("RT-09", "RT-15")
async def test_a_stream_ends_with_its_session(ada: Person) -> None:
    id = await ada.workflow(greeting("PT10M"))
    run = await ada.start(id, input={"who": "x"})
    assert ada.token
    async with opened(f"{ada.origin}/graphql", ada.token) as socket:
        stream = socket.stream(CROSSING, id=run, after=0)
        await anext(stream)
        await ada.ask(
            "mutation ($i: LogOutInput!) { logOut(input: $i) { ended } }", i={"refreshToken": ada.refresh_token}
        )
        assert (await socket.closed())[0] == 4401
    await ada.log_in()
    await ada.change("cancelExecution", "", executionId=run)


@pytest.mark.shows("EX-08", "EX-10")
async def test_a_run_is_cancelled_and_run_again(ada: Person) -> None:
    id = await ada.workflow(greeting("PT10M"))
    run = await ada.start(id, input={"who": "Ada"})
    watching = asyncio.create_task(ada.watched(run))
    cancelled = await ada.change("cancelExecution", "... on Execution { id }", executionId=run, reason="enough")
    assert cancelled["__typename"] == "Execution"
    assert (await watching)[-1]["status"] == "CANCELLED"
    again = await ada.change("rerunExecution", "... on Execution { id }", executionId=run, idempotencyKey="once")
    twice = await ada.change("rerunExecution", "... on Execution { id }", executionId=run, idempotencyKey="once")
    assert again["id"] == twice["id"] != run
    await ada.change("cancelExecution", "", executionId=again["id"])
    await ada.watched(again["id"])
    found = await ada.open(again["id"])
    assert found["rerunOf"] == {"id": run, "status": "CANCELLED"}
    assert found["trigger"]["items"] == (await ada.open(run))["trigger"]["items"]


@pytest.mark.shows("EX-05")
async def test_a_failing_step_is_told_with_its_error(ada: Person) -> None:
    boom = node("boom", "code", {"mode": "all", "code": "console.error('about to fail'); throw new Error('boom')"})
    id = await ada.workflow(chain(node("begin", "manual"), boom, node("after", "noop")))
    run = await ada.start(id)
    events = await ada.watched(run)
    assert events[-1]["status"] == "FAILED"
    found = await ada.open(run)
    steps = {step["node"]: step for step in found["steps"]}
    assert "boom" in steps["boom"]["error"]["message"]
    assert [line["text"] for line in steps["boom"]["lines"]] == ["about to fail"]
    assert steps["after"]["status"] in {"PENDING", "SKIPPED", "CANCELLED"}


@pytest.mark.shows("EX-03")
async def test_runs_are_listed_filtered_and_paged(ada: Person) -> None:
    quick, other = await ada.workflow(greeting(), name="Quick"), await ada.workflow(greeting(), name="Other")
    runs = [await ada.start(quick, input={"who": str(n)}) for n in range(5)] + [
        await ada.start(other, input={"who": "x"})
    ]
    for run in runs:
        await ada.watched(run)
    query = """query ($filter: ExecutionFilter, $after: String) { executions(filter: $filter, first: 2, after: $after) {
      edges { node { id workflowName status workflow { name } startedBy { name } } }
      pageInfo { hasNextPage endCursor } } }"""
    seen: list[Any] = []
    after = None
    while True:
        page = (await ada.ask(query, filter={"workflowId": quick, "status": ["SUCCEEDED"]}, after=after))["executions"]
        seen += [edge["node"] for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert [row["id"] for row in seen] == runs[4::-1]
    assert {(row["workflow"]["name"], row["startedBy"]["name"]) for row in seen} == {("Quick", "Ada")}
    nested = """query ($id: ID!) { workflow(id: $id) { name
      executions(first: 1) { edges { node { id } } pageInfo { hasNextPage } } } }"""
    found = (await ada.ask(nested, id=other))["workflow"]
    assert found["executions"] == {"edges": [{"node": {"id": runs[5]}}], "pageInfo": {"hasNextPage": False}}
    assert (await ada.ask(query, filter={"mode": "WEBHOOK"}))["executions"]["edges"] == []


@pytest.mark.shows("EX-01")
async def test_the_draft_runs_and_the_same_key_starts_one_run(ada: Person) -> None:
    made = await ada.change("createWorkflow", "... on Workflow { id }", name="Draft", definition=greeting())
    words = {"workflowId": made["id"], "input": {"who": "draft"}, "idempotencyKey": "k"}
    run = await ada.change("runDraft", "... on DraftRun { execution { id mode } }", **words)
    assert run["execution"]["mode"] == "DRAFT"
    again = await ada.change("runDraft", "... on DraftRun { execution { id } }", **words)
    assert again["execution"]["id"] == run["execution"]["id"]
    assert (await ada.watched(run["execution"]["id"]))[-1]["status"] == "SUCCEEDED"
    id = await ada.workflow(greeting())
    first = await ada.start(id, input={"who": "x"}, idempotencyKey="same")
    assert await ada.start(id, input={"who": "x"}, idempotencyKey="same") == first
    other = await ada.change("startExecution", "", workflowId=id, input={"who": "y"}, idempotencyKey="same")
    assert other["__typename"] == "Conflict"
