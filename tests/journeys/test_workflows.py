"""Making a workflow: what there is to build with, drafts, conflicts, faults, releases."""

from __future__ import annotations

import pytest

from tests.journeys.person import Person, chain, greeting, node

DRAFT = "... on Workflow { id name draft { number valid message } }"
CONFLICT = "... on DraftConflict { yours theirs { number definition } base { number } }"


@pytest.mark.shows("NO-01", "NO-02")
async def test_node_types_are_listed_with_all_a_form_needs(ada: Person) -> None:
    query = (
        "{ nodeTypes(first: 50) { edges { node { type version title summary category trigger effect parameters } } } }"
    )
    found = {edge["node"]["type"]: edge["node"] for edge in (await ada.ask(query))["nodeTypes"]["edges"]}
    names = "manual webhook respond http set if switch filter split merge wait stop code noop".split()
    assert {f"core.{name}" for name in names} <= set(found)
    assert found["core.http"]["effect"]
    assert found["core.set"]["parameters"]
    assert found["core.manual"]["trigger"] is True


@pytest.mark.shows("WF-01", "WF-02", "WF-03")
async def test_a_draft_is_made_saved_and_defended(ada: Person) -> None:
    made = await ada.change("createWorkflow", DRAFT, name="Greeting", definition=greeting(), message="first")
    assert made["draft"] == {"number": 1, "valid": True, "message": "first"}
    id = made["id"]
    mine, theirs = greeting("PT1S"), greeting("PT2S")
    saved = await ada.change("saveDraft", DRAFT, workflowId=id, baseRevision=1, definition=theirs, message="theirs")
    assert saved["draft"]["number"] == 2
    stale = await ada.change("saveDraft", CONFLICT, workflowId=id, baseRevision=1, definition=mine, message="mine")
    assert stale["__typename"] == "DraftConflict"
    assert stale["yours"]["nodes"][1]["parameters"]["duration"] == "PT1S"
    assert (stale["theirs"]["number"], stale["base"]["number"]) == (2, 1)
    assert stale["theirs"]["definition"]["nodes"][1]["parameters"]["duration"] == "PT2S"
    query = """query ($id: ID!) { workflow(id: $id) { draft { number } createdBy { name }
      revisions { edges { node { number message } } } } }"""
    found = (await ada.ask(query, id=id))["workflow"]
    assert (found["draft"]["number"], found["createdBy"]["name"]) == (2, "Ada")
    assert [edge["node"]["message"] for edge in found["revisions"]["edges"]] == ["theirs", "first"]


@pytest.mark.shows("WF-12")
@pytest.mark.parametrize(
    ("definition", "code"),
    [
        (chain(node("begin", "manual"), node("x", "unheard")), "type"),
        (
            chain(node("begin", "manual"), node("x", "set", {"fields": [{"name": "a", "value": "{{ item. }}"}]})),
            "expression",
        ),
        (
            chain(node("a", "manual"), node("b", "noop"), node("c", "noop"))
            | {"connections": [{"from": a, "output": "main", "to": b, "input": "main"} for a, b in ("ab", "bc", "cb")]},
            "loop",
        ),
    ],
)
async def test_a_faulty_definition_is_told_where_and_is_not_published(
    ada: Person, definition: object, code: str
) -> None:
    query = """query ($input: ValidateDefinitionInput!) { validateDefinition(input: $input) {
      valid faults { code message pointer node severity nextStep position } } }"""
    report = (await ada.ask(query, input={"definition": definition}))["validateDefinition"]
    assert report["valid"] is False
    faults = [fault for fault in report["faults"] if code in fault["code"]]
    assert faults, report
    assert faults[0]["message"]
    assert faults[0]["pointer"].startswith("/") or code == "loop"
    if code == "expression":
        assert faults[0]["position"] is not None
    made = await ada.change("createWorkflow", DRAFT, name="Faulty", definition=definition)
    refused = await ada.change(
        "publishRelease", "... on InvalidDefinition { faults { code } }", workflowId=made["id"], revision=1
    )
    assert refused["__typename"] == "InvalidDefinition"
    assert any(code in fault["code"] for fault in refused["faults"])


@pytest.mark.shows("WF-13", "WF-19")
async def test_releases_are_numbered_kept_and_active(ada: Person) -> None:
    id = await ada.workflow(greeting(), name="Released")
    saved = await ada.change(
        "saveDraft", DRAFT, workflowId=id, baseRevision=1, definition=greeting("PT1S"), message="b"
    )
    second = await ada.publish(id, revision=saved["draft"]["number"], message="slower")
    assert second == {"__typename": "Release", "number": 2, "activation": {"state": "ACTIVE"}}
    query = """query ($id: ID!) { workflow(id: $id) { currentRelease { number }
      releases { edges { node { number message author { name } definition } } } } }"""
    found = (await ada.ask(query, id=id))["workflow"]
    assert found["currentRelease"]["number"] == 2
    releases = [edge["node"] for edge in found["releases"]["edges"]]
    assert [(release["number"], release["author"]["name"]) for release in releases] == [(2, "Ada"), (1, "Ada")]
    assert releases[1]["definition"]["nodes"][1]["parameters"]["duration"] == "PT0S"


async def test_another_tenant_sees_none_of_it(ada: Person, origin: str) -> None:
    id = await ada.workflow(greeting())
    run = await ada.start(id, input={"who": "Ada"})
    await ada.watched(run)
    async with Person.at(origin) as bob:
        await bob.sign_up(organisation="Other")
        found = await bob.ask(
            """query ($w: ID!, $e: ID!) { workflow(id: $w) { id } execution(id: $e) { id }
            workflows { edges { node { id } } } }""",
            w=id,
            e=run,
        )
        assert found == {"workflow": None, "execution": None, "workflows": {"edges": []}}
        for name, words in (
            ("publishRelease", {"workflowId": id}),
            ("startExecution", {"workflowId": id}),
            ("cancelExecution", {"executionId": run}),
            ("rerunExecution", {"executionId": run}),
        ):
            assert (await bob.change(name, "", **words))["__typename"] == "Missing"
