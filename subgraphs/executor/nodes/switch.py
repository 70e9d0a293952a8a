"""`core.switch`: as many ways out as there are rules, and a default one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from subgraphs.engine.expression import Budget
from subgraphs.engine.step import Item
from subgraphs.executor.conditions import condition_schema, holds
from subgraphs.executor.domain import Example, Manifest, NodeType, Out, fail, parameters
from subgraphs.executor.step import Step


def _ways(values: dict[str, Any], item: Item, budget: Budget) -> Iterator[Out]:
    found = False
    for number, rule in enumerate(values["rules"]):
        if holds(rule, budget, f"rules.{number}."):
            yield rule["output"], item
            found = True
            if values["match"] == "first":
                return
    if found or values["otherwise"] == "drop":
        return
    if values["otherwise"] == "fail":
        raise fail("switch.no_rule", "No rule holds for this item.", field="rules")
    yield "default", item


def body(step: Step) -> Iterator[Out]:
    return step.each(lambda index, item, values: _ways(values, item, step.budget))


RULE = {
    "type": "object",
    "properties": {
        "output": {
            "type": "string",
            "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,63}$",
            "title": "Output",
            "description": "Name of the way out.",
        },
        **condition_schema(),
    },
    "required": ["output"],
    "additionalProperties": False,
}
RED = {"output": "red", "conditions": [{"left": "{{ item.c }}", "operator": "equals", "right": "red"}]}
WARM = {"output": "warm", "expression": "{{ item.c in ['red', 'orange'] }}"}

NODE = NodeType(
    Manifest(
        type="core.switch",
        title="Switch",
        summary="Sends each item out by the first rule that holds (or by all), else by default.",
        category="flow",
        parameters=parameters(
            {
                "rules": {"type": "array", "items": RULE, "minItems": 1, "maxItems": 100, "title": "Rules"},
                "match": {
                    "type": "string",
                    "enum": ["first", "every"],
                    "default": "first",
                    "title": "Match",
                    "description": "first: an item leaves once. every: by each rule that holds.",
                },
                "otherwise": {
                    "type": "string",
                    "enum": ["default", "drop", "fail"],
                    "default": "default",
                    "title": "If no rule holds",
                    "description": "The item leaves by default, is dropped, or the step fails.",
                },
            },
            required=("rules",),
        ),
        outputs=("default",),
        dynamic_outputs={"parameter": "rules", "field": "output"},
        errors={
            "switch.no_rule": "No rule holds and the node is set to fail then.",
            "condition.type": "A comparison got a value of a type it does not take.",
        },
        examples=(
            Example(
                "First rule that holds",
                {"rules": [RED, WARM]},
                [{"c": "red"}, {"c": "orange"}, {"c": "blue"}],
                {"red": [{"c": "red"}], "warm": [{"c": "orange"}], "default": [{"c": "blue"}]},
            ),
            Example(
                "Every rule that holds",
                {"rules": [RED, WARM], "match": "every"},
                [{"c": "red"}],
                {"red": [{"c": "red"}], "warm": [{"c": "red"}]},
            ),
            Example("Dropped", {"rules": [RED], "otherwise": "drop"}, [{"c": "blue"}], {}),
            Example("Failed", {"rules": [RED], "otherwise": "fail"}, [{"c": "blue"}], error="switch.no_rule"),
        ),
    ),
    body,
)
