"""`core.form`: holds the items until somebody fills in a form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from subgraphs.executor.domain import MAIN, TIMEOUT, Example, Manifest, NodeType, Out, fail, parameters
from subgraphs.executor.step import Step, text_of

KINDS: dict[str, dict[str, Any]] = {
    "text": {"type": "string", "maxLength": 10_000},
    "number": {"type": "number"},
    "integer": {"type": "integer"},
    "boolean": {"type": "boolean"},
    "email": {"type": "string", "format": "email", "pattern": r"^[^@\s]{1,64}@[^@\s]{1,253}$"},
    "date": {"type": "string", "format": "date", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
    "choice": {"type": "string"},
}


def body(step: Step) -> Iterator[Out]:
    values = step.parameters()
    step.await_answer(
        "form",
        text_of(values["title"], "title")[:200],
        description=text_of(values["description"], "description"),
        schema=_schema(values["fields"]),
    )
    yield from ()


def _schema(fields: Any) -> dict[str, Any]:
    """The JSON Schema (2020-12) of what the form brings."""
    properties: dict[str, Any] = {}
    for number, field in enumerate(fields):
        name = text_of(field["name"], f"fields.{number}.name")
        if name in properties:
            raise fail("form.field", f"Two fields are named {name}.", field=f"fields.{number}.name")
        properties[name] = _property(field, f"fields.{number}")
    required = [field["name"] for field in fields if field.get("required")]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _property(field: dict[str, Any], place: str) -> dict[str, Any]:
    kind = field.get("type", "text")
    found: dict[str, Any] = {"title": field.get("title") or field["name"], **KINDS[kind]}
    if description := field.get("description"):
        found["description"] = text_of(description, f"{place}.description")
    if kind == "choice":
        choices = field.get("choices")
        if not isinstance(choices, list) or not choices or not all(isinstance(each, str) for each in choices):
            raise fail("form.field", "A choice has a list of texts to choose from.", field=f"{place}.choices")
        found["enum"] = choices
    return found


FIELD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,63}$", "title": "Name", "x-raw": True},
        "title": {"type": "string", "maxLength": 200, "title": "Title", "description": "The name, unless it is set."},
        "type": {"type": "string", "enum": list(KINDS), "default": "text", "title": "Type", "x-raw": True},
        "required": {"type": "boolean", "default": False, "title": "Required", "x-raw": True},
        "description": {"type": "string", "maxLength": 1000, "title": "Description"},
        "choices": {
            "type": "array",
            "items": {"type": "string"},
            "minItems": 1,
            "maxItems": 200,
            "title": "Choices",
            "x-show": {"type": ["choice"]},
            "x-editor": "expression",
        },
    },
    "required": ["name", "choices"],
    "additionalProperties": False,
}

NODE = NodeType(
    Manifest(
        type="core.form",
        title="Form",
        summary="Holds all items until somebody fills in a form; what they wrote stands in form then. Without it by "
        "the node's timeout they leave by timeout.",
        category="flow",
        outputs=(MAIN, TIMEOUT),
        parameters=parameters(
            {
                "title": {
                    "type": "string",
                    "minLength": 1,
                    "title": "Title",
                    "description": "Its link is {{ execution.links.NODE }}, known to every node before this one.",
                    "x-editor": "expression",
                },
                "description": {
                    "type": "string",
                    "default": "",
                    "title": "Description",
                    "description": "What stands above the fields.",
                    "x-editor": "expression",
                },
                "fields": {"type": "array", "items": FIELD, "minItems": 1, "maxItems": 50, "title": "Fields"},
            },
            required=("title", "fields"),
        ),
        output={"type": "object", "properties": {"form": {"type": "object"}}},
        errors={"form.field": "A field is named twice, or has nothing to choose from."},
        examples=(
            Example(
                "A name and a choice",
                {
                    "title": "Order {{ item.id }}",
                    "fields": [
                        {"name": "who", "title": "Your name", "required": True},
                        {"name": "size", "type": "choice", "choices": ["S", "M"]},
                    ],
                },
                [{"id": 7}],
                waits={
                    "kind": "form",
                    "name": "Order 7",
                    "detail": {
                        "description": "",
                        "schema": {
                            "type": "object",
                            "properties": {
                                "who": {"title": "Your name", "type": "string", "maxLength": 10_000},
                                "size": {"title": "size", "type": "string", "enum": ["S", "M"]},
                            },
                            "required": ["who"],
                            "additionalProperties": False,
                        },
                    },
                },
            ),
            Example(
                "The same field twice",
                {"title": "?", "fields": [{"name": "a"}, {"name": "a"}]},
                [{}],
                error="form.field",
            ),
        ),
    ),
    body,
)
