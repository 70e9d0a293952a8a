"""What is wrong is told with its place and what to do next, and leaves nothing half done."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.journeys.person import Person, chain, greeting, node
from tests.router.clients import status_of_large

MALFORMED = {
    "a document that does not parse": ("{ me { id }", {}),
    "a field that does not exist": ("{ me { shoeSize } }", {}),
    "a variable that is missing": ("query ($id: ID!) { workflow(id: $id) { id } }", {}),
    "a variable of another type": ("query ($n: Int!) { workflows(first: $n) { edges { cursor } } }", {"n": "many"}),
    "an operation that is not there": ("subscription", {}),
}


@pytest.mark.parametrize("what", MALFORMED)
async def test_a_malformed_question_is_named(ada: Person, what: str) -> None:
    query, variables = MALFORMED[what]
    answer = (await ada.post(query, **variables)).json()
    assert not answer.get("data")
    assert answer["errors"][0]["message"]
    assert answer["errors"][0]["message"] != "Something went wrong inside."
    assert answer["errors"][0]["extensions"]["code"] != "INTERNAL_SERVER_ERROR"
    for name in variables:
        assert name in answer["errors"][0]["message"]


@pytest.mark.parametrize(
    "id", ["", "x", "0", "null", "' or 1=1 --", "../..", "00000000-0000-0000-0000-000000000000", "a" * 5_000]
)
async def test_ids_of_every_wrong_kind_find_nothing(ada: Person, id: str) -> None:
    query = "query ($id: ID!) { workflow(id: $id) { id } execution(id: $id) { id } endpoint(id: $id) { id } }"
    answer = (await ada.post(query, id=id)).json()
    assert all(value is None for value in (answer.get("data") or {}).values())
    for error in answer.get("errors", []):
        assert error["extensions"]["code"] != "INTERNAL_SERVER_ERROR", error
    for name, words in (
        ("startExecution", {"workflowId": id}),
        ("cancelExecution", {"executionId": id}),
        ("publishRelease", {"workflowId": id}),
    ):
        found = await ada.change(name, "", **words)
        assert found["__typename"] in {"Missing", "Invalid"}, found
        assert found["message"]


async def test_a_definition_as_large_as_allowed_gets_through_and_a_larger_one_is_413(ada: Person) -> None:
    def padded(size: int) -> Any:
        definition = greeting()
        definition["nodes"][2]["parameters"]["fields"][0]["value"] = "x" * size
        return definition

    made = await ada.change("createWorkflow", "... on Workflow { id }", name="Large", definition=padded(3_000_000))
    assert made["__typename"] in {"Workflow", "InvalidDefinition", "Invalid"}, made
    query = "mutation ($input: CreateWorkflowInput!) { createWorkflow(input: $input) { __typename } }"
    body = json.dumps({"query": query, "variables": {"input": {"name": "Larger", "definition": padded(9_000_000)}}})
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {ada.token}"}
    status = await status_of_large(f"{ada.origin}/graphql", body.encode(), headers)
    assert status == 413
    assert (await ada.ask('{ workflows(search: "Larger") { edges { node { id } } } }'))["workflows"]["edges"] == []


async def test_an_unknown_webhook_is_404_and_a_known_one_says_what_it_takes(ada: Person) -> None:
    unknown = await ada.http.post("/hooks/nobody-knows-this", json={})
    assert unknown.status_code == 404
    assert unknown.json()["code"]
    hook = chain(node("hook", "webhook", {"methods": ["POST"], "respond": "now"}), node("end", "noop"))
    endpoint = await ada.endpoint(await ada.workflow(hook))
    path = "/hooks/" + endpoint["url"].rpartition("/hooks/")[2]
    wrong = await ada.http.get(path)
    assert wrong.status_code == 405
    assert "POST" in wrong.headers["allow"]
    assert await status_of_large(f"{ada.origin}{path}", b"x" * 9_000_000, {"Content-Type": "text/plain"}) == 413
    good = await ada.http.post(path, json={"hello": "world"})
    assert good.status_code in {200, 202}
    assert (await ada.watched(good.headers["x-linkflow-execution"]))[-1]["status"] == "SUCCEEDED"


@pytest.mark.parametrize("shape", ["array", "object", "left open"])
async def test_json_of_depth_10_000_is_refused(ada: Person, shape: str) -> None:
    start, end = {"array": ("[", "]"), "object": ('{"a":', "}"), "left open": ("[", "")}[shape]
    deep = start * 10_000 + ("1" if end else "") + end * 10_000
    query = "query ($input: ValidateDefinitionInput!) { validateDefinition(input: $input) { valid } }"
    body = f'{{"query": {json.dumps(query)}, "variables": {{"input": {{"definition": {deep}}}}}}}'
    headers = {"content-type": "application/json", "authorization": f"Bearer {ada.token}"}
    answer = await ada.http.post("/graphql", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["message"]
    hook = chain(node("hook", "webhook", {"methods": ["POST"], "respond": "now"}), node("end", "noop"))
    endpoint = await ada.endpoint(await ada.workflow(hook))
    path = "/hooks/" + endpoint["url"].rpartition("/hooks/")[2]
    called = await ada.http.post(path, content=deep, headers={"content-type": "application/json"})
    assert called.status_code in {200, 202, 400}, called.text
    assert (await ada.ask("{ me { id } }"))["me"]["id"] == ada.user["id"]


BOMBS = {
    "a loop in loops": "[0,1,2,3,4,5,6,7,8,9]" + ".map(x, [0,1,2,3,4,5,6,7,8,9]" * 8 + ".map(x, x" + ")" * 9,
    "a text that doubles": "[1,1,1,1].map(x, " + "[x,x].map(y, " * 19 + "1" + ")" * 20,
    "a pattern": "item.long.matches('(a{1,100}){1,9}b')",
}


@pytest.mark.parametrize("bomb", BOMBS)
async def test_an_expression_bomb_ends_its_own_run_and_nothing_else(ada: Person, bomb: str) -> None:
    fields = {"fields": [{"name": "x", "value": "{{ " + BOMBS[bomb] + " }}"}]}
    definition = chain(node("begin", "manual"), node("boom", "set", fields))
    made = await ada.change("createWorkflow", "... on Workflow { id }", name="Bomb", definition=definition)
    selection = "... on Release { number } ... on InvalidDefinition { faults { code message position } }"
    published = await ada.change("publishRelease", selection, workflowId=made["id"])
    if published["__typename"] == "InvalidDefinition":  # told while it is checked: with its place
        assert published["faults"][0]["position"] is not None
        return
    run = await ada.start(made["id"], input={"long": "a" * 10_000})
    assert (await ada.watched(run))[-1]["status"] == "FAILED"
    error = (await ada.open(run))["error"]
    assert error["code"].startswith("expression"), error
    fine = await ada.start(await ada.workflow(greeting()), input={"who": "Ada"})
    assert (await ada.watched(fine))[-1]["status"] == "SUCCEEDED"


async def test_a_workflow_of_10_000_nodes_is_checked_saved_and_its_loop_found(ada: Person) -> None:
    fields = [{"fields": [{"name": "n", "value": f"{{{{ {n} }}}}"}]} for n in range(9_999)]
    definition = chain(node("begin", "manual"), *(node(f"n{n}", "set", fields[n]) for n in range(9_999)))
    query = """query ($input: ValidateDefinitionInput!) { validateDefinition(input: $input) {
      valid faults { code message nextStep } } }"""
    report = (await ada.ask(query, input={"definition": definition}))["validateDefinition"]
    assert (report["valid"], report["faults"]) == (True, [])
    made = await ada.change("createWorkflow", "... on Workflow { draft { valid } }", name="Long", definition=definition)
    assert made["draft"]["valid"] is True
    definition["connections"].append({"from": "n9000", "output": "main", "to": "n8000", "input": "main"})
    report = (await ada.ask(query, input={"definition": definition}))["validateDefinition"]
    assert report["valid"] is False
    assert "loop" in report["faults"][0]["code"]
    assert report["faults"][0]["nextStep"]


async def test_everything_not_public_is_404(ada: Person) -> None:
    for path in (
        "/metrics",
        "/auth/identity",
        "/workflow/graphql",
        "/auth/graphql",
        "/webhook/hooks/x",
        "/health/metrics",
    ):
        assert (await ada.http.get(path)).status_code == 404, path
    assert (await ada.http.get("/health/ready")).status_code == 200
    assert (await ada.http.get("/.well-known/jwks.json")).json()["keys"]
    assert "GraphiQL" in (await ada.http.get("/graphiql")).text
