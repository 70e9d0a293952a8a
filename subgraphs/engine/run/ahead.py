"""What follows when steps settle, worked out before it has happened.

Deciding changes no run, yet one end can bring a long train of others: a round that is over, the next round, a loop that
is done, the end of the run. `Ahead` keeps, beside the run as it is, what the events decided so far will have changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from subgraphs.engine.run import ending, rounds
from subgraphs.engine.run.events import (
    Ignored,
    Made,
    Outputs,
    Started,
    StepFailed,
    StepsCancelled,
    StepsSkipped,
    StepStarted,
    StepSucceeded,
    Undo,
)
from subgraphs.engine.run.flow import Counts, Flow, Ready, count
from subgraphs.engine.run.keys import place
from subgraphs.engine.run.lineage import marked
from subgraphs.engine.run.parts import Edge, PlanNode
from subgraphs.engine.run.state import SETTLED, Ending, Run
from subgraphs.engine.step import Item, StepError


class Ahead(Flow):
    """A decision under way: which steps are moved by which."""

    def __init__(self, run: Run, at: int, started: Started | None = None) -> None:
        super().__init__(run, at, started)
        self._pending: dict[str, int] = {}
        self._fed: set[str] = set()
        self._moved: set[str] = set()
        self._cancelled: set[str] = set()
        self._work: deque[tuple[str, PlanNode, Counts]] = deque()

    # What has been decided

    def begin(self, cause: Started, trigger: str, idle: Sequence[str], given: Iterable[str] = ()) -> None:
        """The run begins at `trigger`; the `idle` nodes never will. `given` ones are done already."""
        self.cause = cause
        given = tuple(given)
        self._moved.update(idle, given, (trigger,))
        for key in given:
            self.events.append(StepSucceeded(at=self.at, node=key, attempt=1, taken="given"))
        self._pass(trigger, self.run.plan.nodes[trigger], {"main": len(cause.items)}, idle)
        for key in given:
            self._work.append((key, self.run.node(key), count(cause.given.get(key) or {})))
        self.proceed()

    def skip(self, keys: Sequence[str]) -> None:
        """Nothing will ever reach these."""
        levels: dict[str, list[str]] = {}
        for key in keys:
            levels.setdefault(place(key), []).append(key)
        for around, idle in levels.items():
            self._pass("", self.run.node(idle[0]), {}, idle, around)
            self.proceed()

    def nothing_left(self) -> None:
        """A fork of a run all of whose nodes are settled ends as it begins."""
        if not self.section:
            ending.section_over(self)

    def settled(self, cause: StepSucceeded | StepFailed, node: PlanNode, counts: Counts) -> None:
        """A step is done, having brought so many items by each port."""
        self.cause = cause
        if node.compensate is not None and self.ending is None and isinstance(cause, StepSucceeded):
            self.undo.append(Undo(node.compensate, cause.node))
        self._work.append((cause.node, node, counts))

    def proceed(self) -> None:
        """Works out everything that follows."""
        while self._work:
            key, node, counts = self._work.popleft()
            if not self.gone or not rounds.lost(self, node, place(key)):
                self._pass(key, node, counts)

    def lost(self, key: str) -> bool:
        """Whether a step is gone by what was decided just now."""
        return key in self._cancelled or (bool(self.gone) and rounds.lost(self, self.run.node(key), place(key)))

    def leave(self, ending: Ending) -> None:
        """The flow is left: nothing of it follows any more."""
        self.ending = ending
        self.section += 1
        self._work.clear()
        self.gone.update(self.run.loops, self.loops)
        self.left[""] = len(self.run.plan.last)

    # One step moves others

    def _pass(self, key: str, node: PlanNode, counts: Counts, idle: Sequence[str] = (), around: str = "") -> None:
        around, section = around or place(key), self.section
        skipped: list[str] = list(idle)
        ready: Ready = []
        work: list[tuple[str, Counts]] = [(each, {}) for each in idle]
        if key:
            self.counts[key] = counts
            work.insert(0, (key, counts))
        while work:
            source, brought = work.pop()
            self.reach(self.run.node(source).outgoing, around, source, brought, ready, skipped, work)
        if skipped:
            self._moved.update(skipped)
            self.events.append(StepsSkipped(at=self.at, nodes=tuple(skipped)))
        cancelled = self._losers(ready, around) if ready else ()
        for each, won in ready:
            if each not in cancelled and self.section == section:
                self.ready(each, self.run.node(each), won)
        if self.section == section:
            scope = node.loop + around if node.loop is not None else ""
            self._scope(scope, len(skipped) + len(cancelled) + (1 if key else 0))

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
        run, pending = self.run, self._pending
        for edge in edges:
            target = edge.target + around if around else edge.target
            known = pending.get(target)
            if known is None:
                known = run.pending.get(target)
                if known is None:
                    known = len(run.plan.nodes[edge.target].incoming)
            left = pending[target] = known - 1
            if brought.get(edge.output):
                if run.plan.nodes[edge.target].join != "all":
                    self._arrive(edge, target, source, brought, ready)
                    continue
                self._fed.add(target)
            if left == 0 and target not in self._moved and target not in run.steps:
                self._moved.add(target)
                if target in self._fed or target in run.fed:
                    ready.append((target, ""))
                else:
                    skipped.append(target)
                    work.append((target, {}))

    def _arrive(self, edge: Edge, target: str, source: str, brought: Counts, ready: Ready) -> None:
        """Items come to a node that waits for one connection only."""
        if target not in self._moved and target not in self.run.steps:
            self._moved.add(target)
            ready.append((target, source))
        elif (target, source) not in ready:
            self.events.append(
                Ignored(at=self.at, node=target, source=source, port=edge.output, count=brought[edge.output])
            )

    def _losers(self, ready: Sequence[tuple[str, str]], around: str) -> Collection[str]:
        """The steps that nobody needs now that a join has its first items; they are cancelled."""
        run = self.run
        lost: list[str] = []
        for key, won in ready:
            for id in run.node(key).losers if won else ():
                each = id + around
                if each not in self.counts and self._needless(each, ready):
                    lost.append(each)
        if lost:
            self._moved.update(lost)
            self._cancelled.update(lost)
            self.events.append(StepsCancelled(at=self.at, nodes=tuple(lost)))
        return frozenset(lost)

    def _needless(self, key: str, ready: Sequence[tuple[str, str]]) -> bool:
        """Whether a step is still to settle."""
        step = self.run.steps.get(key)
        return step.status not in SETTLED if step is not None else key not in self._moved or (key, "") in ready

    def ready(self, key: str, node: PlanNode, won: str = "") -> None:
        """A step has what it waits for: it begins, or is done already, or goes through its rounds."""
        started, record = self.started, self.run.record
        if started is not None and started.given:
            given = started.given.get(key) or started.given.get(node.id)
            if given is not None:
                self._take(key, node, "given", given)
                return
        if node.rounds is not None:
            rounds.begin(self, key, node, won)
        elif node.pure:
            return
        elif record is not None and self.ending is None:
            if key in record:
                self._take(key, node, "record", record[key])
            else:
                error = StepError("fork.no_record", "The original has no outcome of this step; fork with live effects.")
                self.fail(key, node, error, 1)
        elif not self.run.paused:
            step = self.run.steps.get(key)
            attempt = step.attempt + 1 if step is not None else 1
            self.events.append(StepStarted(at=self.at, node=key, attempt=attempt))

    def _take(self, key: str, node: PlanNode, taken: str, outputs: Outputs) -> None:
        done = StepSucceeded(at=self.at, node=key, attempt=1, taken=taken)
        self.events.append(done)
        self.fresh[key] = {
            port: [Item(each.json, each.files) for each in made if isinstance(each, Made)]
            for port, made in outputs.items()
        }
        self.settled(done, node, count(outputs))

    def _scope(self, scope: str, less: int) -> None:
        """So many steps fewer are to settle at top level or in a round."""
        if not scope:
            if self.ending is not None and not self.ending.last:
                ending.undone(self, self.ending)
                return
            left = self.left[scope] = self.left.get(scope, self.run.left) - less
            if left <= 0:
                ending.section_over(self)
            return
        known = self.left.get(scope)
        left = self.left[scope] = (self.run.rounds[scope].left if known is None else known) - less
        if left == 0:
            rounds.end(self, scope)

    def fail(self, key: str, node: PlanNode, error: StepError, attempt: int) -> None:
        """A step the engine itself finds faulty fails, as its error settings say."""
        items = self.arriving(key, node) if node.on_error in ("continue", "output") else None
        outputs = (
            {"main" if node.on_error == "continue" else "error": marked(items, error)} if items is not None else None
        )
        self.failed(StepFailed(at=self.at, node=key, attempt=attempt, error=error, outputs=outputs), node)

    def failed(self, event: StepFailed, node: PlanNode) -> None:
        """A step has failed for good: it carries on with the error, or ends what it is a part of."""
        self.events.append(event)
        if event.outputs is not None:
            self.settled(event, node, count(event.outputs))
        elif node.loop is not None:
            rounds.fail(self, event.node, node, event.error)
        elif self.ending is not None:
            self.settled(event, node, {})
        else:
            self.cause = event
            ending.conclude(self, "failed", error=event.error, node=event.node)

    def bodies(self) -> list[dict[str, Any]]:
        """The last step's items."""
        cause = self.cause
        if isinstance(cause, Started):
            return [made.json for made in cause.items]
        if cause is None or cause.outputs is None:
            return []
        if isinstance(cause, StepSucceeded) and cause.taken:
            return [item.json for item in self._taken(cause.node)]
        entries = cause.outputs.get("main") or next((items for items in cause.outputs.values() if items), [])
        arrived = [item.json for _, _, _, items in self.run.arriving(cause.node) for item in items]
        return [entry.json if isinstance(entry, Made) else arrived[entry] for entry in entries]

    def _taken(self, key: str) -> Sequence[Item]:
        course = self.loops.get(key)
        if course is None:
            ports = self.fresh.get(key) or {}
            return ports.get("main") or next((items for items in ports.values() if items), ())
        return rounds.gathered(self.run, key, course)
