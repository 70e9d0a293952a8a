"""`core.signal`: holds the items until the run is sent a signal."""

from __future__ import annotations

from collections.abc import Iterator

from subgraphs.executor.domain import MAIN, TIMEOUT, Example, Manifest, NodeType, Out, fail, parameters
from subgraphs.executor.step import Step, text_of

LONGEST = 128


def body(step: Step) -> Iterator[Out]:
    name = text_of(step.parameters()["name"], "name").strip()
    if not 1 <= len(name) <= LONGEST:
        raise fail("signal.name", f"The name of a signal has 1 to {LONGEST} characters.", field="name")
    step.await_answer("signal", name)
    yield from ()


NODE = NodeType(
    Manifest(
        type="core.signal",
        title="Wait for signal",
        summary="Holds all items until the run is sent a signal of that name, or had been before; its data stands in "
        "signal then. Without one by the node's timeout they leave by timeout.",
        category="flow",
        outputs=(MAIN, TIMEOUT),
        parameters=parameters(
            {
                "name": {
                    "type": "string",
                    "minLength": 1,
                    "title": "Name",
                    "description": "Each signal is taken by one wait, the oldest first.",
                    "x-editor": "expression",
                }
            },
            required=("name",),
        ),
        output={"type": "object", "properties": {"signal": {}}},
        errors={"signal.name": "No name, or a long one."},
        examples=(
            Example(
                "By its name", {"name": "paid"}, [{"id": 7}], waits={"kind": "signal", "name": "paid", "detail": {}}
            ),
            Example(
                "A name of the item's",
                {"name": "paid-{{ item.id }}"},
                [{"id": 7}],
                waits={"kind": "signal", "name": "paid-7", "detail": {}},
            ),
            Example("No name", {"name": "{{ item.name }}"}, [{"name": " "}], error="signal.name"),
        ),
    ),
    body,
)
