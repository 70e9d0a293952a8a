"""`core.error`: another workflow's run has failed, and this one is its error workflow."""

from __future__ import annotations

from collections.abc import Iterator

from subgraphs.executor.domain import Example, Manifest, NodeType, Out
from subgraphs.executor.step import Step

FAILED = {
    "execution": {"id": "0197c0de-0000-7000-8000-00000000000e", "status": "failed"},
    "workflow": {"id": "0197c0de-0000-7000-8000-000000000001", "name": "Orders", "release": 3},
    "error": {"code": "http.status.500", "message": "The service answered 500.", "kind": "infrastructure"},
    "lastNode": "pay",
}


def body(step: Step) -> Iterator[Out]:
    for item in step.main:
        yield "main", item


NODE = NodeType(
    Manifest(
        type="core.error",
        title="Error trigger",
        summary="Starts the run when an execution fails whose workflow names this one as its error workflow; brings "
        "one item with the execution, its workflow, the error and the last node.",
        category="trigger",
        inputs=(),
        trigger=True,
        output={
            "type": "object",
            "properties": {
                "execution": {"type": "object"},
                "workflow": {"type": "object"},
                "error": {"type": "object"},
                "lastNode": {"type": ["string", "null"]},
            },
        },
        examples=(Example("A run has failed", {}, [FAILED], {"main": [FAILED]}),),
    ),
    body,
)
