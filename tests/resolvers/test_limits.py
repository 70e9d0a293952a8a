"""Documents over a limit are refused by the cheapest step that can tell; those below it run."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from resolvers import limits
from resolvers.extensions import answer
from resolvers.limits import Limits
from resolvers.schema import Graph
from tests.resolvers.library import Shelf, graph


@pytest.fixture(scope="module")
def library() -> Graph:
    return graph()


async def run(library: Graph, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
    result = await library.execute(query, variables or {}, context_value=Shelf())
    return answer(result, at_most=library.limits.errors)


def code(found: dict[str, Any]) -> str:
    codes = [error["extensions"]["code"] for error in found.get("errors", [])]
    return codes[0] if codes else ""


def chain(depth: int, style: str) -> str:
    """`{ book { author { books { edges { node { author … } } } } } }` cut to exactly `depth` levels of fields."""
    cycle = ["book", "author", "books(first: 1)", "edges", "node"]
    names = [cycle[0], *(cycle[1:] * depth)][: depth - 1]
    types = {
        "book": "Book",
        "author": "Author",
        "books(first: 1)": "BookConnection",
        "edges": "BookEdge",
        "node": "Book",
    }
    text, definitions = "__typename", []
    for at, name in reversed(list(enumerate(names))):
        if style == "inline":
            text = f"... on {types[name]} {{ {text} }}"
        elif style == "named":
            definitions.append(f"fragment f{at} on {types[name]} {{ {text} }}")
            text = f"...f{at}"
        elif style == "include":
            text = f"... @include(if: true) {{ {text} }}"
        text = f"{name} {{ {text} }}"
    return f"{{ {text} }} {' '.join(definitions)}"


STYLES = ("plain", "inline", "named", "include")


@pytest.mark.parametrize("style", STYLES)
@given(depth=st.integers(min_value=2, max_value=40))
@settings(max_examples=30, deadline=None)
def test_depth_is_counted_through_every_kind_of_fragment(style: str, depth: int) -> None:
    document = limits.read(chain(depth, style), Limits())
    (first, *_) = list(limits.shapes(document))
    assert first.depth == depth


@pytest.mark.parametrize("style", STYLES)
async def test_the_deepest_document_runs_and_one_level_more_does_not(library: Graph, style: str) -> None:
    most = library.limits.depth
    assert code(await run(library, chain(most, style))) == ""
    assert code(await run(library, chain(most + 1, style))) == "DOCUMENT_TOO_DEEP"


@given(plain=st.integers(0, 25), inline=st.integers(0, 25), named=st.integers(0, 25))
@example(plain=20, inline=0, named=0)
@example(plain=21, inline=0, named=0)
@example(plain=10, inline=5, named=5)
@example(plain=10, inline=5, named=6)
@settings(max_examples=60, deadline=None)
async def test_equal_fields_are_counted_over_fragments_of_one_selection(plain: int, inline: int, named: int) -> None:
    library = graph()
    parts = ["title"] * plain + ["... on Book { title }"] * inline + ["...f"] * named
    query = f"{{ book {{ id {' '.join(parts)} }} }}" + (" fragment f on Book { title }" if named else "")
    over = plain + inline + named > library.limits.equal_fields
    assert code(await run(library, query)) == ("DOCUMENT_TOO_MANY_EQUAL_FIELDS" if over else "")


@given(direct=st.integers(0, 40), spread=st.integers(0, 40))
@example(direct=10, spread=20)
@example(direct=11, spread=20)
@settings(max_examples=60, deadline=None)
async def test_aliases_are_counted_as_often_as_their_fragment_is_spread(direct: int, spread: int) -> None:
    library = graph()
    fragment = f"fragment f on Book {{ {' '.join(f'f{i}: title' for i in range(spread))} id }}"
    aliases = " ".join(f"a{i}: title" for i in range(direct))
    inner = "author { books(first: 1) { edges { node { ...f } } } }"
    query = f"{{ book {{ {aliases} id }} books(first: 1) {{ edges {{ node {{ ...f {inner} }} }} }} }} {fragment}"
    over = direct + 2 * spread > library.limits.aliases
    assert code(await run(library, query)) == ("DOCUMENT_TOO_MANY_ALIASES" if over else "")


async def test_tokens_and_bytes(library: Graph) -> None:
    most = library.limits.tokens
    fits = "{ book { " + "# x\n" * (most - 7) + " id } }"
    assert code(await run(library, fits)) == ""
    assert code(await run(library, fits.replace("# x\n", "# x\n# y\n", 2))) == "DOCUMENT_TOO_MANY_TOKENS"
    assert code(await run(library, "{ book { id } } #" + "x" * library.limits.bytes)) == "DOCUMENT_TOO_LARGE"
    assert code(await run(library, "{ book { id } } #" + "é" * (library.limits.bytes // 2))) == "DOCUMENT_TOO_LARGE"


def doubling(times: int, on: str) -> str:
    return "".join(f"fragment f{i} on {on} {{ ...f{i + 1} ...f{i + 1} }}" for i in range(times))


BOMBS = {
    "comments": ("{ book { id } }" + "# ab\n" * 12_000, "DOCUMENT_TOO_MANY_TOKENS"),
    "directives": ("{ book " + "@skip(if: false) " * 3_000 + "{ id } }", "DOCUMENT_TOO_MANY_TOKENS"),
    "unicode names": ("{ book { " + "é" * 20_000 + " } }", "DOCUMENT_TOO_MANY_TOKENS"),
    "deep lists": ("{ book(a: " + "[" * 190 + "]" * 190 + ") { id } }", "GRAPHQL_VALIDATION_FAILED"),
    "deeper lists": ("{ book(a: " + "[" * 700 + "]" * 700 + ") { id } }", "GRAPHQL_PARSE_FAILED"),
    "quotes": ("{ echo(value: " + '"' * 30_000 + ") }", "DOCUMENT_TOO_MANY_TOKENS"),
    "open block string": ('{ echo(value: """' + '\\"""' * 10_000 + ") }", "GRAPHQL_PARSE_FAILED"),
    "equal fields": ("{ book { " + "id " * 1_400 + "} }", "DOCUMENT_TOO_MANY_EQUAL_FIELDS"),
    "fragments that double": (
        "{ book { ...f0 } }" + doubling(30, "Book") + "fragment f30 on Book { id }",
        "DOCUMENT_TOO_MANY_EQUAL_FIELDS",
    ),
    "fragments in a ring": (
        "{ book { ...a } } fragment a on Book { ...b } fragment b on Book { ...a }",
        "GRAPHQL_VALIDATION_FAILED",
    ),
    "unknown fields": ("{ " + " ".join(f"x{i}" for i in range(1_400)) + " }", "GRAPHQL_VALIDATION_FAILED"),
    "introspection in circles": (
        "{ __schema { types { fields { type { fields { type { fields { type { name } } } } } } } } }",
        "GRAPHQL_VALIDATION_FAILED",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
async def test_bombs_are_refused(library: Graph, name: str) -> None:
    query, expected = BOMBS[name]
    found = await run(library, query)
    assert code(found) == expected
    assert len(found["errors"]) <= 10


async def test_no_name_of_the_schema_is_suggested(library: Graph) -> None:
    for query in ("{ bok { id } }", "{ book { titel } }", "{ echo(valu: 1) }", "{ __type(name: 1) { nam } }"):
        text = str(await run(library, query))
        assert "Did you mean" not in text
    wrong = await run(library, "mutation($i: FailInput!) { fail(input: $i) { __typename } }", {"i": {"kin": "x"}})
    assert code(wrong) == "BAD_USER_INPUT"
    assert "Did you mean" not in str(wrong)


async def test_a_document_is_prepared_once(library: Graph) -> None:
    query = "{ book { id title } }"
    await run(library, query)
    misses = library.preparing.misses
    for _ in range(5):
        await run(library, query)
    assert library.preparing.misses == misses


async def test_what_is_kept_is_bounded() -> None:
    small = graph(kept_documents=8)
    for number in range(50):
        await run(small, f"{{ book {{ a{number}: id }} }}")
    assert len(small.preparing._kept) == 8


async def test_several_operations_need_a_name(library: Graph) -> None:
    query = "query a { book { id } } query b { book { title } }"
    assert code(await run(library, query)) == "OPERATION_RESOLUTION_FAILURE"
    result = await library.execute(query, {}, context_value=Shelf(), operation_name="b")
    assert result.data == {"book": {"title": "Book 1"}}
