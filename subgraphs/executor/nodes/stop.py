"""`core.stop`: ends the run with an error of the author's."""

from __future__ import annotations

from collections.abc import Iterator

from subgraphs.executor.domain import Example, Manifest, NodeType, Out, fail, parameters
from subgraphs.executor.step import Step, text_of

MESSAGE_LIMIT = 2_000


def body(step: Step) -> Iterator[Out]:
    values = step.parameters()
    message = text_of(values["message"], "message")[:MESSAGE_LIMIT]
    raise fail("stop." + text_of(values["code"], "code"), message)
    yield


NODE = NodeType(
    Manifest(
        type="core.stop",
        title="Stop with error",
        summary="Fails the run with a code and a message of yours.",
        category="flow",
        parameters=parameters(
            {
                "message": {"type": "string", "minLength": 1, "title": "Message", "x-editor": "expression"},
                "code": {
                    "type": "string",
                    "pattern": "^[a-z][a-z0-9_]{0,63}$",
                    "default": "error",
                    "title": "Code",
                    "description": "For programs; the run's error has it behind `stop.`.",
                },
            },
            required=("message",),
        ),
        outputs=(),
        errors={"stop.CODE": "Always; CODE is the parameter."},
        examples=(
            Example(
                "With a reason",
                {"message": "No stock of {{ item.sku }}", "code": "no_stock"},
                [{"sku": "A1"}],
                error="stop.no_stock",
            ),
            Example("Plain", {"message": "Enough"}, [{}], error="stop.error"),
        ),
    ),
    body,
)
