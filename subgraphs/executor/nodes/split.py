"""`core.split`: one item per element of a list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from subgraphs.engine.step import Item
from subgraphs.executor.domain import Example, Manifest, NodeType, Out, fail, parameters
from subgraphs.executor.step import Step, text_of, type_name


def body(step: Step) -> Iterator[Out]:
    def split(index: int, item: Item, values: dict[str, Any]) -> Iterable[Out]:
        elements = values["list"]
        if not isinstance(elements, list):
            raise fail("split.not_a_list", f"list must be a list, not {type_name(elements)}.", field="list")
        name = text_of(values["as"], "as")
        kept = item.json if values["include"] == "item" else {}
        for element in elements:
            whole = element if isinstance(element, dict) and not name else {name or "value": element}
            yield "main", step.made({**kept, **whole}, index)

    return step.each(split)


NODE = NodeType(
    Manifest(
        type="core.split",
        title="Split out",
        summary="Makes one item of each element of a list.",
        category="data",
        parameters=parameters(
            {
                "list": {
                    "type": "array",
                    "title": "List",
                    "description": "Usually an expression: {{ item.lines }}.",
                    "x-editor": "expression",
                },
                "as": {
                    "type": "string",
                    "default": "",
                    "title": "Field",
                    "description": "Field that holds the element. Empty: an object becomes the item, anything else "
                    "stands in `value`.",
                },
                "include": {
                    "type": "string",
                    "enum": ["nothing", "item"],
                    "default": "nothing",
                    "title": "Include",
                    "description": "item: the fields of the item it came from stand beside it.",
                },
            },
            required=("list",),
        ),
        errors={"split.not_a_list": "What is to be split is no list."},
        examples=(
            Example(
                "Objects",
                {"list": "{{ item.lines }}"},
                [{"lines": [{"sku": "A"}, {"sku": "B"}]}],
                {"main": [{"sku": "A"}, {"sku": "B"}]},
            ),
            Example("Plain values", {"list": "{{ item.n }}"}, [{"n": [1, 2]}], {"main": [{"value": 1}, {"value": 2}]}),
            Example(
                "With the item beside it",
                {"list": "{{ item.tags }}", "as": "tag", "include": "item"},
                [{"id": 7, "tags": ["a", "b"]}],
                {"main": [{"id": 7, "tags": ["a", "b"], "tag": "a"}, {"id": 7, "tags": ["a", "b"], "tag": "b"}]},
            ),
            Example("No list", {"list": "{{ item.n }}"}, [{"n": 1}], error="split.not_a_list"),
        ),
    ),
    body,
)
