"""Executor by its public door: trying nodes, seeing workers, hearing of the catalogue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from subgraphs.auth.service import build as auth
from subgraphs.executor.events import ANNOUNCED
from subgraphs.executor.nodes import catalogue
from subgraphs.executor.service import build as executor
from subgraphs.node.service import build as node
from subgraphs.platform.domain import Event
from subgraphs.platform.server import Ground, Subgraph
from subgraphs.platform.settings import Settings
from subgraphs.tenant.service import build as tenant
from subgraphs.user.service import build as user
from tests.subgraphs.graph_client import Client, served
from tests.subgraphs.platform.egress.evil import serving

TRY = """
mutation Try($input: TestNodeInput!) {
  testNode(input: $input) {
    __typename
    ... on TestResult {
      outputs durationMs waitsUntil waitsFor { kind name until detail } keys linesDropped lines { level text at }
      error { code message kind field retryable retryAfter detail } reply { status headers body contentType }
    }
    ... on Problem { code message field nextStep }
  }
}
"""
HEARD: list[Event] = []


def hearing(ground: Ground) -> Subgraph:
    ground.bus.listen([ANNOUNCED], HEARD.append)
    return executor(ground)


@pytest.fixture(scope="module")
async def nobody(settings: Settings) -> AsyncIterator[Client]:
    async with served(settings, auth, tenant, user, node, hearing) as made:
        yield made


@pytest.fixture(scope="module")
async def ada(nobody: Client) -> Client:
    return await nobody.sign_up()


async def attempt(client: Client, type: str, parameters: Any, items: Any = None, **more: Any) -> dict[str, Any]:
    given = {"type": type, "parameters": parameters, "items": [{}] if items is None else items, **more}
    found: dict[str, Any] = (await client.ask("executor", TRY, {"input": given}))["testNode"]
    return found


async def test_a_node_is_tried_with_sample_items(ada: Client) -> None:
    parameters = {"fields": [{"name": "total", "value": "{{ item.n * 2 + nodes.hook.item.m + vars.v }}"}]}
    context = {"nodes": {"hook": [{"m": 1}]}, "vars": {"v": 0.5}}
    got = await attempt(ada, "core.set", parameters, [{"n": 1}, {"n": 2}], context=context)
    assert got["outputs"] == {"main": [{"n": 1, "total": 3.5}, {"n": 2, "total": 5.5}]}
    assert got["error"] is None
    assert got["durationMs"] >= 0


async def test_what_a_node_does_wrong_is_data(ada: Client) -> None:
    got = await attempt(ada, "core.if", {"expression": "{{ item.a.b }}"}, [{"a": {}}])
    assert got["__typename"] == "TestResult"
    assert got["error"]["code"] == "expression.no_such_key"
    assert got["error"]["field"] == "expression"
    assert got["error"]["detail"] == {"pointer": "/expression", "position": 9}


async def test_a_wait_and_a_reply_are_told(ada: Client) -> None:
    assert (await attempt(ada, "core.wait", {"duration": "PT1H"}))["waitsUntil"]
    got = await attempt(ada, "core.respond", {"status": 418, "body": "json", "json": [1]})
    assert got["reply"] == {"status": 418, "headers": {}, "body": [1], "contentType": "application/json"}


@pytest.mark.shows("S01", "S04")
async def test_the_guard_stands_before_a_trial(ada: Client) -> None:
    async with serving() as canary:
        got = await attempt(ada, "core.http", {"url": canary.url()})
    assert got["error"]["code"] == "http.address"
    assert canary.connections == 0


@pytest.mark.parametrize(
    ("given", "kind", "code", "field"),
    [
        ({"type": "core.sets"}, "Missing", "missing", "type"),
        ({"type": "core.set", "version": "9.0.0"}, "Missing", "missing", "version"),
        ({"type": "core.set", "parameters": []}, "Invalid", "invalid", "parameters"),
        ({"type": "core.set", "parameters": {"feilds": []}}, "Invalid", "parameter_unknown", "parameters.feilds"),
        ({"type": "core.set", "parameters": {"others": "some"}}, "Invalid", "parameter_invalid", "parameters.others"),
        ({"type": "core.http", "parameters": {}}, "Invalid", "parameter_missing", "parameters.url"),
        ({"type": "core.noop", "parameters": {"x": "{{ item. }}"}}, "Invalid", "expression_syntax", "parameters.x"),
        ({"type": "core.noop", "items": {}}, "Invalid", "invalid", "items"),
        ({"type": "core.noop", "items": [1]}, "Invalid", "invalid", "items"),
        ({"type": "core.noop", "items": [{}] * 101}, "Invalid", "invalid", "items"),
        ({"type": "core.noop", "items": [{"a": "x" * 1_100_000}]}, "Invalid", "invalid", "items"),
        ({"type": "core.noop", "context": {"nodes": [1]}}, "Invalid", "invalid", "context.nodes"),
        ({"type": "core.noop", "context": {"nodes": {"a": 1}}}, "Invalid", "invalid", "context.nodes.a"),
    ],
)  # fmt: skip
async def test_what_is_asked_wrongly_is_a_problem(ada: Client, given: Any, kind: str, code: str, field: str) -> None:
    words = {"parameters": {}, **given}
    got = await attempt(ada, words.pop("type"), words.pop("parameters"), words.pop("items", None), **words)
    assert (got["__typename"], got["code"], got["field"]) == (kind, code, field)


async def test_the_misspelt_type_has_a_next_step(ada: Client) -> None:
    assert (await attempt(ada, "core.filtre", {}))["nextStep"] == "Did you mean core.filter?"


async def test_strangers_try_nothing(nobody: Client) -> None:
    assert (await attempt(nobody, "core.noop", {}))["__typename"] == "Unauthenticated"


async def test_workers_are_seen(ada: Client) -> None:
    (worker,) = (
        await ada.ask("executor", "{ workers { id name alive slots busy done failed catalogue startedAt seenAt } }")
    )["workers"]
    assert worker["alive"]
    assert worker["catalogue"] == ada.ground.ports["executor"].digest
    assert worker["slots"] == ada.ground.settings.executor_workers


@pytest.mark.shows("NO-01")
async def test_the_registry_hears_of_the_catalogue(ada: Client) -> None:
    names: set[str] = set()
    async with asyncio.timeout(10):
        while not names:
            answer = await ada.post("node", "{ nodeTypes(first: 100) { edges { node { type } } } }")
            names = {edge["node"]["type"] for edge in answer.json()["data"]["nodeTypes"]["edges"]}
    assert names == {type for type, _ in catalogue()}
    assert [event.data["digest"] for event in HEARD][-1:] == [ada.ground.ports["executor"].digest]


@pytest.mark.shows("WF-22", "EX-26")
async def test_a_trial_tells_what_a_node_would_wait_for_and_which_keys_it_would_set(ada: Client) -> None:
    found = await attempt(ada, "core.signal", {"name": "paid-{{ item.id }}"}, [{"id": 7}])
    assert found["waitsFor"] == {"kind": "signal", "name": "paid-7", "until": None, "detail": {}}
    assert (found["outputs"], found["waitsUntil"]) == ({}, None)
    found = await attempt(ada, "core.key", {"keys": [{"name": "order", "value": "{{ item.id }}"}]}, [{"id": 7}])
    assert (found["keys"], found["waitsFor"]) == ({"order": "7"}, None)


@pytest.mark.shows("WF-18")
async def test_a_node_is_tried_with_items_of_all_its_inputs(ada: Client) -> None:
    by_id = {"mode": "key", "keys": [{"left": "id", "right": "id"}]}
    found = await attempt(ada, "core.merge", by_id, [{"id": 7, "a": 1}], inputs={"right": [{"id": 7, "b": 2}]})
    assert found["outputs"] == {"main": [{"id": 7, "a": 1, "b": 2}]}
    wrong: list[Any] = [{"wrong": []}, {"main": []}, []]
    for inputs in wrong:
        refused = await attempt(ada, "core.merge", by_id, [], inputs=inputs)
        assert (refused["code"], refused["field"], refused["nextStep"]) == (
            "invalid",
            "inputs",
            "Its further inputs are right.",
        )
    assert (await attempt(ada, "core.set", {"fields": []}, [], inputs={"right": []}))["field"] == "inputs"
