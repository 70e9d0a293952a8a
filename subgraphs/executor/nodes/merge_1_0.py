"""`core.merge` 1.0: waits for all incoming lines and appends their items; 1.1 can do more."""

from __future__ import annotations

from collections.abc import Iterator

from subgraphs.executor.domain import Example, Manifest, NodeType, Out, parameters
from subgraphs.executor.step import Step


def body(step: Step) -> Iterator[Out]:
    for item in step.main:
        yield "main", item


NODE = NodeType(
    Manifest(
        type="core.merge",
        title="Merge",
        summary="Waits for all incoming connections that bring something and appends their items, in the order of the "
        "connections.",
        category="flow",
        parameters=parameters(
            {
                "mode": {
                    "type": "string",
                    "enum": ["append"],
                    "default": "append",
                    "title": "Mode",
                    "description": "append: the items of one connection after those of the other.",
                }
            }
        ),
        examples=(
            Example(
                "Two branches become one", {"mode": "append"}, [{"a": 1}, {"b": 2}], {"main": [{"a": 1}, {"b": 2}]}
            ),
        ),
    ),
    body,
)
