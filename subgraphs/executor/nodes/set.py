"""`core.set`: writes fields of items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from subgraphs.engine.step import Item
from subgraphs.executor.domain import Example, Manifest, NodeType, Out, fail, parameters
from subgraphs.executor.fields import looked_up, path_of
from subgraphs.executor.step import Step, text_of


def body(step: Step) -> Iterator[Out]:
    def write(index: int, item: Item, values: dict[str, Any]) -> Iterable[Out]:
        json = _kept(item.json, values)
        for number, field in enumerate(values["fields"]):
            _put(json, _path(field.get("name"), f"fields.{number}.name"), field.get("value"))
        return (("main", step.made(json, index, files=item.files)),)

    return step.each(write)


def _kept(json: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    match values["others"]:
        case "keep":
            return dict(json)
        case "drop":
            return {}
    made: dict[str, Any] = {}
    for name in values.get("names") or []:
        path = _path(name, "names")
        found, value = looked_up(json, path)
        if found and values["others"] == "only":
            _put(made, path, value)
    if values["others"] == "only":
        return made
    made = dict(json)
    for name in values.get("names") or []:
        _drop(made, _path(name, "names"))
    return made


def _path(name: Any, field: str) -> list[str]:
    """`a.b` is b within a; a dot that belongs to a name is written `\\.`."""
    try:
        return path_of(text_of(name, field))
    except ValueError as error:
        raise fail("set.name", str(error), field=field) from None


def _put(json: dict[str, Any], path: list[str], value: Any) -> None:
    """Sets the value; objects on the way are copied, since the input item may share them."""
    for name in path[:-1]:
        inner = json.get(name)
        json[name] = json = dict(inner) if isinstance(inner, dict) else {}
    json[path[-1]] = value


def _drop(json: dict[str, Any], path: list[str]) -> None:
    for name in path[:-1]:
        inner = json.get(name)
        if not isinstance(inner, dict):
            return
        json[name] = json = dict(inner)
    json.pop(path[-1], None)


FIELD = {
    "type": "object",
    "properties": {
        "name": {
            "type": "string",
            "minLength": 1,
            "title": "Name",
            "description": "Dots lead into objects: address.city.",
        },
        "value": {"title": "Value", "description": "Any JSON; strings may hold expressions.", "x-editor": "expression"},
    },
    "required": ["name", "value"],
    "additionalProperties": False,
}

NODE = NodeType(
    Manifest(
        type="core.set",
        title="Set fields",
        summary="Writes fields of each item; keeps, drops or picks the others.",
        category="data",
        parameters=parameters(
            {
                "fields": {"type": "array", "items": FIELD, "default": [], "maxItems": 1000, "title": "Fields"},
                "others": {
                    "type": "string",
                    "enum": ["keep", "drop", "only", "except"],
                    "default": "keep",
                    "title": "Other fields",
                    "description": "keep all, drop all, keep only those named, keep all except those named.",
                },
                "names": {
                    "type": "array",
                    "items": {"type": "string", "minLength": 1},
                    "default": [],
                    "title": "Names",
                    "x-show": {"others": ["only", "except"]},
                },
            }
        ),
        errors={"set.name": "A name is empty, or nests too deeply."},
        examples=(
            Example(
                "Beside the others",
                {"fields": [{"name": "full", "value": "{{ item.first + ' ' + item.last }}"}]},
                [{"first": "Ada", "last": "Lovelace"}],
                {"main": [{"first": "Ada", "last": "Lovelace", "full": "Ada Lovelace"}]},
            ),
            Example(
                "Nothing but these",
                {
                    "others": "drop",
                    "fields": [{"name": "order.id", "value": "{{ item.n }}"}, {"name": "order.kind", "value": "web"}],
                },
                [{"n": 1, "x": 2}],
                {"main": [{"order": {"id": 1, "kind": "web"}}]},
            ),
            Example(
                "Pick",
                {"others": "only", "names": ["a.b", "c"]},
                [{"a": {"b": 1, "x": 2}, "d": 3}],
                {"main": [{"a": {"b": 1}}]},
            ),
            Example(
                "Leave out",
                {"others": "except", "names": ["a.b"]},
                [{"a": {"b": 1, "x": 2}}],
                {"main": [{"a": {"x": 2}}]},
            ),
            Example("A dot in a name", {"fields": [{"name": "a\\.b", "value": 1}]}, [{}], {"main": [{"a.b": 1}]}),
            Example(
                "A missing field",
                {"fields": [{"name": "a", "value": "{{ item.nope }}"}]},
                [{}],
                error="expression.no_such_key",
            ),
        ),
    ),
    body,
)
