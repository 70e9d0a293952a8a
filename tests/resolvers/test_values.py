"""Ids, scalars, cursors and problems: what clients send and get."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from graphql import GraphQLError
from hypothesis import given
from hypothesis import strategies as st

from resolvers.connections import Page, Unpageable, read_cursor, write_cursor
from resolvers.extensions import answer
from resolvers.ids import MalformedId, parse_id
from resolvers.scalars import read_duration, read_moment, write_duration, write_moment
from tests.resolvers.library import Shelf, graph

WRONG_IDS = [
    "", "1", "not-an-id", "0" * 32, "{" + str(uuid4()) + "}", f"urn:uuid:{uuid4()}", f" {uuid4()}", f"{uuid4()} ",
    str(uuid4()) + "0", "../../etc/passwd", "'; drop table account; --", "0" * 36, "\x00" * 36, "٠" * 36, None, 7,
]  # fmt: skip


@pytest.mark.parametrize("text", WRONG_IDS)
def test_ids_of_every_wrong_kind_are_refused_and_named(text: Any) -> None:
    with pytest.raises(MalformedId) as raised:
        parse_id(text, "workflowId")
    assert (raised.value.kind, raised.value.field, raised.value.code) == ("Invalid", "workflowId", "id_malformed")


@given(st.uuids())
def test_an_id_is_read_as_it_was_written(id: UUID) -> None:
    assert parse_id(str(id)) == id
    assert parse_id(str(id).upper()) == id


@given(st.datetimes(timezones=st.just(UTC)))
def test_moments_come_back_to_the_millisecond(moment: datetime) -> None:
    text = write_moment(moment)
    assert text.endswith("Z")
    assert abs(read_moment(text) - moment) < timedelta(milliseconds=1)


@given(st.timedeltas(min_value=timedelta(days=-9_999), max_value=timedelta(days=9_999)))
def test_durations_come_back(length: timedelta) -> None:
    assert read_duration(write_duration(length)) == length


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "P1", "1S", "P1Y", "P1M", "PT1", "P1DT", "PT1.1234567S", "P1W", 5, None]
)
def test_other_durations_are_refused(text: Any) -> None:
    with pytest.raises(GraphQLError):
        read_duration(text)


@pytest.mark.parametrize("text", ["", "now", "2026-01-31", "2026-01-31T12:00:00", "2026-13-01T00:00:00Z", 0, None])
def test_other_moments_are_refused(text: Any) -> None:
    with pytest.raises(GraphQLError):
        read_moment(text)


@given(st.lists(st.one_of(st.text(), st.integers(-(2**62), 2**62), st.booleans()), min_size=1, max_size=4))
def test_a_cursor_holds_its_key(key: list[Any]) -> None:
    if len(write_cursor(key)) <= 1_024:
        assert read_cursor(write_cursor(key)) == key


@pytest.mark.parametrize("cursor", ["", "x", "é", "bnVsbA", "W10", "eyJhIjoxfQ", "Wz!d", "W" * 2_000])
def test_forged_cursors_are_refused(cursor: str) -> None:
    with pytest.raises(Unpageable) as raised:
        Page.of(1, cursor)
    assert (raised.value.kind, raised.value.field) == ("Invalid", "after")


async def test_pages_follow_each_other_to_the_end() -> None:
    library, seen, after = graph(), [], None
    query = (
        "query($a: String) { books(first: 99, after: $a) { edges { node { id } } pageInfo { hasNextPage endCursor } } }"
    )
    while True:
        result = await library.execute(query, {"a": after}, context_value=Shelf())
        assert result.data is not None
        page = result.data["books"]
        seen += [int(edge["node"]["id"]) for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert seen == list(range(250))


@pytest.mark.parametrize("first", [0, -1, 101, 2**31 - 1])
async def test_page_sizes_out_of_range_name_the_argument(first: int) -> None:
    result = await graph().execute(
        f"{{ books(first: {first}) {{ pageInfo {{ hasNextPage }} }} }}", {}, context_value=Shelf()
    )
    found = answer(result, at_most=10)["errors"][0]["extensions"]
    assert found["code"] in {"page_size", "OPERATION_TOO_EXPENSIVE"}


FAIL = """mutation($kind: String!) { fail(input: {kind: $kind}) {
  __typename ... on Problem { code message field nextStep } ... on Limited { retryAfter } } }"""


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            "invalid",
            {
                "__typename": "Invalid",
                "code": "too_short",
                "message": "Too short.",
                "field": "name",
                "nextStep": "Make it longer.",
            },
        ),
        (
            "missing",
            {
                "__typename": "Missing",
                "code": "missing",
                "message": "Not here.",
                "field": None,
                "nextStep": "Check the id: it has to be of your own tenant, and what it names may have been deleted.",
            },
        ),
        (
            "limited",
            {
                "__typename": "Limited",
                "code": "limited",
                "message": "Slow down.",
                "field": None,
                "nextStep": None,
                "retryAfter": 2.5,
            },
        ),
    ],
)
async def test_problems_are_data(kind: str, expected: dict[str, Any]) -> None:
    result = await graph().execute(FAIL, {"kind": kind}, context_value=Shelf())
    assert result.errors is None
    assert result.data == {"fail": expected}


async def test_a_problem_outside_the_union_is_an_error_with_its_own_code() -> None:
    for query, variables in ((FAIL, {"kind": "forbidden"}), ('{ fail(kind: "forbidden") }', {})):
        result = await graph().execute(query, variables, context_value=Shelf())
        found = answer(result, at_most=10)["errors"][0]
        assert found["message"] == "Not you."
        assert found["extensions"]["code"] == "scope_missing"


async def test_a_malformed_id_names_its_field() -> None:
    result = await graph().execute('{ byId(id: "7") }', {}, context_value=Shelf())
    assert answer(result, at_most=10)["errors"][0]["extensions"]["field"] == "id"
