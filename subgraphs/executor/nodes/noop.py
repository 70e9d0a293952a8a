"""`core.noop`: passes items on."""

from __future__ import annotations

from collections.abc import Iterator

from subgraphs.executor.domain import Example, Manifest, NodeType, Out
from subgraphs.executor.step import Step


def body(step: Step) -> Iterator[Out]:
    for item in step.main:
        yield "main", item


NODE = NodeType(
    Manifest(
        type="core.noop",
        title="Do nothing",
        summary="Passes every item on unchanged; a place to join lines or to stop looking.",
        category="flow",
        examples=(Example("Items pass", {}, [{"n": 1}, {"n": 2}], {"main": [{"n": 1}, {"n": 2}]}),),
    ),
    body,
)
