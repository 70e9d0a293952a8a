"""`core.merge`: makes one line of several, item after item or side by side.

The left side are the items of `main`, the right side those of `right`. What leaves when a side brings nothing:

| mode | join | left only | right only | neither |
|---|---|---|---|---|
| append | | left | right | the node is skipped |
| position, key | inner | nothing | nothing | the node is skipped |
| position, key | left | left | nothing | the node is skipped |
| position, key | outer | left | right | the node is skipped |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from subgraphs.engine.parameters import canonical
from subgraphs.engine.step import Item, Source
from subgraphs.executor.domain import MAIN, Example, Items, Manifest, NodeType, Out, fail, parameters
from subgraphs.executor.fields import looked_up, path_of
from subgraphs.executor.step import Step, text_of

RIGHT = "right"


def body(step: Step) -> Iterator[Out]:
    values = step.parameters()
    left, right = step.main, step.input(RIGHT)
    match values["mode"]:
        case "position":
            yield from _by_position(left, right, values)
        case "key":
            yield from _by_key(left, right, values, _keys(values.get("keys")))
        case _:
            for item in (*left, *right):
                yield MAIN, item


def _by_position(left: Items, right: Items, values: Mapping[str, Any]) -> Iterator[Out]:
    for place, (one, other) in enumerate(zip_longest(left, right)):
        if one is not None and other is not None:
            yield MAIN, _both(one, place, other, place, values)
        elif one is not None and values["join"] in ("left", "outer"):
            yield MAIN, one
        elif other is not None and values["join"] == "outer":
            yield MAIN, other


def _by_key(
    left: Items, right: Items, values: Mapping[str, Any], keys: Sequence[tuple[list[str], list[str]]]
) -> Iterator[Out]:
    """Left items in their order, each with its matches in theirs; then right items that nothing matched."""
    found: dict[tuple[bytes, ...], list[int]] = {}
    for place, item in enumerate(right):
        if (key := _key(item, [path for _, path in keys])) is not None:
            found.setdefault(key, []).append(place)
    matched: set[int] = set()
    for place, item in enumerate(left):
        key = _key(item, [path for path, _ in keys])
        places = found.get(key, []) if key is not None else []
        for other in places:
            yield MAIN, _both(item, place, right.at(other), other, values)
        matched.update(places)
        if not places and values["join"] in ("left", "outer"):
            yield MAIN, item
    if values["join"] == "outer":
        for place, item in enumerate(right):
            if place not in matched:
                yield MAIN, item


def _keys(keys: Any) -> list[tuple[list[str], list[str]]]:
    if not isinstance(keys, list) or not keys:
        raise fail("parameter.missing", "Name at least one pair of fields to match by.", field="keys")
    found: list[tuple[list[str], list[str]]] = []
    for number, pair in enumerate(keys):
        sides = pair if isinstance(pair, dict) else {}
        try:
            left, right = (path_of(text_of(sides.get(side), f"keys.{number}.{side}")) for side in ("left", "right"))
        except ValueError as error:
            raise fail("merge.key", str(error), field=f"keys.{number}") from None
        found.append((left, right))
    return found


def _key(item: Item, paths: Sequence[list[str]]) -> tuple[bytes, ...] | None:
    """The values to match by, as JSON compares them; None when one is absent or null, which equals nothing."""
    key: list[bytes] = []
    for path in paths:
        _, value = looked_up(item.json, path)
        if value is None:
            return None
        key.append(canonical(value))
    return tuple(key)


def _both(left: Item, place: int, right: Item, other: int, values: Mapping[str, Any]) -> Item:
    first, second = (right, left) if values["prefer"] == "left" else (left, right)
    sources = (Source("", MAIN, place), Source("", RIGHT, other))
    return Item({**first.json, **second.json}, {**first.files, **second.files}, sources)


SIDE_BY_SIDE = {"mode": ["position", "key"]}
PEOPLE: list[dict[str, Any]] = [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Bob"}, {"id": None, "name": "Cy"}]
PAID = [{"person": 2, "sum": 5}, {"person": 2, "sum": 7}, {"person": 9, "sum": 1}]
BY_ID = {"mode": "key", "keys": [{"left": "id", "right": "person"}]}
BOBS = [{"id": 2, "name": "Bob", "person": 2, "sum": 5}, {"id": 2, "name": "Bob", "person": 2, "sum": 7}]

NODE = NodeType(
    Manifest(
        type="core.merge",
        version="1.1.0",
        title="Merge",
        summary="Makes one line of several: the items one after the other, or joined side by side by position or by "
        "key. The left side enters by main, the right side by right.",
        category="flow",
        inputs=(MAIN, RIGHT),
        parameters=parameters(
            {
                "mode": {
                    "type": "string",
                    "enum": ["append", "position", "key"],
                    "default": "append",
                    "title": "Mode",
                    "description": "append: first the items of main, then those of right, each in the order of the "
                    "connections. position: the first with the first, and so on. key: those whose fields are equal.",
                },
                "join": {
                    "type": "string",
                    "enum": ["inner", "left", "outer"],
                    "default": "inner",
                    "title": "Items without a match",
                    "description": "inner: they are left out. left: those of the left side stay as they are. outer: "
                    "those of both sides do.",
                    "x-show": SIDE_BY_SIDE,
                },
                "keys": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 10,
                    "title": "Fields to match by",
                    "description": "All of them must be equal. A field that is absent or null matches nothing; text "
                    "never equals a number. Several matches give an item each.",
                    "items": {
                        "type": "object",
                        "properties": {
                            "left": {"type": "string", "minLength": 1, "title": "Left field"},
                            "right": {"type": "string", "minLength": 1, "title": "Right field"},
                        },
                        "required": ["left", "right"],
                        "additionalProperties": False,
                    },
                    "x-show": {"mode": ["key"]},
                },
                "prefer": {
                    "type": "string",
                    "enum": ["right", "left"],
                    "default": "right",
                    "title": "Same field on both sides",
                    "description": "Whose value stays.",
                    "x-show": SIDE_BY_SIDE,
                },
                "wait": {
                    "type": "string",
                    "enum": ["all", "any", "first"],
                    "default": "all",
                    "title": "Wait for",
                    "description": "all: every incoming connection. any: the first that brings items; what comes later "
                    "is dropped. first: the same, and what leads only here is cancelled.",
                    "x-raw": True,
                },
            },
            required=("keys",),
        ),
        errors={"merge.key": "The name of a field to match by cannot be read."},
        examples=(
            Example(
                "One after the other",
                {},
                [{"a": 1}],
                {"main": [{"a": 1}, {"b": 2}]},
                inputs={"right": [{"b": 2}]},
            ),
            Example(
                "By position",
                {"mode": "position", "join": "outer"},
                [{"a": 1}, {"a": 2}],
                {"main": [{"a": 1, "b": 3}, {"a": 2}]},
                inputs={"right": [{"b": 3}]},
            ),
            Example("By key, only matches", BY_ID, PEOPLE, {"main": BOBS}, inputs={"right": PAID}),
            Example(
                "By key, the left side whole",
                {**BY_ID, "join": "left"},
                PEOPLE,
                {"main": [PEOPLE[0], *BOBS, PEOPLE[2]]},
                inputs={"right": PAID},
            ),
            Example(
                "By key, both sides whole",
                {**BY_ID, "join": "outer"},
                PEOPLE,
                {"main": [PEOPLE[0], *BOBS, PEOPLE[2], PAID[2]]},
                inputs={"right": PAID},
            ),
            Example(
                "No name of a field", {"mode": "key", "keys": [{"left": "a..b", "right": "b"}]}, [{}], error="merge.key"
            ),
        ),
    ),
    body,
)
