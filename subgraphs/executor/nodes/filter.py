"""`core.filter`: keeps some items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from subgraphs.engine.step import Item
from subgraphs.executor.conditions import condition_schema, holds
from subgraphs.executor.domain import Example, Manifest, NodeType, Out, parameters
from subgraphs.executor.step import Step


def body(step: Step) -> Iterator[Out]:
    def keep(index: int, item: Item, values: dict[str, Any]) -> Iterable[Out]:
        return (("main" if holds(values, step.budget) else "rest", item),)

    return step.each(keep)


NODE = NodeType(
    Manifest(
        type="core.filter",
        title="Filter",
        summary="Passes on the items for which the conditions hold; the others leave by rest.",
        category="flow",
        parameters=parameters(condition_schema()),
        outputs=("main", "rest"),
        errors={"condition.type": "A comparison got a value of a type it does not take."},
        examples=(
            Example(
                "By a list",
                {"conditions": [{"left": "{{ item.state }}", "operator": "in", "right": ["open", "late"]}]},
                [{"state": "open"}, {"state": "paid"}],
                {"main": [{"state": "open"}], "rest": [{"state": "paid"}]},
            ),
            Example(
                "By an expression",
                {"expression": "{{ item.n % 2 == 0 }}"},
                [{"n": 1}, {"n": 2}],
                {"main": [{"n": 2}], "rest": [{"n": 1}]},
            ),
            Example("Neither true nor false", {"expression": "{{ item.n }}"}, [{"n": 1}], error="condition.type"),
        ),
    ),
    body,
)
