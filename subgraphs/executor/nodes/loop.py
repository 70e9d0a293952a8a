"""`core.loop`: repeats its body, a batch of items a round. The engine runs it; tried alone it shows a first round."""

from __future__ import annotations

from collections.abc import Iterator

from subgraphs.executor.domain import MAIN, Example, Manifest, NodeType, Out, parameters
from subgraphs.executor.step import Step

EACH, DONE, NEXT = "each", "done", "next"
MOST_ROUNDS = 1_000_000


def body(step: Step) -> Iterator[Out]:
    size = step.request.parameters.get("batchSize", 1)
    for index, item in enumerate(step.main):
        if index < size:
            yield EACH, item


NODE = NodeType(
    Manifest(
        type="core.loop",
        title="Loop",
        summary="Repeats what its output each leads to, its body, once for each batch of items. What the body leads "
        "back to the input next leaves by done when all rounds are over, in the order of the rounds.",
        category="flow",
        inputs=(MAIN, NEXT),
        outputs=(EACH, DONE),
        parameters=parameters(
            {
                "batchSize": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 10_000,
                    "default": 1,
                    "title": "Items a round",
                    "x-raw": True,
                },
                "parallel": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 100,
                    "default": 1,
                    "title": "Rounds at once",
                    "description": "1: one after the other.",
                    "x-raw": True,
                },
                "tolerated": {
                    "anyOf": [
                        {"type": "integer", "minimum": 0, "maximum": MOST_ROUNDS},
                        {"type": "string", "pattern": r"^(100|[0-9]{1,2})%\Z"},
                    ],
                    "default": 0,
                    "title": "Rounds that may fail",
                    "description": "A number, or a share of all rounds as 10%. The items of a round that failed leave "
                    "by done with the error added; one failure more fails the loop.",
                    "x-raw": True,
                },
                "collect": {
                    "type": "boolean",
                    "default": True,
                    "title": "Collect",
                    "description": "Whether what the rounds bring back leaves by done; else one item with their "
                    "number, and rounds of any size take no room.",
                    "x-raw": True,
                },
                "maxRounds": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": MOST_ROUNDS,
                    "default": MOST_ROUNDS,
                    "title": "Most rounds",
                    "description": "Of more the loop fails before the first.",
                    "x-raw": True,
                },
            }
        ),
        limits={"rounds": MOST_ROUNDS, "parallel": 100, "itemsOfARound": 10_000},
        errors={
            "loop.too_many_failures": "More rounds failed than are tolerated.",
            "loop.too_many_rounds": "The items make more rounds than the loop may have.",
        },
        examples=(
            Example("A round for each item", {}, [{"n": 1}, {"n": 2}], {"each": [{"n": 1}]}),
            Example(
                "Batches of two, five at once, a tenth of which may fail",
                {"batchSize": 2, "parallel": 5, "tolerated": "10%"},
                [{"n": 1}, {"n": 2}, {"n": 3}],
                {"each": [{"n": 1}, {"n": 2}]},
            ),
        ),
    ),
    body,
)
