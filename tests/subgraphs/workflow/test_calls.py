"""Workflows that call each other, error workflows, and pinned items: what is refused, and what a release holds."""

from __future__ import annotations

from typing import Any

import pytest

from subgraphs.platform.domain import Caller, uuid7
from tests.subgraphs.workflow.test_releases import READ, publish, run
from tests.subgraphs.workflow.workflow_graph import (
    MANIFESTS,
    Graph,
    Heard,
    announced,
    caller,
    digest,
    eventually,
    flow,
    manifest,
)

ANY = {"type": "object"}
CALLERS = """query($id: ID!, $first: Int!, $after: String) { workflow(id: $id) { callers(first: $first, after: $after) {
  edges { node { node release workflow { name } } } pageInfo { hasNextPage endCursor } } } }"""
VALIDATE = """query($d: JSON!) { validateDefinition(input: {definition: $d}) { valid faults { code pointer } } }"""


@pytest.fixture(autouse=True)
async def knows_calls(graph: Graph) -> None:
    await graph.ground.bus.publish(announced("calls", [*MANIFESTS, manifest("call", parameters=ANY)]))

    async def learned() -> bool:
        return await digest(graph.ground) == "calls"

    await eventually(learned)


def calling(*others: str, release: Any = "latest", **more: Any) -> dict[str, Any]:
    """A flow with a node for each workflow it calls: c0, c1 …"""
    value = flow(*(f"c{index}" for index in range(len(others))))
    for node, other in zip(value["nodes"][1:], others, strict=True):
        node |= {"type": "core.call", "parameters": {"workflowId": other, "release": release, **more}}
    return value


async def made(graph: Graph, by: Caller, definition: Any, name: str = "A", *, released: bool = True) -> str:
    """A workflow that is published at once, as it must be able to."""
    created = await graph.create(by, definition, name)
    assert created["__typename"] == "Workflow", created
    if released:
        answer = await publish(graph, by, created["id"])
        assert answer["__typename"] == "Release", answer
    return str(created["id"])


async def refused(graph: Graph, by: Caller, workflow: str) -> list[tuple[str, str]]:
    answer = await publish(graph, by, workflow)
    assert answer["__typename"] == "InvalidDefinition", answer
    return [(fault["code"], fault["pointer"]) for fault in answer["faults"]]


PLACE = "/nodes/1/parameters/workflowId"


@pytest.mark.shows("WF-16")
async def test_a_workflow_that_calls_itself_is_refused(graph: Graph) -> None:
    ada = caller()
    one = await made(graph, ada, flow(), released=False)
    saved = await graph.save(ada, one, 1, calling(one))
    assert [fault["code"] for fault in saved["draft"]["faults"]] == ["call.cycle"]
    assert await refused(graph, ada, one) == [("call.cycle", PLACE)]
    assert [fault["code"] for fault in (await run(graph, ada, one))["faults"]] == ["call.cycle"]


@pytest.mark.shows("WF-16")
async def test_a_cycle_through_others_is_refused_with_their_names(graph: Graph, holders: list[str]) -> None:
    ada = caller()
    last = await made(graph, ada, flow(), "Last")
    middle = await made(graph, ada, calling(last), "Middle")
    await made(graph, ada, calling(middle), "First")
    saved = await graph.save(ada, last, 1, calling(middle))
    assert [fault["code"] for fault in saved["draft"]["faults"]] == ["call.cycle"]
    answer = await publish(graph, ada, last)
    assert [fault["code"] for fault in answer["faults"]] == ["call.cycle"]


@pytest.mark.shows("WF-16")
async def test_a_pinned_release_that_does_not_lead_back_breaks_the_cycle(graph: Graph, holders: list[str]) -> None:
    ada = caller()
    last = await made(graph, ada, flow(), "Last")
    middle = await made(graph, ada, calling(last, release=1), "Middle")
    await graph.save(ada, last, 1, calling(middle))
    assert (await publish(graph, ada, last))["number"] == 2
    await graph.save(ada, last, 2, calling(last, release=1))
    assert (await publish(graph, ada, last))["number"] == 3, "an older release of itself that calls nothing"
    await graph.save(ada, last, 3, calling(last, release=3))
    assert (await publish(graph, ada, last))["number"] == 4, "release 3 calls release 1, which calls nothing"
    await graph.save(ada, middle, 1, calling(last))
    assert (await publish(graph, ada, middle))["number"] == 2, "release 4 of the other ends in its own release 1"


@pytest.mark.shows("WF-16")
async def test_what_is_called_must_exist_be_published_and_not_archived(graph: Graph, holders: list[str]) -> None:
    ada, eve = caller(), caller()
    foreign = await made(graph, eve, flow())
    young = await made(graph, ada, flow(), "Young", released=False)
    old = await made(graph, ada, flow(), "Old")
    for other, release, code in (
        (str(uuid7()), "latest", "call.unknown"),
        (foreign, "latest", "call.unknown"),
        (young, "latest", "call.unreleased"),
        (old, 2, "call.unreleased"),
    ):
        one = await made(graph, ada, calling(other, release=release), released=False)
        assert await refused(graph, ada, one) == [(code, PLACE)]
    one = await made(graph, ada, calling(old))
    archive = "mutation($id: ID!) { archiveWorkflow(input: {workflowId: $id, archived: true}) { __typename } }"
    await graph.ask(archive, ada, id=old)
    assert await refused(graph, ada, one) == [("call.archived", PLACE)]


@pytest.mark.shows("WF-16")
@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"who": "Ada", "n": 3}, []),
        ({"who": "{{ item.who }}"}, []),
        ("{{ item }}", []),
        ({}, [("call.input", "/nodes/1/parameters/input/who")]),
        ({"who": 7}, [("call.input", "/nodes/1/parameters/input/who")]),
        ({"who": "Ada", "no": 1}, [("call.input", "/nodes/1/parameters/input/no")]),
    ],
)
async def test_the_input_is_held_to_what_the_called_release_declares(
    graph: Graph,
    holders: list[str],
    given: Any,
    found: Any,
) -> None:
    ada = caller()
    inputs = [{"name": "who", "required": True}, {"name": "n", "type": "integer"}]
    other = await made(graph, ada, flow(inputs=inputs))
    definition = calling(other, input=given)
    one = await made(graph, ada, definition, released=not found)
    if found:
        assert await refused(graph, ada, one) == found
    told = await graph.ask(VALIDATE, ada, d=definition)
    assert [(fault["code"], fault["pointer"]) for fault in told["faults"]] == found


@pytest.mark.shows("WF-16")
async def test_a_workflow_lists_who_calls_it(graph: Graph, holders: list[str]) -> None:
    ada = caller()
    other = await made(graph, ada, flow(), "Called")
    await made(graph, ada, calling(other, other), "Twice")
    pinning = await made(graph, ada, calling(other, release=1), "Pinning")
    leaving = await made(graph, ada, calling(other), "Leaving")
    await graph.save(ada, leaving, 1, flow())
    await publish(graph, ada, leaving)
    await made(graph, ada, calling(other), "Draft", released=False)

    async def page(first: int, after: str | None = None) -> Any:
        return (await graph.ask(CALLERS, ada, id=other, first=first, after=after))["callers"]

    everybody = [
        {"node": "c0", "release": None, "workflow": {"name": "Twice"}},
        {"node": "c1", "release": None, "workflow": {"name": "Twice"}},
        {"node": "c0", "release": 1, "workflow": {"name": "Pinning"}},
    ]
    whole = await page(20)
    assert [edge["node"] for edge in whole["edges"]] == everybody
    first = await page(1)
    rest = await page(20, first["pageInfo"]["endCursor"])
    assert [edge["node"] for edge in [*first["edges"], *rest["edges"]]] == everybody
    await graph.ask("mutation($id: ID!) { deleteWorkflow(input: {workflowId: $id}) { __typename } }", ada, id=pinning)
    assert [edge["node"] for edge in (await page(20))["edges"]] == everybody[:2]


@pytest.mark.shows("WF-20")
async def test_an_error_workflow_must_exist(graph: Graph, holders: list[str]) -> None:
    ada = caller()
    other = await made(graph, ada, flow())
    one = await made(graph, ada, flow(settings={"errorWorkflow": {"workflowId": other}}))
    await graph.save(ada, one, 1, flow(settings={"errorWorkflow": {"workflowId": str(uuid7())}}))
    assert await refused(graph, ada, one) == [("error_workflow.unknown", "/settings/errorWorkflow/workflowId")]


@pytest.mark.shows("WF-21")
async def test_pinned_items_stay_in_the_draft(graph: Graph, heard: Heard, holders: list[str]) -> None:
    ada = caller()
    pinned = flow("a")
    pinned["nodes"][1]["pinned"] = [{"secret": "sample"}]
    one = await made(graph, ada, pinned)
    told = await heard.one("workflow.release.published.v1")
    assert told.data["definition"] == flow("a")
    found = await graph.ask(READ, ada, id=one)
    assert found["currentRelease"]["definition"] == flow("a")
    assert found["draft"]["definition"] == pinned
    await run(graph, ada, one)
    asked = await heard.one("workflow.draft.requested.v1")
    assert asked.data["definition"] == pinned
