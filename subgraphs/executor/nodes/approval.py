"""`core.approval`: holds the items until somebody approves or rejects."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from subgraphs.executor.choices import PEOPLE
from subgraphs.executor.domain import TIMEOUT, Example, Manifest, NodeType, Out, fail, parameters
from subgraphs.executor.step import Step, text_of
from subgraphs.executor.units import iso_duration

MAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,253}\Z")
MOST = 50
ADA = "0197c0de-0000-7000-8000-00000000000a"


def body(step: Step) -> Iterator[Out]:
    values = step.parameters()
    step.await_answer(
        "approval",
        text_of(values["title"], "title")[:200],
        approvers=_people(values["approvers"], "approvers"),
        message=text_of(values["message"], "message"),
        allowSelf=values["allowSelf"] is True,
        escalation=_escalation(values),
    )
    yield from ()


def _people(value: Any, field: str) -> list[str]:
    """Ids of users or mail addresses, each once."""
    given = value if isinstance(value, list) else [value]
    if not 1 <= len(given) <= MOST:
        raise fail("approval.approver", f"Name 1 to {MOST} people.", field=field)
    return list(dict.fromkeys(_person(each, field) for each in given))


def _person(value: Any, field: str) -> str:
    text = text_of(value, field).strip()
    if MAIL.match(text):
        return text.lower()
    try:
        return str(UUID(text))
    except ValueError:
        message = f"{text[:60]!r} is neither the id of a user nor a mail address."
        raise fail("approval.approver", message, field=field) from None


def _escalation(values: dict[str, Any]) -> dict[str, Any] | None:
    if values.get("escalateAfter") is None:
        return None
    try:
        after = iso_duration(text_of(values["escalateAfter"], "escalateAfter")).total_seconds()
    except ValueError:
        raise fail("approval.escalation", "A duration is written PT4H or P1D.", field="escalateAfter") from None
    return {"after": after, "to": _people(values.get("escalateTo"), "escalateTo")}


NAMED: dict[str, Any] = {
    "type": "array",
    "items": {"type": "string", "minLength": 1},
    "minItems": 1,
    "maxItems": MOST,
    "x-choices": PEOPLE,
    "x-editor": "expression",
}

NODE = NodeType(
    Manifest(
        type="core.approval",
        title="Approval",
        summary="Holds all items until one of the people named approves or rejects; they leave by that way with the "
        "decision as approval, or by timeout when the node's timeout is over.",
        category="flow",
        outputs=("approved", "rejected", TIMEOUT),
        parameters=parameters(
            {
                "title": {
                    "type": "string",
                    "minLength": 1,
                    "title": "Title",
                    "description": "What is to be decided. The link to decide by is {{ execution.links.NODE }}, known "
                    "to every node before this one.",
                    "x-editor": "expression",
                },
                "message": {
                    "type": "string",
                    "default": "",
                    "title": "Message",
                    "description": "What those who decide should know.",
                    "x-editor": "expression",
                },
                "approvers": {
                    **NAMED,
                    "title": "Who decides",
                    "description": "Ids of users or mail addresses; the first decision counts.",
                },
                "allowSelf": {
                    "type": "boolean",
                    "default": False,
                    "title": "By who started it",
                    "description": "Whether the person who started the run may decide.",
                },
                "escalateAfter": {
                    "type": "string",
                    "minLength": 1,
                    "title": "Escalate after",
                    "description": "ISO 8601, as PT4H: without a decision by then, the people below may decide too.",
                },
                "escalateTo": {**NAMED, "title": "Escalate to"},
            },
            required=("title", "approvers"),
        ),
        output={"type": "object", "properties": {"approval": {"type": "object"}}},
        errors={
            "approval.approver": "Nobody is named, or neither by the id of a user nor by a mail address.",
            "approval.escalation": "The duration cannot be read.",
        },
        examples=(
            Example(
                "One of two, by mail or id",
                {"title": "Pay {{ item.sum }}?", "approvers": ["boss@example.org", ADA]},
                [{"sum": 120}],
                waits={
                    "kind": "approval",
                    "name": "Pay 120?",
                    "detail": {
                        "approvers": ["boss@example.org", ADA],
                        "message": "",
                        "allowSelf": False,
                        "escalation": None,
                    },
                },
            ),
            Example(
                "With escalation",
                {
                    "title": "Release",
                    "approvers": "{{ item.owners }}",
                    "escalateAfter": "PT4H",
                    "escalateTo": ["cto@example.org"],
                },
                [{"owners": ["Ann@example.org"]}],
                waits={
                    "kind": "approval",
                    "name": "Release",
                    "detail": {
                        "approvers": ["ann@example.org"],
                        "message": "",
                        "allowSelf": False,
                        "escalation": {"after": 14400.0, "to": ["cto@example.org"]},
                    },
                },
            ),
            Example("Nobody", {"title": "?", "approvers": "{{ item.no }}"}, [{"no": []}], error="approval.approver"),
        ),
    ),
    body,
)
