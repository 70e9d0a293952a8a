"""What a decision under way knows and can do, apart from how: the rules of loops and endings build on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from subgraphs.engine.run.events import Event, Started, StepFailed, StepSucceeded, Undo
from subgraphs.engine.run.keys import place
from subgraphs.engine.run.parts import Edge, PlanNode
from subgraphs.engine.run.state import Ending, Run
from subgraphs.engine.step import Item, StepError

Counts = Mapping[str, int]
Ready = list[tuple[str, str]]
"""Steps that have what they wait for, and the step whose items they take if they wait for one connection only."""


class Course(msgspec.Struct):
    """How far a loop will have come. `gained`: what rounds brought that ended just now, if somebody waits for it."""

    items: int
    total: int
    next: int
    open: set[int]
    failed: int
    count: int
    first: StepError | None
    gained: dict[int, list[Item] | None] = {}


class Flow(ABC):
    """The events decided at `at`, and the run as they will leave it. `section` changes when the flow is left for the
    compensations, the finally section or the end: what was about to follow before does not follow any more."""

    def __init__(self, run: Run, at: int, started: Started | None = None) -> None:
        self.run, self.at = run, at
        self.events: list[Event] = []
        self.started = started or run.started
        self.replied = run.reply is not None
        self.ending: Ending | None = run.ending
        self.section = 0
        self.cause: Started | StepSucceeded | StepFailed | None = None
        self.left: dict[str, int] = {}
        self.counts: dict[str, Counts] = {}
        self.fresh: dict[str, Mapping[str, Sequence[Item]]] = {}
        self.loops: dict[str, Course] = {}
        self.gone: set[str] = set()
        self.undo: list[Undo] = []

    @abstractmethod
    def settled(self, cause: StepSucceeded | StepFailed, node: PlanNode, counts: Counts) -> None:
        """A step is done, having brought so many items by each port."""

    @abstractmethod
    def proceed(self) -> None:
        """Works out everything that follows."""

    @abstractmethod
    def leave(self, ending: Ending) -> None:
        """The flow is left: nothing of it follows any more."""

    @abstractmethod
    def reach(
        self,
        edges: Iterable[Edge],
        around: str,
        source: str,
        brought: Counts,
        ready: Ready,
        skipped: list[str],
        work: list[tuple[str, Counts]],
    ) -> None:
        """The connections of one settled step, as `moving` will settle them."""

    @abstractmethod
    def ready(self, key: str, node: PlanNode, won: str = "") -> None:
        """A step has what it waits for: it begins, or is done already, or goes through its rounds."""

    @abstractmethod
    def fail(self, key: str, node: PlanNode, error: StepError, attempt: int) -> None:
        """A step the engine itself finds faulty fails, as its error settings say."""

    @abstractmethod
    def bodies(self) -> list[dict[str, Any]]:
        """The last step's items."""

    # Items that no state holds yet

    def number(self, source: str, port: str) -> int:
        """How many items a step brings by a port."""
        counts = self.counts.get(source)
        if counts is not None:
            return counts.get(port, 0)
        step = self.run.steps.get(source) or self.run.rounds.get(source)
        return len(step.outputs.get(port, ())) if step is not None else 0

    def items(self, source: str, port: str) -> Sequence[Item] | None:
        """Those items; None if they can be told only once it has happened."""
        fresh = self.fresh.get(source)
        if fresh is not None:
            return fresh.get(port, ())
        step = self.run.steps.get(source) or self.run.rounds.get(source)
        if step is not None and (source not in self.counts or not self.counts[source]):
            return step.outputs.get(port, ())
        return () if not self.number(source, port) else None

    def arriving(self, key: str, node: PlanNode) -> list[Item] | None:
        """All items that come to a step; None if some can be told only later."""
        around = place(key)
        found: list[Item] = []
        for edge in node.incoming:
            items = self.items(edge.source + around, edge.output)
            if items is None:
                return None
            found += items
        return found

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for the run's last items."""
        started = self.started
        return (
            not self.replied and started is not None and started.respond is not None and started.respond.mode == "done"
        )


def count(outputs: Mapping[str, Sequence[object]]) -> dict[str, int]:
    """How many items leave by each port."""
    return {port: len(items) for port, items in outputs.items()}
