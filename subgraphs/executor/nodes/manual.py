"""`core.manual`: a person starts the run."""

from __future__ import annotations

from collections.abc import Iterator

from subgraphs.executor.domain import Example, Manifest, NodeType, Out
from subgraphs.executor.step import Step


def body(step: Step) -> Iterator[Out]:
    for item in step.main:
        yield "main", item


NODE = NodeType(
    Manifest(
        type="core.manual",
        title="Manual trigger",
        summary="Starts the run by hand or by the API; brings one item, the input given at the start.",
        category="trigger",
        inputs=(),
        trigger=True,
        examples=(
            Example("The input of the start", {}, [{"who": "Ada"}], {"main": [{"who": "Ada"}]}),
            Example("No input", {}, [{}], {"main": [{}]}),
        ),
    ),
    body,
)
