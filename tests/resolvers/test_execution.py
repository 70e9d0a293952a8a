"""The executor for plain fields gives the same data and the same errors as the ordinary one."""

from __future__ import annotations

import pytest
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from resolvers.execution import PlainFieldExecutor
from resolvers.extensions import answer
from tests.resolvers.library import CANARY, Shelf, graph

DOCUMENTS = [
    "{ book { id title pages published length extra __typename } }",
    "{ books(first: 30) { edges { cursor node { id title pages published } } pageInfo { hasNextPage endCursor } } }",
    "{ book { x: title y: title ...f } } fragment f on Book { title pages }",
    "{ books(first: 5) { edges { node { title tags { word } author { name } } } } }",
    "{ book { title broken tags { word } } }",
    "query($s: Boolean = true) { book { id title @skip(if: $s) pages @include(if: $s) } }",
    'query { _entities(representations: [{__typename: "Book", id: "3"}]) { ... on Book { id pages title } } }',
]


@pytest.mark.parametrize("document", DOCUMENTS)
async def test_same_as_the_ordinary_executor(document: str) -> None:
    fast, ordinary = graph(), graph()
    ordinary.execution_context_class = StrawberryGraphQLCoreExecutionContext
    found = [await each.execute(document, {}, context_value=Shelf()) for each in (fast, ordinary)]
    assert found[0].data == found[1].data
    assert [(e.message, e.path) for e in found[0].errors or ()] == [(e.message, e.path) for e in found[1].errors or ()]


async def test_a_null_where_none_may_be_is_an_error_with_its_place() -> None:
    result = await graph().execute("{ untitled { title } }", {}, context_value=Shelf())
    assert result.data == {"untitled": None}
    shown = answer(result, at_most=10)["errors"][0]
    assert shown["path"] == ["untitled", "title"]
    assert shown["extensions"]["code"] == "INTERNAL_SERVER_ERROR"


async def test_references_are_read_in_one_batch_and_in_order() -> None:
    wanted = [249, 3, 3, 7, 9_999, 0, *range(100, 240)]
    shelf = Shelf()
    query = "query($r: [_Any!]!) { _entities(representations: $r) { ... on Book { id } } }"
    result = await graph().execute(
        query, {"r": [{"__typename": "Book", "id": str(id), "more": 1} for id in wanted]}, context_value=shelf
    )
    assert result.errors is None
    expected = [{"id": str(id)} if id < 250 else None for id in wanted]
    assert result.data == {"_entities": expected}
    assert len(shelf.batches) == 1
    assert shelf.batches[0] == list(dict.fromkeys(wanted))


async def test_canaries_of_bugs_are_masked_and_correlated() -> None:
    for query in (
        "{ book { broken } }",
        '{ fail(kind: "bug") }',
        'mutation { fail(input: {kind: "bug"}) { __typename } }',
    ):
        found = answer(await graph().execute(query, {}, context_value=Shelf()), at_most=10)
        assert CANARY not in str(found)
        assert "RuntimeError" not in str(found)
        extensions = found["errors"][0]["extensions"]
        assert extensions["code"] == "INTERNAL_SERVER_ERROR"
        assert extensions["correlationId"]


async def test_events_are_the_same_as_from_the_ordinary_executor() -> None:
    query = """subscription { shelf(to: 5) { id title pages extra broken tags { word } ...f } }
               fragment f on Book { author { name } published }"""
    streams = []
    for executor in (None, StrawberryGraphQLCoreExecutionContext):
        library = graph()
        if executor:
            library.execution_context_class = executor
        stream = await library.subscribe(query, {}, context_value=Shelf())
        streams.append([(r.data, [(e.message, e.path) for e in r.errors or ()]) async for r in stream])
    assert len(streams[0]) == 5
    assert streams[0] == streams[1]


async def test_a_stream_keeps_nothing_of_its_events(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[PlainFieldExecutor] = []
    build = PlainFieldExecutor.build_per_event_executor

    def noted(self: PlainFieldExecutor, payload: object) -> object:
        executor = build(self, payload)
        made.append(executor)  # type: ignore[arg-type]
        return executor

    monkeypatch.setattr(PlainFieldExecutor, "build_per_event_executor", noted)
    stream = await graph().subscribe("subscription { shelf(to: 50) { id tags { word } } }", {}, context_value=Shelf())
    sizes = [(len(made[-1]._plans), len(made[-1]._relevant_sub_fields)) async for _ in stream]
    assert len(sizes) == 50
    assert sizes[0] == sizes[-1]
