"""`core.callback`: holds the items until a URL made for this wait is called."""

from __future__ import annotations

from collections.abc import Iterator

from subgraphs.executor.domain import MAIN, TIMEOUT, Example, Manifest, NodeType, Out, parameters
from subgraphs.executor.step import Step

METHODS = ["GET", "POST", "PUT"]


def body(step: Step) -> Iterator[Out]:
    step.await_answer("webhook", methods=list(step.parameters()["methods"]))
    yield from ()


NODE = NodeType(
    Manifest(
        type="core.callback",
        title="Wait for callback",
        summary="Holds all items until its URL is called, which is signed, works once and belongs to this run; the "
        "call stands in webhook then. Without one by the node's timeout they leave by timeout.",
        category="http",
        outputs=(MAIN, TIMEOUT),
        parameters=parameters(
            {
                "methods": {
                    "type": "array",
                    "items": {"type": "string", "enum": METHODS},
                    "minItems": 1,
                    "uniqueItems": True,
                    "default": ["POST"],
                    "title": "Methods",
                    "description": "HTTP methods it answers to. Its URL is {{ execution.links.NODE }}, known to every "
                    "node before this one: hand it to whoever is to call.",
                }
            }
        ),
        output={"type": "object", "properties": {"webhook": {"type": "object"}}},
        examples=(
            Example("By POST", {}, [{"id": 7}], waits={"kind": "webhook", "name": "", "detail": {"methods": ["POST"]}}),
            Example(
                "A link in a mail",
                {"methods": ["GET", "POST"]},
                [{}],
                waits={"kind": "webhook", "name": "", "detail": {"methods": ["GET", "POST"]}},
            ),
        ),
    ),
    body,
)
