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
        "The secret that callers share is set on its endpoint, for secrets never stand in a definition.",
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
                    "description": "now: at once, with the run's id. done: when the run has ended, with the items of "
                    "its last step. node: what a Respond node says.",
                },
                "timeout": {
                    "type": "string",
                    "format": "duration",
                    "default": "PT30S",
                    "title": "Longest wait",
                    "description": "How long a caller waits for done or node (ISO 8601, at most PT5M); then 202 with a "
                    "status link.",
                    "x-show": {"respond": ["done", "node"]},
                },
                "auth": {
                    "type": "string",
                    "enum": ["none", "header", "hmac", "github"],
                    "default": "none",
                    "title": "Authentication",
                    "description": "none; header: a shared secret in a header; hmac: SHA-256 over the body with a "
                    "shared secret; github: as GitHub signs.",
                },
                "headerName": {
                    "type": "string",
                    "pattern": "^[A-Za-z0-9-]{1,64}$",
                    "title": "Header",
                    "description": "Where secret or signature stands: X-Webhook-Secret or X-Signature-256 by default.",
                    "x-show": {"auth": ["header", "hmac"]},
                },
                "dedupe": {
                    "type": "string",
                    "enum": ["auto", "id", "body", "none"],
                    "default": "auto",
                    "title": "Duplicates",
                    "description": "How a repeated call is known: by the delivery id of a known service, by an id "
                    "header, by the body, or not at all.",
                },
                "dedupeHeader": {
                    "type": "string",
                    "pattern": "^[A-Za-z0-9-]{1,64}$",
                    "title": "Id header",
                    "x-show": {"dedupe": ["id"]},
                },
                "dedupeWindow": {
                    "type": "string",
                    "format": "duration",
                    "default": "P1D",
                    "title": "Remembered for",
                    "description": "How long a call is remembered (ISO 8601).",
                    "x-show": {"dedupe": ["auto", "id", "body"]},
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
