"""A run that goes on from where another stood, with some outputs replaced.

What was settled there counts as settled here, unless it descends from an edited step; all else begins anew: attempts,
waits and open children belong to the original. The journal of the fork holds the whole state it begins from, so it
replays by itself, on the plan it was started with, which may be a later release than the original's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from subgraphs.engine.run import rounds
from subgraphs.engine.run.ahead import Ahead
from subgraphs.engine.run.commands import Fork, Given
from subgraphs.engine.run.events import Event, Forked, Made, Outputs, Started, StepSucceeded
from subgraphs.engine.run.folding import evolve
from subgraphs.engine.run.keys import inside, place, split
from subgraphs.engine.run.moving import enter, feed_round
from subgraphs.engine.run.parts import PlanNode, Unrunnable
from subgraphs.engine.run.snapshot import portable
from subgraphs.engine.run.state import Loop, Round, Run, Step
from subgraphs.engine.step import Item


def begin(run: Run, started: Started, fork: Fork) -> list[Event]:
    """The first events of a fork; raises Unrunnable for an edit of a step that had not settled."""
    origin = fork.run
    if (edit := fork.edits.get(started.trigger)) is not None:
        started = replace(started, items=[Made(dict(json)) for json in edit.get("main", ())])
    carried = _Carried(origin, run, started, fork.edits)
    forked = Forked(
        at=started.at,
        run=origin.id,
        version=origin.version,
        state=portable(carried.run),
        edited=tuple(fork.edits),
        effects=fork.effects,
        record=_made(fork.record) if fork.effects == "record" else {},
    )
    after = Run.blank(run.id, run.tenant, run.plan)
    for event in (started, forked):
        evolve(after, event)
    ahead = Ahead(after, started.at)
    for key in list(after.ready):
        ahead.ready(key, after.node(key), after.steps[key].won)
    for key in carried.loops:
        ahead.ready(key, after.node(key), after.steps[key].won)
    ahead.proceed()
    ahead.skip([id for id, left in after.pending.items() if not left and id not in after.steps])
    rounds.resume(ahead)
    if after.left == 0:
        ahead.nothing_left()
    return [started, forked, *ahead.events]


def _made(given: Given) -> dict[str, Outputs]:
    return {
        key: {port: [Made(dict(json)) for json in items] for port, items in ports.items()}
        for key, ports in given.items()
    }


class _Carried:
    """What of the original counts in the fork, as the state of a run of the fork's plan. `loops` that were ready or are
    new at their place begin by themselves."""

    def __init__(self, origin: Run, run: Run, started: Started, edits: Given) -> None:
        self.origin = origin
        self.run = Run.blank(run.id, run.tenant, run.plan)
        self.run.started = started
        if started.deadline is not None:
            self.run.alarms["run"] = started.deadline
        self.edits = edits
        self.stale = self._stale()
        for key in edits:
            if key not in self._kept(origin.steps):
                raise Unrunnable(f"{key} had no outputs at that point")
        self._level(self.run.plan.pending, "")
        self.run.undo = [
            each for each in origin.undo if each.key not in self.stale and each.key.partition("@")[0] in run.plan.nodes
        ]
        self.run.keys = dict(origin.keys)
        self.run.signals = {name: list(kept) for name, kept in origin.signals.items()}
        self.loops = [
            key
            for key, step in self.run.steps.items()
            if step.status == "ready" and self.run.node(key).rounds is not None
        ]

    def _kept(self, keys: Iterable[str]) -> set[str]:
        return {key for key in keys if self._counts(key)}

    def _counts(self, key: str) -> bool:
        """Whether a step of the original is settled in a way that stands."""
        step = self.origin.steps.get(key)
        if step is None:
            return False
        if step.status == "cancelled":
            return self.origin.ending is None and not self.origin.final
        return step.status in ("succeeded", "skipped") or (step.status == "failed" and bool(step.outputs))

    def _stale(self) -> set[str]:
        """Steps that come after an edited one, at its own level."""
        nodes, found = self.run.plan.nodes, set[str]()
        work = [(split(key)[0], place(key)) for key in self.edits]
        while work:
            id, around = work.pop()
            for edge in nodes[id].outgoing if id in nodes else ():
                key = edge.target + around
                if key not in found:
                    found.add(key)
                    work.append((edge.target, around))
        return found

    def _level(self, ids: Iterable[str], around: str) -> None:
        """Takes over the steps of the top level, or of one round, and of rounds inside it."""
        kept, open_loops = [], []
        for id in ids:
            key, node = id + around, self.run.plan.nodes[id]
            if key in self.stale:
                continue
            if self._counts(key):
                self.run.steps[key] = self._step(key)
                kept.append((key, node))
            elif node.rounds is not None and key in self.origin.loops:
                self.run.steps[key] = Step("running", attempt=1, since=self.origin.steps[key].since)
                open_loops.append((key, node))
        for key, node in kept:
            enter(self.run, key, node, self.run.steps[key].outputs)
        for key, node in open_loops:
            self._rounds(key, node)

    def _step(self, key: str) -> Step:
        step = self.origin.steps[key]
        edit = self.edits.get(key)
        if edit is None:
            return replace(step)
        outputs = {port: [Item(dict(json)) for json in items] for port, items in edit.items()}
        return replace(step, status="succeeded", outputs=outputs, error=None)

    def _rounds(self, key: str, node: PlanNode) -> None:
        loop, shape = self.origin.loops[key], node.rounds
        if shape is None:
            return
        self.run.loops[key] = Loop(
            loop.items,
            loop.rounds,
            loop.next,
            list(loop.open),
            loop.failed,
            loop.count,
            {number: list(items) for number, items in loop.collected.items()},
            loop.first,
        )
        for number in loop.open:
            name = inside(key, number)
            around, was = place(name), self.origin.rounds[name]
            self.run.rounds[name] = Round(len(shape.body), was.first, dict(was.outputs))
            for id in shape.body:
                self.run.pending[id + around] = len(self.run.plan.nodes[id].incoming)
            self._level(shape.body, around)
            feed_round(self.run, node, shape, around)


def recorded(run: Run, events: Iterable[Event]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """What the steps of a run that reach outside have put out, by step key and port, for forks that are to repeat none
    of it. `run` is blank and of the original's plan; it is folded."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for event in events:
        evolve(run, event)
        if isinstance(event, StepSucceeded) and not run.node(event.node).pure:
            outputs: Mapping[str, list[Item]] = run.steps[event.node].outputs
            found[event.node] = {port: [item.json for item in items] for port, items in outputs.items()}
    return found
