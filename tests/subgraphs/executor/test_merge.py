"""The merge node: which items leave, for every mode and every way in which a side can be empty."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subgraphs.engine.step import Item, Source
from subgraphs.executor.runner import Runner
from tests.subgraphs.executor.steps import request

Json = dict[str, Any]
RUNNER = Runner()


def merged(parameters: Json, left: list[Json] | None, right: list[Json] | None) -> list[Item]:
    """What leaves. None: nothing is connected there or nothing came."""
    sides = {"main": left, "right": right}
    inputs = {port: [Item(json) for json in items] for port, items in sides.items() if items is not None}
    asked = msgspec.structs.replace(request("core.merge", parameters, version="1.1.0"), inputs=inputs)
    outcome = RUNNER.run_pure(asked)
    assert outcome.error is None
    return outcome.outputs.get("main", [])


L, R = [{"k": 1, "a": "l"}], [{"k": 1, "b": "r"}]
BOTH = [{"k": 1, "a": "l", "b": "r"}]
TRUTH: list[tuple[str, str, list[Json], list[Json], list[Json], list[Json]]] = [
    # mode, join, both sides, left only, right only, neither
    ("append", "inner", [*L, *R], L, R, []),
    ("position", "inner", BOTH, [], [], []),
    ("position", "left", BOTH, L, [], []),
    ("position", "outer", BOTH, L, R, []),
    ("key", "inner", BOTH, [], [], []),
    ("key", "left", BOTH, L, [], []),
    ("key", "outer", BOTH, L, R, []),
]


@pytest.mark.shows("WF-18")
@pytest.mark.parametrize("absent", [None, []], ids=["not connected", "empty"])
@pytest.mark.parametrize(("mode", "join", "both", "left", "right", "neither"), TRUTH)
def test_truth_table(
    mode: str, join: str, both: Any, left: Any, right: Any, neither: Any, absent: list[Json] | None
) -> None:
    parameters = {"mode": mode, "join": join, "keys": [{"left": "k", "right": "k"}]}

    def result(one: list[Json] | None, other: list[Json] | None) -> list[Json]:
        return [item.json for item in merged(parameters, one, other)]

    assert result(L, R) == both
    assert result(L, absent) == left
    assert result(absent, R) == right
    assert result(absent, absent) == neither


values = st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from([1.0, "1", "a", [1], {"x": 1}])
left_items = st.lists(st.fixed_dictionaries({"a": st.integers()}, optional={"k": values, "j": values}), max_size=6)
right_items = st.lists(st.fixed_dictionaries({"b": st.integers()}, optional={"m": values, "j": values}), max_size=6)


def equal(one: Any, other: Any) -> bool:
    """As SQL compares: null equals nothing; as JSON does: 1 is 1.0, true is not 1."""
    if one is None or other is None or isinstance(one, bool) != isinstance(other, bool):
        return False
    return bool(one == other)


@pytest.mark.shows("WF-18")
@given(left_items, right_items, st.sampled_from(["inner", "left", "outer"]), st.booleans())
def test_by_key_is_the_join_of_relational_algebra(left: list[Json], right: list[Json], join: str, two: bool) -> None:
    keys = [{"left": "k", "right": "m"}, {"left": "j", "right": "j"}][: 1 + two]

    def match(one: Json, other: Json) -> bool:
        return all(equal(one.get(pair["left"]), other.get(pair["right"])) for pair in keys)

    expected: list[Json] = []
    for one in left:
        found = [{**one, **other} for other in right if match(one, other)]
        expected += found or ([one] if join != "inner" else [])
    if join == "outer":
        expected += [other for other in right if not any(match(one, other) for one in left)]
    got = [item.json for item in merged({"mode": "key", "join": join, "keys": keys}, left, right)]
    assert list(map(json.dumps, got)) == list(map(json.dumps, expected))


@pytest.mark.shows("WF-18")
@given(left_items, right_items)
def test_by_position_keeps_what_the_join_says(left: list[Json], right: list[Json]) -> None:
    for join, length in (("inner", min), ("left", lambda one, _: one), ("outer", max)):
        got = merged({"mode": "position", "join": join}, left, right)
        assert len(got) == length(len(left), len(right))
    outer = merged({"mode": "position", "join": "outer"}, left, right)
    assert Counter(name for item in outer for name in item.json if name in "ab") == {
        name: count for name, count in (("a", len(left)), ("b", len(right))) if count
    }


@pytest.mark.shows("EX-27")
def test_a_joined_item_descends_from_both_and_files_of_both_stay() -> None:
    left, right = Item({"k": 1}, {"f": "left", "g": "left"}), Item({"k": 1}, {"g": "right"})
    asked = request("core.merge", {"mode": "position", "prefer": "left"}, version="1.1.0")
    asked.inputs = {"main": [left], "right": [right]}
    (item,) = RUNNER.run_pure(asked).outputs["main"]
    assert item.source == (Source("", "main", 0), Source("", "right", 0))
    assert item.files == {"f": "left", "g": "left"}


def test_an_item_without_a_match_passes_as_it_is() -> None:
    item = Item({"k": 1})
    asked = request(
        "core.merge", {"mode": "key", "join": "left", "keys": [{"left": "k", "right": "k"}]}, version="1.1.0"
    )
    asked.inputs = {"main": [item]}
    assert RUNNER.run_pure(asked).outputs["main"][0] is item
