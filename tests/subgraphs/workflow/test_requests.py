"""Odd and hostile definitions through the public door: HTTP, identity, GraphQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from subgraphs.auth import service as auth
from subgraphs.platform.settings import Settings
from subgraphs.tenant import service as tenant
from subgraphs.user import service as user
from subgraphs.workflow import service
from tests.subgraphs.graph_client import Client, served
from tests.subgraphs.workflow.workflow_graph import CREATE, SAVE, announced, digest, eventually, flow

VALIDATE = """query($input: ValidateDefinitionInput!) { validateDefinition(input: $input) {
  valid faults { code pointer message } } }"""


@pytest.fixture(scope="module")
async def ada(settings: Settings) -> AsyncIterator[Client]:
    """Somebody who signed up, at a door behind which workflow knows its node types."""
    async with served(settings, auth.build, tenant.build, user.build, service.build) as client:
        await client.ground.bus.publish(announced())
        await eventually(lambda: digest(client.ground))
        yield await client.sign_up()


async def validated(ada: Client, definition: Any) -> Any:
    data = await ada.ask("workflow", VALIDATE, {"input": {"definition": definition}})
    return data["validateDefinition"]


@pytest.mark.shows("WF-01")
async def test_a_signed_up_person_creates_and_reads_a_workflow(ada: Client) -> None:
    made = await ada.ask("workflow", CREATE, {"input": {"name": "First", "definition": flow("a")}})
    author = made["createWorkflow"]["draft"]["author"]["id"]
    me = await ada.ask("user", "{ me { id } }")
    assert author == me["me"]["id"]


@pytest.mark.shows("WF-12")
@pytest.mark.parametrize("depth", [200, 10_000])
async def test_json_of_great_depth_is_refused_and_nothing_breaks(ada: Client, depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    body = orjson.dumps({"query": VALIDATE, "variables": {"input": {"definition": "DEEP"}}}).replace(b'"DEEP"', deep)
    path = "/workflow/graphql"
    answer = await ada.http.post(path, content=body, headers=await ada.headers(path, body))
    if answer.status_code == 200:
        found = answer.json()["data"]["validateDefinition"]
        assert [fault["code"] for fault in found["faults"]] == ["definition.depth"]
    else:
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["extensions"]["code"]
    assert (await validated(ada, flow("a")))["valid"]


@pytest.mark.shows("WF-12", "WF-13")
async def test_ten_thousand_nodes_are_saved_and_a_loop_among_them_is_found(ada: Client) -> None:
    names = [f"n{index}" for index in range(9_999)]
    large = flow(*names)
    made = (await ada.ask("workflow", CREATE, {"input": {"name": "Large", "definition": large}}))["createWorkflow"]
    assert made["draft"]["valid"]
    large["connections"].append({"from": "n9000", "to": "n100"})
    words = {"workflowId": made["id"], "baseRevision": 1, "definition": large}
    saved = (await ada.ask("workflow", SAVE, {"input": words}))["saveDraft"]
    assert [fault["code"] for fault in saved["draft"]["faults"]] == ["graph.loop"]


@pytest.mark.shows("WF-12")
@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"fields": {"x": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}"}}, "expression.invalid"),
        ({"fields": {"x": "{{ " + " + ".join(["item.n"] * 20_000) + " }}"}}, "expression.invalid"),
        ({"fields": {"x": "{{ unclosed"}}, "expression.invalid"),
        ({"fields": {"x": "{{ no.such.name }}"}}, "expression.invalid"),
        ({"fields": []}, "parameter.invalid"),
    ],
)
async def test_bad_parameters_are_told_with_their_place(ada: Client, parameters: Any, code: str) -> None:
    bad = flow("a")
    bad["nodes"][1]["parameters"] = parameters
    (fault,) = (await validated(ada, bad))["faults"]
    assert fault["code"] == code
    assert fault["pointer"].startswith("/nodes/1/parameters/fields")


@pytest.mark.parametrize("text", ["\0", "\u202e", "🦀", "x" * 70_000])
async def test_odd_text_in_a_definition_comes_back_as_it_was(ada: Client, text: str) -> None:
    odd = flow("a")
    odd["nodes"][1]["parameters"] = {"fields": {"x": text}}
    made = await ada.ask("workflow", CREATE, {"input": {"name": "Odd", "definition": odd}})
    assert made["createWorkflow"]["draft"]["definition"] == odd


@pytest.mark.shows("WF-12")
async def test_odd_text_in_what_is_wrong_is_stored_with_the_faults(ada: Client) -> None:
    odd = flow("a")
    odd["nodes"][1]["type"] = "nul\0"
    made = await ada.ask("workflow", CREATE, {"input": {"name": "Odd", "definition": odd}})
    assert [fault["code"] for fault in made["createWorkflow"]["draft"]["faults"]] == ["node.type_unknown"]
