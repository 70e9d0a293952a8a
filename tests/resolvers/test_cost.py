"""The price of an operation is never below what it really makes, and never above by much."""

from __future__ import annotations

from statistics import median
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resolvers.cost import price
from resolvers.extensions import answer
from resolvers.limits import Limits, read
from tests.resolvers.library import Shelf, graph

LIBRARY = graph(limits=Limits(cost=1e9, depth=40, aliases=1_000, tokens=20_000))


@st.composite
def book(draw: st.DrawFn, depth: int) -> str:
    parts = ["id"]
    if draw(st.booleans()):
        parts.append("tags { word }")
    if depth and draw(st.booleans()):
        parts.append(f"author {{ name {draw(books(depth - 1))} }}")
    if draw(st.booleans()):
        return f"... on Book {{ {' '.join(parts)} }}"
    return " ".join(parts)


@st.composite
def books(draw: st.DrawFn, depth: int) -> str:
    argument = draw(st.sampled_from(["", "(first: 1)", "(first: 3)", "(first: 40)", "(first: $n)"]))
    return f"books{argument} {{ edges {{ cursor node {{ {draw(book(depth))} }} }} }}"


@given(shape=books(2), n=st.integers(min_value=1, max_value=8))
@settings(max_examples=120, deadline=None)
async def test_the_price_is_at_least_what_is_made(shape: str, n: int) -> None:
    query = f"query{'($n: Int = 2)' if '$n' in shape else ''} {{ book {{ id }} {shape} }}"
    estimate = price(LIBRARY._schema, read(query, LIBRARY.limits))[None].under({"n": n})
    shelf = Shelf()
    if estimate > 20_000:  # would be refused; running it would only be slow
        return
    result = await LIBRARY.execute(query, {"n": n}, context_value=shelf)
    assert result.errors is None
    assert shelf.made <= estimate


async def test_the_price_is_seldom_far_above() -> None:
    over = []
    for shape in (
        "{ book { id } }",
        "{ books { edges { node { id } } } }",
        "{ books(first: 100) { edges { node { id title } } } }",
        "{ books(first: 10) { edges { node { tags { word } author { name } } } } }",
        "{ book { author { books(first: 5) { edges { node { id } } } } } }",
    ):
        shelf = Shelf()
        await LIBRARY.execute(shape, {}, context_value=shelf)
        over.append(price(LIBRARY._schema, read(shape, LIBRARY.limits))[None].under({}) / shelf.made)
    assert min(over) >= 1
    assert median(over) < 3


SIZES = [
    ("{ books(first: 5) { edges { node { id } } } }", {}, 11),
    ("{ books { edges { node { id } } } }", {}, 41),
    ("query($n: Int!) { books(first: $n) { edges { node { id } } } }", {"n": 5}, 11),
    ("query($n: Int = 7) { books(first: $n) { edges { node { id } } } }", {}, 15),
    ("query($n: Int!) { books(first: $n) { edges { node { id } } } }", {"n": -1_000_000}, 2_000_001),
    ("{ books(first: -1000000) { edges { node { id } } } }", {}, 2_000_001),
    ("query($n: Int!) { books(first: $n) { edges { node { id } } } }", {"n": 10**30}, 2 * 2**53 + 1),
    ("{ books(first: 99999999999999999999999) { edges { node { id } } } }", {}, 2 * 2**53 + 1),
    ("query($n: Int!) { books(first: $n) { edges { node { id } } } }", {"n": "many"}, 41),
    ("query($n: Int!) { books(first: $n) { edges { node { id } } } }", {"n": None}, 41),
    ("query($r: [_Any!]!) { _entities(representations: $r) { ... on Book { tags { word } } } }", {"r": [{}] * 9}, 36),
]


@pytest.mark.parametrize(("query", "variables", "expected"), SIZES)
def test_sizes(query: str, variables: dict[str, Any], expected: float) -> None:
    found = price(LIBRARY._schema, read(query, LIBRARY.limits))[None].under(variables)
    assert found == pytest.approx(expected, abs=1)


async def test_an_operation_over_the_limit_is_refused_before_it_runs() -> None:
    library, shelf = graph(), Shelf()
    inner = "author { books(first: 100) { edges { node { id } } } }"
    query = f"query($n: Int!) {{ books(first: $n) {{ edges {{ node {{ {inner} }} }} }} }}"
    found = answer(await library.execute(query, {"n": 100}, context_value=shelf), at_most=10)
    assert found["errors"][0]["extensions"]["code"] == "OPERATION_TOO_EXPENSIVE"
    assert shelf.made == 0
    assert "errors" not in answer(await library.execute(query, {"n": 2}, context_value=shelf), at_most=10)


async def test_fragments_that_multiply_are_priced_once_each() -> None:
    steps = "".join(
        f"fragment f{i} on Author {{ books(first: 1) {{ edges {{ node {{ author {{ ...f{i + 1} }} }} }} }} "
        f"b: books(first: $n) {{ edges {{ node {{ author {{ ...f{i + 1} }} }} }} }} }}"
        for i in range(24)
    )
    query = f"query($n: Int!) {{ book {{ author {{ ...f0 }} }} }} {steps} fragment f24 on Author {{ name }}"
    document = read(query, Limits(tokens=20_000, bytes=1_000_000))
    assert price(LIBRARY._schema, document)[None].under({"n": 2}) > 2**24
