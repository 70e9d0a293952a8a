"""`core.if`: two ways out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from subgraphs.engine.step import Item
from subgraphs.executor.conditions import condition_schema, holds
from subgraphs.executor.domain import Example, Manifest, NodeType, Out, parameters
from subgraphs.executor.step import Step


def body(step: Step) -> Iterator[Out]:
    def decide(index: int, item: Item, values: dict[str, Any]) -> Iterable[Out]:
        return (("true" if holds(values, step.budget) else "false", item),)

    return step.each(decide)


BIG = {"left": "{{ item.sum }}", "operator": "greaterThan", "right": 100}

NODE = NodeType(
    Manifest(
        type="core.if",
        title="If",
        summary="Sends each item one of two ways: true when the conditions hold, else false.",
        category="flow",
        parameters=parameters(condition_schema()),
        outputs=("true", "false"),
        errors={"condition.type": "A comparison got a value of a type it does not take."},
        examples=(
            Example(
                "A typed comparison",
                {"conditions": [BIG]},
                [{"sum": 150}, {"sum": 20}],
                {"true": [{"sum": 150}], "false": [{"sum": 20}]},
            ),
            Example(
                "Any of two",
                {"combine": "any", "conditions": [BIG, {"left": "{{ item.vip }}", "operator": "isTrue"}]},
                [{"sum": 1, "vip": True}, {"sum": 1, "vip": False}],
                {"true": [{"sum": 1, "vip": True}], "false": [{"sum": 1, "vip": False}]},
            ),
            Example(
                "An expression",
                {"expression": "{{ item.tags.exists(tag, tag == 'new') }}"},
                [{"tags": ["new"]}, {"tags": []}],
                {"true": [{"tags": ["new"]}], "false": [{"tags": []}]},
            ),
            Example("Text is no number", {"conditions": [BIG]}, [{"sum": "150"}], error="condition.type"),
        ),
    ),
    body,
)
