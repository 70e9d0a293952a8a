"""The state of a run, and how each event changes it. The state is the fold of the journal, nothing else.

`evolve` changes the state it is given and returns it: one owner folds one run, and copying ten thousand items for each
event would be the whole cost of a step. Payloads are shared between steps, never copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from uuid import UUID

import msgspec

from subgraphs.engine.run.events import (
    Event,
    Finished,
    Made,
    Outputs,
    Replied,
    Respond,
    Started,
    StepFailed,
    StepsSkipped,
    StepStarted,
    StepSucceeded,
    StepWaiting,
)
from subgraphs.engine.run.plan import Plan
from subgraphs.engine.step import Item, Reply, Source, StepError

FINAL = frozenset({"succeeded", "failed", "cancelled", "timed_out"})
STATUSES = ("queued", "running", "waiting", "paused", "succeeded", "failed", "cancelled", "timed_out")
SETTLED = frozenset({"succeeded", "failed", "skipped"})


class Step(msgspec.Struct):
    """One node in one run: ready, running, retrying, waiting, succeeded, failed or skipped.

    `attempt` counts every start, `failures` only those the node itself failed, which is what a retry policy counts.
    `since` is when the first attempt began: a repeated attempt sees the same `now`.
    """

    status: str
    attempt: int = 0
    failures: int = 0
    since: int = 0
    until: int = 0
    outputs: dict[str, list[Item]] = {}
    error: StepError | None = None


class Run(msgspec.Struct):
    """One execution. `pending` counts the incoming connections of each node that have not settled, `fed` are the nodes
    that something reached, `left` the nodes that are not settled, `timers` due times by name."""

    id: UUID
    tenant: UUID
    plan: Plan
    pending: dict[str, int]
    left: int
    version: int = 0
    status: str = "queued"
    started: Started | None = None
    finished_at: int | None = None
    error: StepError | None = None
    reply: Reply | None = None
    steps: dict[str, Step] = {}
    fed: set[str] = set()
    ready: dict[str, None] = {}
    running: dict[str, int] = {}
    timers: dict[str, int] = {}
    last: str | None = None

    @staticmethod
    def blank(id: UUID, tenant: UUID, plan: Plan) -> Run:
        """A run nothing has happened to yet."""
        return Run(id=id, tenant=tenant, plan=plan, pending=dict(plan.pending), left=len(plan.nodes))

    @property
    def final(self) -> bool:
        return self.status in FINAL

    @property
    def respond(self) -> Respond | None:
        return self.started.respond if self.started else None

    def arriving(self, node: str) -> Iterator[tuple[str, str, str, list[Item]]]:
        """What each incoming connection brings: (source node, its port, our port, items), in connection order."""
        for edge in self.plan.nodes[node].incoming:
            step = self.steps.get(edge.source)
            items = step.outputs.get(edge.output) if step is not None else None
            if items:
                yield edge.source, edge.output, edge.input, items

    def inputs(self, node: str) -> dict[str, list[Item]]:
        """The items per input port. A port fed by one connection gets that very list: do not change it."""
        found: dict[str, list[Item]] = {}
        for _, _, port, items in self.arriving(node):
            found[port] = found[port] + items if port in found else items
        return found

    def origins(self, node: str) -> list[tuple[Source, Item]]:
        """Every arriving item and where it lies, by position."""
        return [
            (Source(source, port, index), item)
            for source, port, _, items in self.arriving(node)
            for index, item in enumerate(items)
        ]


def replay(run: Run, events: Iterable[Event]) -> Run:
    """The run after all of these."""
    for event in events:
        evolve(run, event)
    return run


def evolve(run: Run, event: Event) -> Run:
    """The run after one more event. `version` is the number of events applied."""
    run.version += 1
    if type(event) is StepSucceeded:
        _settle(run, event.node, event.attempt, event.at, _items(run, event.node, event.outputs), None)
    elif type(event) is StepStarted:
        _begin(run, event)
    elif type(event) is StepsSkipped:
        for node in event.nodes:
            _skip(run, node)
    elif type(event) is StepFailed:
        _fail(run, event)
    elif type(event) is StepWaiting:
        _hold(run, event)
    elif type(event) is Started:
        _start(run, event)
    elif type(event) is Replied:
        run.reply = event.reply
    elif type(event) is Finished:
        _finish(run, event)
    if run.finished_at is None:
        run.status = "waiting" if run.timers and not run.ready and not run.running else "running"
    return run


def _items(run: Run, node: str, outputs: Outputs) -> dict[str, list[Item]]:
    origins = run.origins(node)
    made: dict[str, list[Item]] = {}
    for port, entries in outputs.items():
        made[port] = [
            Item(entry.json, entry.files, tuple(origins[index][0] for index in entry.source))
            if type(entry) is Made
            else _passed(origins[entry])  # type: ignore[index]
            for entry in entries
        ]
    return made


def _passed(origin: tuple[Source, Item]) -> Item:
    return Item(origin[1].json, origin[1].files, (origin[0],))


def _start(run: Run, event: Started) -> None:
    run.started = event
    run.status = "running"
    if event.deadline is not None:
        run.timers["run"] = event.deadline
    step = Step("succeeded", attempt=1, since=event.at)
    step.outputs = {"main": [Item(made.json, made.files) for made in event.items]}
    run.steps[event.trigger] = step
    run.left -= 1
    _feed(run, event.trigger, step)


def _begin(run: Run, event: StepStarted) -> None:
    step = run.steps[event.node]
    step.status, step.attempt = "running", event.attempt
    step.since = step.since or event.at
    run.ready.pop(event.node, None)
    run.timers.pop(f"retry:{event.node}", None)
    run.running[event.node] = event.attempt
    _bound(run, event.node, step)


def _bound(run: Run, node: str, step: Step) -> None:
    """The node has until `total` after its first attempt began, whatever it does in between."""
    total = run.plan.nodes[node].total
    if total is not None:
        run.timers[f"node:{node}"] = step.since + int(total * 1e6)


def _settle(
    run: Run, node: str, attempt: int, at: int, outputs: dict[str, list[Item]], error: StepError | None
) -> None:
    step = run.steps[node]
    step.status = "failed" if error is not None else "succeeded"
    step.attempt, step.outputs, step.error = attempt, outputs, error
    step.since = step.since or at
    _leave(run, node)
    run.timers.pop(f"node:{node}", None)
    run.left -= 1
    run.last = node
    _feed(run, node, step)


def _leave(run: Run, node: str) -> None:
    run.ready.pop(node, None)
    run.running.pop(node, None)
    if run.timers:
        run.timers.pop(f"retry:{node}", None)
        run.timers.pop(f"wait:{node}", None)


def _feed(run: Run, node: str, step: Step) -> None:
    for edge in run.plan.nodes[node].outgoing:
        target = edge.target
        run.pending[target] -= 1
        if step.outputs.get(edge.output):
            run.fed.add(target)
        if run.pending[target] == 0 and target in run.fed and target not in run.steps:
            run.steps[target] = Step("ready")
            run.ready[target] = None


def _skip(run: Run, node: str) -> None:
    run.steps[node] = Step("skipped")
    run.left -= 1
    _feed(run, node, run.steps[node])


def _fail(run: Run, event: StepFailed) -> None:
    step = run.steps[event.node]
    step.failures += 1
    if event.outputs is not None:
        _settle(run, event.node, event.attempt, event.at, _items(run, event.node, event.outputs), event.error)
        return
    step.attempt, step.error = event.attempt, event.error
    step.since = step.since or event.at
    _leave(run, event.node)
    if event.retry_at is not None:
        step.status = "retrying"
        run.timers[f"retry:{event.node}"] = event.retry_at
        _bound(run, event.node, step)
    else:
        step.status = "failed"


def _hold(run: Run, event: StepWaiting) -> None:
    step = run.steps[event.node]
    step.status, step.attempt, step.until = "waiting", event.attempt, event.until or 0
    step.since = step.since or event.at
    _leave(run, event.node)
    if event.until is not None:
        run.timers[f"wait:{event.node}"] = min(event.until, event.deadline or event.until)
    _bound(run, event.node, step)


def _finish(run: Run, event: Finished) -> None:
    run.status, run.finished_at, run.error = event.status, event.at, event.error
    run.ready.clear()
    run.running.clear()
    run.timers.clear()
