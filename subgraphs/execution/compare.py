"""Two runs side by side: which steps ended alike, and where they first part: step, port, item, field.

Both are folded from their journals as they stand now, so a run may be compared that is still under way. Steps are
matched by key, in the order the left run reached them; what only the right one reached comes last. What is shown of a
difference is bounded: one field of each step, its values cut where they are large.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from subgraphs.engine.run import Run, Step
from subgraphs.engine.run.keys import node_of
from subgraphs.engine.step import Item

LARGEST = 2_048
"""Bytes of JSON of a value that is shown whole."""


@dataclass(frozen=True, slots=True)
class Parting:
    """Where two steps differ. `what`: status, error or output; of an output also port, item and the field (a JSON
    pointer, RFC 6901, into the item). `left` and `right` are what stands there."""

    what: str
    left: Any
    right: Any
    port: str | None = None
    item: int | None = None
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """One step in both runs. `verdict`: equal, different, only_left or only_right."""

    key: str
    name: str
    verdict: str
    parting: Parting | None = None


def compared(left: Run, right: Run) -> Iterator[Match]:
    """Every step of either run."""
    for key, step in left.steps.items():
        other = right.steps.get(key)
        if other is None:
            yield Match(key, _name(left, key), "only_left")
            continue
        parting = parted(step, other)
        yield Match(key, _name(left, key), "different" if parting is not None else "equal", parting)
    for key in right.steps:
        if key not in left.steps:
            yield Match(key, _name(right, key), "only_right")


def parted(left: Step, right: Step) -> Parting | None:
    """Where two steps first differ; None if they ended alike."""
    if left.status != right.status:
        return Parting("status", left.status, right.status)
    for port in [*left.outputs, *(port for port in right.outputs if port not in left.outputs)]:
        found = _items(port, left.outputs.get(port, ()), right.outputs.get(port, ()))
        if found is not None:
            return found
    if _error(left) != _error(right):
        return Parting("error", _error(left), _error(right))
    return None


def _items(port: str, left: Sequence[Item], right: Sequence[Item]) -> Parting | None:
    for at, (one, other) in enumerate(zip(left, right, strict=False)):
        if one.json is other.json:
            continue
        try:
            found = difference(one.json, other.json)
        except RecursionError:  # nested deeper than we follow: the item is named, not the field
            found = ("", one.json, other.json)
        if found is not None:
            return Parting("output", shown(found[1]), shown(found[2]), port, at, found[0])
    if len(left) == len(right):
        return None
    at = min(len(left), len(right))
    first, second = (items[at].json if at < len(items) else None for items in (left, right))
    return Parting("output", shown(first), shown(second), port, at, "")


def difference(left: Any, right: Any, pointer: str = "") -> tuple[str, Any, Any] | None:
    """The first place where two JSON values differ, in the left one's order: (pointer, what is left, what is right).
    What is absent shows as None."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        for key in [*left, *(key for key in right if key not in left)]:
            place = f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"
            if (key in left) != (key in right):
                return place, left.get(key), right.get(key)
            found = difference(left[key], right[key], place)
            if found is not None:
                return found
        return None
    if isinstance(left, list) and isinstance(right, list):
        for at in range(max(len(left), len(right))):
            place = f"{pointer}/{at}"
            if at >= len(left) or at >= len(right):
                return place, left[at] if at < len(left) else None, right[at] if at < len(right) else None
            found = difference(left[at], right[at], place)
            if found is not None:
                return found
        return None
    alike = left == right and isinstance(left, bool) == isinstance(right, bool)
    return None if alike else (pointer, left, right)


def shown(value: Any) -> Any:
    """The value, or the beginning of its JSON if it is large."""
    encoded = msgspec.json.encode(value)
    return value if len(encoded) <= LARGEST else encoded[:LARGEST].decode(errors="ignore") + "…"


def _error(step: Step) -> dict[str, Any] | None:
    return {"code": step.error.code, "message": step.error.message[:LARGEST]} if step.error is not None else None


def _name(run: Run, key: str) -> str:
    return run.plan.nodes[node_of(key)].name
