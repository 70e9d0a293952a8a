"""Old versions of events, read as what they would be today.

The log keeps events as they were written. Who changes what an event says gives it a new version, and declares how the
old one reads: `bus.upcast("shop.order.placed.v1", "shop.order.placed.v2", change)`, where `change(data)` is pure and
has all it needs in the data. Consumers, preparers and listeners name the newest version only and get nothing else.
Versions chain: v1 becomes v2 becomes v3. A sample of every version that was ever written is a test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from subgraphs.platform.domain import Event

Change = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class Upcasts:
    """The steps from each old version to the next."""

    def __init__(self) -> None:
        self._steps: dict[str, tuple[str, Change]] = {}

    def declare(self, old: str, new: str, change: Change) -> None:
        """Raises ValueError for a step that is declared twice, changes the name, or leads to no later version."""
        name, version = _split(old)
        into, later = _split(new)
        if name != into or later <= version:
            raise ValueError(f"{old} does not become {new}: another name, or no later version")
        if self._steps.setdefault(old, (new, change)) != (new, change):
            raise ValueError(f"{old} is declared to become {self._steps[old][0]} already")

    def former(self, types: Iterable[str]) -> frozenset[str]:
        """The types, and every older one that becomes one of them."""
        found = set(types)
        while more := {old for old, (new, _) in self._steps.items() if new in found and old not in found}:
            found |= more
        return frozenset(found)

    def newest(self, event: Event) -> Event:
        """The event as its newest version: same id, place, time and causes."""
        while (step := self._steps.get(event.type)) is not None:
            event = replace(event, type=step[0], data=step[1](event.data))
        return event


def _split(type: str) -> tuple[str, int]:
    name, _, version = type.rpartition(".v")
    if not name or not version.isdigit():
        raise ValueError(f"{type} is no name of an event: domain.entity.action.vN")
    return name, int(version)
