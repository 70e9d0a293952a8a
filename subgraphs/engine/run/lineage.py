"""Which input items an output item descends from, and which pass through unchanged.

Through joins and merges an item names the items of every connection it was made from; through a loop, the items the
loop was given; through a child run, the items the calling step held. Nodes keep none of this themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from subgraphs.engine.run.events import Made, Outputs
from subgraphs.engine.run.state import Run
from subgraphs.engine.step import Item, StepError


def record(run: Run, node: str, outputs: Mapping[str, Sequence[Item]]) -> Outputs:
    """The outputs of a step as the journal keeps them: unchanged items by position, new ones with their sources.

    A node that knows says which items of its own inputs an item was made from (`source` entries with an empty node:
    port and position of the request). Otherwise: the only input, the input at the same position when as many leave as
    arrived, all of them when one item leaves; else nothing.
    """
    arrived = [item for _, _, _, items in run.arriving(node) for item in items]
    at = {id(item): position for position, item in enumerate(arrived)}
    places: dict[tuple[str, int], int] = {}
    recorded: Outputs = {}
    for port, items in outputs.items():
        entries: list[int | Made] = []
        for position, item in enumerate(items):
            same = at.get(id(item))
            if same is not None:
                entries.append(same)
                continue
            if item.source and not places:
                places = _places(run, node)
            entries.append(Made(item.json, _source(item, position, len(items), len(arrived), places), item.files))
        recorded[port] = entries
    return recorded


def _places(run: Run, node: str) -> dict[tuple[str, int], int]:
    """Position among all arriving items, by (input port, position in that port)."""
    found: dict[tuple[str, int], int] = {}
    counts: dict[str, int] = {}
    position = 0
    for _, _, port, items in run.arriving(node):
        for _ in items:
            found[port, counts.get(port, 0)] = position
            counts[port] = counts.get(port, 0) + 1
            position += 1
    return found


def _source(
    item: Item, position: int, leaving: int, arrived: int, places: Mapping[tuple[str, int], int]
) -> tuple[int, ...]:
    named = tuple(
        places[source.port, source.index]
        for source in item.source
        if not source.node and (source.port, source.index) in places
    )
    if named:
        return named
    if arrived == 1:
        return (0,)
    if leaving == arrived:
        return (position,)
    return tuple(range(arrived)) if leaving == 1 else ()


def with_error(run: Run, key: str, error: StepError) -> list[int | Made]:
    """Each arriving item, marked."""
    return marked([item for _, _, _, items in run.arriving(key) for item in items], error)


def marked(items: Sequence[Item], error: StepError) -> list[int | Made]:
    """Each item with the error beside its data: what leaves a failed step that is not to stop the run."""
    told: dict[str, Any] = {"code": error.code, "message": error.message, "kind": error.kind}
    if error.field is not None:
        told["field"] = error.field
    if error.detail:
        told["detail"] = error.detail
    return [Made({**item.json, "error": told}, (index,), item.files) for index, item in enumerate(items)]


def ancestor(run: Run, item: Item, node: str) -> Item | None:
    """The item of `node`, an id or a step key, that `item` descends from, nearest first; None if it descends from none,
    or from one in a round that is over. The round of a loop around the item counts as the loop's."""
    seen: set[int] = set()
    level = [item]
    while level:
        following: list[Item] = []
        for each in level:
            for source in each.source:
                step = run.steps.get(source.node) or run.rounds.get(source.node)
                items = step.outputs.get(source.port, ()) if step is not None else ()
                if source.index >= len(items) or id(items[source.index]) in seen:
                    continue
                if source.node == node or source.node.partition("@")[0] == node:
                    return items[source.index]
                seen.add(id(items[source.index]))
                following.append(items[source.index])
        level = following
    return None
