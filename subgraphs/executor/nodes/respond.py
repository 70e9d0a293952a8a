"""`core.respond`: answers whoever called the trigger."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from subgraphs.engine.step import Reply
from subgraphs.executor.domain import Example, Manifest, NodeType, Out, fail, parameters
from subgraphs.executor.headers import response_headers
from subgraphs.executor.step import Step, text_of

EMPTY = frozenset({204, 205, 304})


def body(step: Step) -> Iterator[Out]:
    values = step.parameters()
    step.reply = Reply(
        status=_status(values["status"]),
        headers=response_headers(values["headers"]),
        body=None if values["status"] in EMPTY else _content(step, values),
        content_type=text_of(values["contentType"], "contentType") if values["body"] == "text" else "application/json",
    )
    for item in step.main:
        yield "main", item


def _status(value: Any) -> int:
    if type(value) is not int or not 200 <= value <= 599:
        raise fail("parameter.invalid", "status must be a whole number from 200 to 599.", field="status")
    return value


def _content(step: Step, values: dict[str, Any]) -> Any:
    match values["body"]:
        case "item":
            return step.main.at(0).json if len(step.main) else None
        case "items":
            return [item.json for item in step.main]
        case "json":
            return values.get("json")
        case "text":
            return text_of(values.get("text", ""), "text")
    return None


NODE = NodeType(
    Manifest(
        type="core.respond",
        title="Respond",
        summary="Answers the caller of the webhook that started the run; the run goes on.",
        category="http",
        parameters=parameters(
            {
                "status": {
                    "type": "integer",
                    "minimum": 200,
                    "maximum": 599,
                    "default": 200,
                    "title": "Status",
                    "description": "HTTP status of the answer.",
                },
                "body": {
                    "type": "string",
                    "enum": ["item", "items", "json", "text", "none"],
                    "default": "item",
                    "title": "Body",
                    "description": "The first item, all items, JSON of your own, text, or nothing.",
                },
                "json": {
                    "title": "JSON",
                    "description": "Any JSON; strings may hold expressions.",
                    "x-show": {"body": ["json"]},
                    "x-editor": "json",
                },
                "text": {
                    "type": "string",
                    "default": "",
                    "title": "Text",
                    "x-show": {"body": ["text"]},
                    "x-editor": "expression",
                },
                "contentType": {
                    "type": "string",
                    "default": "text/plain; charset=utf-8",
                    "title": "Content type",
                    "x-show": {"body": ["text"]},
                },
                "headers": {
                    "type": "object",
                    "additionalProperties": {"type": "string"},
                    "default": {},
                    "title": "Headers",
                    "description": "Headers of the answer. Those of the connection and cookies are refused.",
                },
            }
        ),
        errors={"respond.header": "A header that cannot be set, or whose value holds control characters."},
        examples=(
            Example(
                "The first item",
                {},
                [{"ok": True}, {"ok": False}],
                {"main": [{"ok": True}, {"ok": False}]},
                reply={"status": 200, "body": {"ok": True}},
            ),
            Example(
                "JSON of your own",
                {"status": 201, "body": "json", "json": {"id": "{{ item.id }}"}, "headers": {"x-kind": "order"}},
                [{"id": 7}],
                {"main": [{"id": 7}]},
                reply={"status": 201, "body": {"id": 7}, "headers": {"x-kind": "order"}},
            ),
            Example(
                "Text",
                {"body": "text", "text": "Hello {{ item.name }}"},
                [{"name": "Ada"}],
                {"main": [{"name": "Ada"}]},
                reply={"body": "Hello Ada"},
            ),
            Example(
                "A header with a line break",
                {"headers": {"x-a": "{{ item.v }}"}},
                [{"v": "1\r\nset-cookie: a"}],
                error="respond.header",
            ),
        ),
    ),
    body,
)
