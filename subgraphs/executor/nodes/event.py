"""`core.event`: holds the items until an event comes that matches an expression."""

from __future__ import annotations

from collections.abc import Iterator

from subgraphs.executor.domain import MAIN, TIMEOUT, Example, Manifest, NodeType, Out, fail, parameters
from subgraphs.executor.step import Step, text_of, type_name

LONGEST = 128


def body(step: Step) -> Iterator[Out]:
    values = step.parameters()
    kind = text_of(values["event"], "event").strip()
    if not 1 <= len(kind) <= LONGEST:
        raise fail("event.type", f"The type of an event has 1 to {LONGEST} characters.", field="event")
    if not isinstance(values["values"], dict):
        message = f"values must be an object, not {type_name(values['values'])}."
        raise fail("parameter.invalid", message, field="values")
    match = text_of(step.request.parameters.get("match") or "", "match")
    step.await_answer("event", kind, match=match, values=values["values"])
    yield from ()


NODE = NodeType(
    Manifest(
        type="core.event",
        title="Wait for event",
        summary="Holds all items until an event of that type comes whose data match; the data stand in event then. "
        "Without one by the node's timeout they leave by timeout.",
        category="flow",
        outputs=(MAIN, TIMEOUT),
        parameters=parameters(
            {
                "event": {
                    "type": "string",
                    "minLength": 1,
                    "title": "Type",
                    "description": "Of events that are sent to the organisation, as order.paid.",
                    "x-editor": "expression",
                },
                "match": {
                    "type": "string",
                    "maxLength": 1000,
                    "default": "",
                    "title": "Match",
                    "description": "CEL over event, its data, and values, as event.order == values.order. Empty: any.",
                    "x-raw": True,
                    "x-cel": ["event", "values"],
                    "x-editor": "expression",
                },
                "values": {
                    "type": "object",
                    "default": {},
                    "title": "Values",
                    "description": "What of this run the event is compared with: {order: {{ item.id }}}.",
                    "x-editor": "json",
                },
            },
            required=("event",),
        ),
        output={"type": "object", "properties": {"event": {"type": "object"}}},
        errors={"event.type": "No type, or a long one."},
        examples=(
            Example(
                "The payment of this order",
                {"event": "order.paid", "match": "event.order == values.order", "values": {"order": "{{ item.id }}"}},
                [{"id": 7}],
                waits={
                    "kind": "event",
                    "name": "order.paid",
                    "detail": {"match": "event.order == values.order", "values": {"order": 7}},
                },
            ),
            Example(
                "Any of its type",
                {"event": "deploy.done"},
                [{}],
                waits={"kind": "event", "name": "deploy.done", "detail": {"match": "", "values": {}}},
            ),
            Example("No type", {"event": "{{ item.kind }}"}, [{"kind": ""}], error="event.type"),
        ),
    ),
    body,
)
