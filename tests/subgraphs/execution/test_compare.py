"""Two runs compared: the first differing step, item and field."""

from __future__ import annotations

from typing import Any

import pytest

from subgraphs.engine.step import StepError
from subgraphs.execution.compare import difference
from subgraphs.platform.domain import uuid7
from tests.subgraphs.execution.world import World, definition, someone

GRAPH = definition("begin:manual", "keep:set", "ask:call", "end:set", edges="begin>keep keep>ask ask>end")
COMPARE = """query($id: ID!, $with: ID!, $first: Int = 20, $after: String) { execution(id: $id) {
  comparison(with: $with) {
  same first { key verdict parting { kind port item field left right } }
  steps(first: $first, after: $after) { edges { cursor node { key name verdict } }
                                        pageInfo { hasNextPage endCursor } } } } }"""
ENTITY = """query($r: [_Any!]!, $w: ID!) { _entities(representations: $r) {
  ... on Execution { comparison(with: $w) { same } } } }"""


async def ran(world: World, workflow: Any, **input: Any) -> str:
    run = (await world.start(workflow, input=input))["id"]
    await world.finished(run)
    return str(run)


async def compared(world: World, left: str, right: str, **words: Any) -> Any:
    variables: dict[str, Any] = {"id": left, "with": right, **words}
    return (await world.ask(COMPARE, **variables))["execution"]["comparison"]


def verdicts(comparison: Any) -> dict[str, str]:
    return {edge["node"]["key"]: edge["node"]["verdict"] for edge in comparison["steps"]["edges"]}


@pytest.mark.shows("EX-28")
async def test_the_first_differing_field_is_named(world: World) -> None:
    workflow = await world.release(GRAPH)
    left = await ran(world, workflow, who="Ada", address={"lines": ["1", "Main St"]})
    right = await ran(world, workflow, who="Ada", address={"lines": ["1", "High St"]})
    found = await compared(world, left, right)
    assert not found["same"]
    assert found["first"] == {
        "key": "begin",
        "verdict": "DIFFERENT",
        "parting": {
            "kind": "OUTPUT",
            "port": "main",
            "item": 0,
            "field": "/address/lines/1",
            "left": "Main St",
            "right": "High St",
        },
    }
    assert verdicts(found) == {"begin": "DIFFERENT", "keep": "DIFFERENT", "ask": "EQUAL", "end": "EQUAL"}
    page = await compared(world, left, right, first=3)
    assert page["steps"]["pageInfo"]["hasNextPage"]
    rest = await compared(world, left, right, first=3, after=page["steps"]["pageInfo"]["endCursor"])
    assert (list(verdicts(page)), list(verdicts(rest))) == (["begin", "keep", "ask"], ["end"])


@pytest.mark.shows("EX-28")
async def test_a_rerun_that_went_the_same_way_is_the_same(world: World) -> None:
    workflow = await world.release(GRAPH)
    left = await ran(world, workflow, n=1)
    again = "mutation($id: ID!) { rerunExecution(input: {executionId: $id}) { ... on Execution { id } } }"
    right = (await world.ask(again, id=left))["rerunExecution"]["id"]
    await world.finished(right)
    found = await compared(world, left, right)
    assert found["same"]
    assert found["first"] is None
    assert set(verdicts(found).values()) == {"EQUAL"}


@pytest.mark.shows("EX-28")
async def test_where_one_failed_the_status_differs_and_the_rest_is_missing(world: World) -> None:
    workflow = await world.release(GRAPH)
    left = await ran(world, workflow)
    world.executor.faults["ask"] = [StepError("test.boom", "Boom.")]
    right = await ran(world, workflow)
    found = await compared(world, left, right)
    assert found["first"]["key"] == "ask"
    assert found["first"]["parting"]["kind"] == "STATUS"
    assert (found["first"]["parting"]["left"], found["first"]["parting"]["right"]) == ("succeeded", "failed")
    assert verdicts(found)["end"] == "ONLY_LEFT"
    assert verdicts(await compared(world, right, left))["end"] == "ONLY_RIGHT"


@pytest.mark.shows("EX-28")
async def test_a_large_difference_is_cut(world: World) -> None:
    workflow = await world.release(GRAPH)
    left, right = [await ran(world, workflow, text=letter * 100_000) for letter in "ab"]
    parting = (await compared(world, left, right))["first"]["parting"]
    assert parting["field"] == "/text"
    assert len(parting["left"]) < 3000


async def test_another_tenants_run_is_no_run(world: World) -> None:
    workflow = await world.release(GRAPH)
    run = await ran(world, workflow)
    stranger = someone()
    assert (await world.ask(COMPARE, stranger, **{"id": run, "with": run}))["execution"] is None
    theirs = someone()
    for other in (run, str(uuid7())):
        context = world.context(theirs)
        words = {"r": [{"__typename": "Execution", "id": run}], "w": other}
        result = await world.subgraph.schema.execute(ENTITY, words, context_value=context)
        assert result.data == {"_entities": [None]}
    result = await world.subgraph.schema.execute(
        COMPARE, {"id": run, "with": str(uuid7())}, context_value=world.context()
    )
    assert result.errors
    assert getattr(result.errors[0].original_error, "code", None) == "missing"


@pytest.mark.parametrize(
    ("left", "right", "found"),
    [
        ({"a": 1}, {"a": 1.0}, None),
        ({"a": 1}, {"a": True}, ("/a", 1, True)),
        ({"a/b": {"~": 1}}, {"a/b": {"~": 2}}, ("/a~1b/~0", 1, 2)),
        ({"a": None}, {}, ("/a", None, None)),
        ([1, 2], [1], ("/1", 2, None)),
        ({"a": []}, {"a": {}}, ("/a", [], {})),
        ("x", "x", None),
    ],
)
def test_the_place_of_a_difference(left: Any, right: Any, found: Any) -> None:
    assert difference(left, right) == found
