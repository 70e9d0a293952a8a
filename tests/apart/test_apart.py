"""Each subgraph in a process of its own: the same journeys, with the bus and internal HTTP in between."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from typing import Any

import httpx
import pytest

from subgraphs.platform.cli import own_port
from subgraphs.platform.demo import github_push
from subgraphs.platform.settings import Settings
from tests.apart.conftest import SUBGRAPHS, Street
from tests.journeys.person import Person, chain, node


def greeting(waits: str) -> dict[str, Any]:
    """Pure steps, a wait, an expression over an earlier node, in one chain."""
    return chain(
        node("begin", "manual"),
        node("greet", "set", {"fields": [{"name": "greeting", "value": "Hello {{ item.who }}"}]}),
        node("pause", "wait", {"for": "duration", "duration": waits}),
        node("say", "set", {"fields": [{"name": "said", "value": "{{ nodes.greet.item.greeting }}!"}]}),
    )


@pytest.mark.shows("S5")
def test_alone_each_has_a_port_of_its_own_unless_told_otherwise() -> None:
    ports = [own_port([name], {}) for name in SUBGRAPHS]
    assert sorted(port or 0 for port in ports) == list(range(8001, 8009))
    assert own_port(["auth", "user"], {}) is None
    assert own_port(["user"], {"LINKFLOW_SERVE_PORT": "8080"}) is None
    settings = Settings.load({})
    assert settings.jwks_url == f"http://127.0.0.1:{own_port(['auth'], {})}/auth/jwks"
    assert settings.executor_url == f"http://127.0.0.1:{own_port(['executor'], {})}"


@pytest.mark.shows("S5")
async def test_every_subgraph_is_a_process_of_its_own(street: Street) -> None:
    assert len({child.pid for child in street.children.values() if child.poll() is None}) == len(SUBGRAPHS) + 1
    async with httpx.AsyncClient(trust_env=False) as http:
        for name in SUBGRAPHS:
            for other in SUBGRAPHS:
                answer = await http.post(street.url(name, f"/{other}/graphql"), json={"query": "{ __typename }"})
                assert answer.status_code == (401 if other == name else 404)


@pytest.mark.shows("S5", "N2")
async def test_a_run_crosses_the_processes_and_is_watched_to_its_end(ada: Person) -> None:
    me = (await ada.ask("{ me { name role organisation { name } } tenant { name } }"))["me"]
    assert me == {"name": "Ada", "role": "OWNER", "organisation": {"name": "Analytical Engines"}}
    made = await ada.change("createWorkflow", "... on Workflow { id }", name="Greeting", definition=greeting("PT0.3S"))
    release = await ada.publish(made["id"])
    assert release["activation"]["state"] == "ACTIVE"
    run = await ada.start(made["id"], input={"who": "Ada"})
    events = await ada.watched(run)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert (events[0]["type"], events[-1]["type"], events[-1]["status"]) == ("STARTED", "FINISHED", "SUCCEEDED")
    found = await ada.open(run)
    steps = {step["node"]: step for step in found["steps"]}
    assert {step["status"] for step in steps.values()} == {"SUCCEEDED"}
    assert "Hello Ada!" in json.dumps(steps["say"]["output"])
    assert found["workflow"] == {"id": made["id"], "name": "Greeting"}


@pytest.mark.shows("S5", "WH-19")
async def test_a_webhook_gets_the_answer_of_its_respond_node(ada: Person) -> None:
    headline = "{{ item.body.pusher.name }} pushed to {{ nodes.hook.item.body.repository.full_name }}"
    definition = chain(
        node("hook", "webhook", {"respond": "node"}),
        node("tell", "set", {"others": "drop", "fields": [{"name": "headline", "value": headline}]}),
        node("answer", "respond", {"status": 200}),
    )
    endpoint = await ada.endpoint(await ada.workflow(definition, name="GitHub push"))
    path = "/hooks/" + endpoint["url"].rpartition("/hooks/")[2]
    answer = await ada.http.post(path, json=github_push())
    assert answer.status_code == 200, answer.text
    pushed = github_push()
    assert answer.json() == {"headline": f"{pushed['pusher']['name']} pushed to {pushed['repository']['full_name']}"}
    run = answer.headers["x-linkflow-execution"]
    events = await ada.watched(run)
    assert events[-1]["status"] == "SUCCEEDED"
    assert "REPLIED" in {event["type"] for event in events}
    assert (await ada.open(run))["mode"] == "WEBHOOK"


@pytest.mark.shows("S5", "EX-08")
async def test_cancelling_stops_a_body_in_the_other_process(ada: Person, street: Street) -> None:
    """The body is a call to a server that never answers: its connection closes when the run is cancelled."""
    asked, hung_up = asyncio.Event(), asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        hung_up.set()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", street.ports["target"])
    async with server:
        call = node("call", "http", {"url": f"http://127.0.0.1:{street.ports['target']}/"})
        run = await ada.start(await ada.workflow(chain(node("begin", "manual"), call)))
        async with asyncio.timeout(30):
            await asked.wait()
            cancelled = await ada.change("cancelExecution", "... on Execution { id }", executionId=run, reason="enough")
            assert cancelled["__typename"] == "Execution"
            assert (await ada.watched(run))[-1]["status"] == "CANCELLED"
            await hung_up.wait()


@pytest.mark.shows("S5", "N2", "EX-04")
async def test_a_step_whose_executor_was_killed_is_tried_again_with_the_same_key(ada: Person, street: Street) -> None:
    keys: list[str] = []
    asked = asyncio.Event()

    async def answer_the_second(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        keys.append(re.findall(r"(?im)^idempotency-key: (.+?)\r$", head)[0])
        asked.set()
        if len(keys) == 1:
            await reader.read()
        else:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer_the_second, "127.0.0.1", street.ports["target"])
    async with server:
        target = {"method": "PUT", "url": f"http://127.0.0.1:{street.ports['target']}/"}
        call = node("call", "http", target, retry={"attempts": 2, "delay": "PT0.1S"})
        run = await ada.start(await ada.workflow(chain(node("begin", "manual"), call)))
        async with asyncio.timeout(60):
            await asked.wait()
            street.stop("executor", signal.SIGKILL)
            street.serve("executor")
            events = await ada.watched(run)
    assert events[-1]["status"] == "SUCCEEDED"
    assert len(keys) == 2
    assert keys[0] == keys[1]
    attempts = {step["node"]: step["attempts"] for step in (await ada.open(run))["steps"]}["call"]
    assert [(attempt["error"] or {}).get("code") for attempt in attempts] == ["executor.lost", None]
