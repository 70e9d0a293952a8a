"""`core.key`: sets business keys, by which runs are found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from subgraphs.executor.domain import Example, Manifest, NodeType, Out, fail, parameters
from subgraphs.executor.step import Step, type_name

LONGEST = 200
MOST = 20


def body(step: Step) -> Iterator[Out]:
    keys = step.parameters()["keys"]
    step.keys = {each["name"]: _value(each["value"], f"keys.{number}.value") for number, each in enumerate(keys)}
    for item in step.main:
        yield "main", item


def _value(value: Any, field: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(int(value) if isinstance(value, float) and value.is_integer() else value)
    if not isinstance(value, str):
        raise fail(
            "key.value", f"The value of a key is text, a number or a boolean, not {type_name(value)}.", field=field
        )
    if not 1 <= len(value) <= LONGEST:
        raise fail("key.value", f"The value of a key has 1 to {LONGEST} characters.", field=field)
    return value


KEY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_.-]{0,63}$", "title": "Name", "x-raw": True},
        "value": {
            "type": ["string", "number", "boolean"],
            "title": "Value",
            "description": "Text, a number or a boolean; of the first item.",
            "x-editor": "expression",
        },
    },
    "required": ["name", "value"],
    "additionalProperties": False,
}

NODE = NodeType(
    Manifest(
        type="core.key",
        title="Set business keys",
        summary="Gives the run keys, such as the number of an order, by which it can be found; items pass on "
        "unchanged. A key that is set again has the new value.",
        category="data",
        parameters=parameters(
            {"keys": {"type": "array", "items": KEY, "minItems": 1, "maxItems": MOST, "title": "Keys"}},
            required=("keys",),
        ),
        limits={"keys": MOST, "characters": LONGEST},
        errors={"key.value": "The value is empty, long, or a list or an object."},
        examples=(
            Example(
                "The order and its customer",
                {
                    "keys": [
                        {"name": "order", "value": "{{ item.id }}"},
                        {"name": "customer", "value": "{{ item.who }}"},
                    ]
                },
                [{"id": 7, "who": "Ada"}],
                {"main": [{"id": 7, "who": "Ada"}]},
                keys={"order": "7", "customer": "Ada"},
            ),
            Example(
                "No value", {"keys": [{"name": "order", "value": "{{ item.id }}"}]}, [{"id": {}}], error="key.value"
            ),
        ),
    ),
    body,
)
