"""`core.webhook`: a call to the workflow's own URL starts the run."""

from __future__ import annotations

from collections.abc import Iterator

from subgraphs.executor.domain import Example, Manifest, NodeType, Out, parameters
from subgraphs.executor.step import Step

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
CALL = {
    "method": "POST",
    "path": "/orders",
    "query": {"dry": "1"},
    "headers": {"content-type": "application/json"},
    "body": {"id": 7},
    "contentType": "application/json",
}


def body(step: Step) -> Iterator[Out]:
    for item in step.main:
        yield "main", item


NODE = NodeType(
    Manifest(
        type="core.webhook",
        title="Webhook trigger",
        summary="Starts the run when its URL is called; brings one item with method, path, query, headers and body. "
        "How callers prove themselves is set on the endpoint, for secrets never stand in a definition.",
        category="trigger",
        inputs=(),
        trigger=True,
        parameters=parameters(
            {
                "methods": {
                    "type": "array",
                    "items": {"type": "string", "enum": METHODS},
                    "minItems": 1,
                    "uniqueItems": True,
                    "default": ["POST"],
                    "title": "Methods",
                    "description": "HTTP methods it answers to; others get 405.",
                },
                "respond": {
                    "type": "string",
                    "enum": ["now", "done", "node"],
                    "default": "now",
                    "title": "Answer",
                    "description": "now: 202 at once. done: when the run has ended, with the items of its last step. "
                    "node: what a Respond node says.",
                },
            }
        ),
        output={
            "type": "object",
            "properties": {
                "method": {"type": "string"},
                "path": {"type": "string"},
                "query": {"type": "object"},
                "headers": {"type": "object"},
                "body": {},
                "contentType": {"type": "string"},
            },
        },
        examples=(Example("A call arrives", {"methods": ["POST"], "respond": "now"}, [CALL], {"main": [CALL]}),),
    ),
    body,
)
