"""A run told from its journal: every step with its attempts, and every event as a watcher sees it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from subgraphs.engine.run import Event, Finished, Run, Started, evolve
from subgraphs.engine.run import events as said
from subgraphs.engine.run.events import Replied, StepFailed, StepStarted, StepSucceeded, StepWaiting
from subgraphs.engine.run.keys import node_of
from subgraphs.engine.step import Item, Line, Reply, StepError
from subgraphs.execution.domain import moment

PREVIEW_ITEMS = 5
PREVIEW_BYTES = 4096


@dataclass(slots=True)
class Attempt:
    """One try at a node. `recovered`: the try before it was cut off with its process."""

    number: int
    started_at: datetime
    finished_at: datetime | None = None
    error: StepError | None = None
    recovered: bool = False
    retry_at: datetime | None = None
    lines: list[Line] = field(default_factory=list)
    lines_dropped: int = 0


@dataclass(slots=True)
class StepRecord:
    """One step of one run; `node` is its key."""

    node: str
    name: str
    type: str
    status: str
    trigger: bool
    attempts: list[Attempt] = field(default_factory=list)
    input: dict[str, list[Any]] | None = None
    output: dict[str, list[Any]] | None = None
    error: StepError | None = None
    ready_at: datetime | None = None
    took: float = 0.0
    """Milliseconds in the body, all attempts together."""

    @property
    def started_at(self) -> datetime | None:
        return self.attempts[0].started_at if self.attempts else None

    @property
    def duration_ms(self) -> float | None:
        """From the first attempt's start to the last one's end, waits included."""
        if not self.attempts or self.attempts[-1].finished_at is None:
            return None
        return (self.attempts[-1].finished_at - self.attempts[0].started_at) / timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Preview:
    """What left a step by one port: how many items, and the first few small ones."""

    port: str
    count: int
    items: list[Any]
    whole: bool


@dataclass(frozen=True, slots=True)
class Happening:
    """One journal event as a watcher sees it, complete in itself. `seq` is the run's version after it."""

    seq: int
    type: str
    at: datetime
    status: str
    last: bool
    nodes: tuple[str, ...] = ()
    name: str | None = None
    attempt: int | None = None
    items: tuple[Preview, ...] = ()
    error: StepError | None = None
    lines: tuple[Line, ...] = ()
    until: datetime | None = None
    reply: Reply | None = None
    workflow: UUID | None = None
    workflow_name: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """What else the event says, JSON."""
    shown: list[Any] = field(default_factory=list, compare=False, repr=False)
    """What the graph makes of it, once for all watchers."""


class History:
    """Folds a journal into steps and happenings. It follows a run of its own, so it never disturbs the owner's."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.steps: dict[str, StepRecord] = {}

    def tell(self, events: Iterable[Event]) -> list[Happening]:
        """Applies the events; what each looks like to a watcher."""
        return [self._told(event) for event in events]

    def _told(self, event: Event) -> Happening:
        evolve(self.run, event)
        words: dict[str, Any] = {}
        match event:
            case Started():
                words = {"nodes": (event.trigger,), "items": self._previews(event.trigger)}
            case StepSucceeded():
                words = {"items": self._previews(event.node), "lines": tuple(event.lines)}
            case StepFailed():
                words = {
                    "error": event.error,
                    "items": self._previews(event.node) if event.outputs is not None else (),
                    "lines": tuple(event.lines),
                    "until": moment(event.retry_at) if event.retry_at is not None else None,
                }
            case StepWaiting():
                due = event.until if event.until is not None else event.deadline
                words = {"lines": tuple(event.lines), "until": moment(due) if due is not None else None}
            case said.StepsSkipped() | said.StepsCancelled() | said.StepsHeld():
                words = {"nodes": event.nodes}
            case Replied():
                words = {"reply": event.reply}
            case said.RoundEnded() | said.Compensating() | said.Concluding() | Finished():
                words = {"error": event.error}
        if "nodes" not in words and (node := getattr(event, "node", None)):
            words["nodes"] = (node,)
        words["attempt"] = getattr(event, "attempt", None)
        words["detail"] = _detail(event)
        return self._happening(event, words)

    def _happening(self, event: Event, words: Mapping[str, Any]) -> Happening:
        started, nodes = self.run.started, words.get("nodes", ())
        known = self.run.plan.nodes.get(node_of(nodes[0])) if len(nodes) == 1 else None
        return Happening(
            seq=self.run.version,
            type=TYPES[type(event)],
            at=moment(event.at),
            status=self.run.status,
            last=type(event) is Finished,
            name=known.name if known is not None else None,
            workflow=started.workflow if started is not None else None,
            workflow_name=started.name if started is not None else "",
            **words,
        )

    def _previews(self, node: str) -> tuple[Preview, ...]:
        step = self.run.steps.get(node)
        if step is None:
            return ()
        return tuple(preview(port, items) for port, items in step.outputs.items() if items)


TYPES: Mapping[type[Any], str] = {
    Started: "STARTED",
    said.Admitted: "ADMITTED",
    said.Forked: "FORKED",
    StepStarted: "STEP_STARTED",
    StepSucceeded: "STEP_SUCCEEDED",
    StepFailed: "STEP_FAILED",
    StepWaiting: "STEP_WAITING",
    said.StepResumed: "STEP_RESUMED",
    said.StepAmbiguous: "STEP_AMBIGUOUS",
    said.StepsHeld: "STEPS_HELD",
    said.StepSettled: "STEP_SETTLED",
    said.StepsSkipped: "STEPS_SKIPPED",
    said.StepsCancelled: "STEPS_CANCELLED",
    said.RoundStarted: "ROUND_STARTED",
    said.RoundEnded: "ROUND_ENDED",
    said.Ignored: "IGNORED",
    said.Signalled: "SIGNALLED",
    said.RunPaused: "PAUSED",
    said.RunResumed: "RESUMED",
    said.Tagged: "TAGGED",
    said.Compensating: "COMPENSATING",
    said.Concluding: "CONCLUDING",
    Replied: "REPLIED",
    Finished: "FINISHED",
}

TOLD: Mapping[type[Any], tuple[str, ...]] = {
    said.Forked: ("run", "version", "edited", "effects"),
    StepStarted: ("recovered",),
    StepWaiting: ("kind", "name"),
    said.StepResumed: ("port", "data", "by"),
    said.StepSettled: ("happened", "by"),
    said.RoundStarted: ("round", "first", "count"),
    said.RoundEnded: ("round", "status", "failed"),
    said.Ignored: ("source", "port", "count"),
    said.Signalled: ("id", "name", "data", "by"),
    said.RunPaused: ("by", "reason"),
    said.RunResumed: ("by",),
    said.Tagged: ("keys",),
    said.Compensating: ("status", "by"),
    said.Concluding: ("status", "by"),
    Finished: ("by",),
}
"""The fields of an event that are told as they stand."""


def _detail(event: Event) -> Mapping[str, Any]:
    """Those of them that say anything; ids as text, data that is large left out."""
    found: dict[str, Any] = {}
    for name in TOLD.get(type(event), ()):
        value = getattr(event, name)
        if isinstance(value, UUID):
            value = str(value)
        large = name == "data" and value is not None and len(msgspec.json.encode(value)) > PREVIEW_BYTES
        if value not in (None, "", False, ()) and not large:
            found[name] = list(value) if isinstance(value, tuple) else value
    return found


def preview(port: str, items: list[Item]) -> Preview:
    """The first items, as long as they are small together."""
    shown: list[Any] = []
    size = 0
    for item in items[:PREVIEW_ITEMS]:
        size += len(msgspec.json.encode(item.json))
        if size > PREVIEW_BYTES:
            break
        shown.append(item.json)
    return Preview(port, len(items), shown, len(shown) == len(items))


def steps(run: Run, events: Iterable[Event]) -> list[StepRecord]:
    """Every node of the plan as it stands after these events, in the order they began; untouched nodes last."""
    records: dict[str, StepRecord] = {}
    ready: dict[str, int] = {}
    for event in events:
        evolve(run, event)
        for node in run.ready:
            ready.setdefault(node, event.at)
        for node in _touched(event):
            record = records.get(node) or records.setdefault(node, _blank(run, node))
            _note(record, event)
            if (step := run.steps.get(node)) is not None:
                record.status = step.status
                if step.outputs and "@" in node:  # the steps of a round leave the run's state when the round ends
                    record.output = _json(step.outputs)
    for node, step in run.steps.items():
        record = records.get(node) or records.setdefault(node, _blank(run, node))
        record.status, record.error = step.status, step.error
        if step.outputs or step.status == "succeeded":
            record.output = _json(step.outputs)
        if step.status != "skipped" and not record.trigger:
            record.input = _json(run.inputs(node))
    for node, at in ready.items():
        if node in records:
            records[node].ready_at = moment(at)
    if run.final:
        _close(records.values(), run)
    known = {node_of(key) for key in records}
    return [*records.values(), *(_blank(run, node) for node in run.plan.nodes if node not in known)]


def _json(ports: Mapping[str, list[Item]]) -> dict[str, list[Any]]:
    return {port: [item.json for item in items] for port, items in ports.items()}


STEPS = (StepStarted, StepSucceeded, StepFailed, StepWaiting, said.StepResumed, said.StepAmbiguous, said.StepSettled)


def _touched(event: Event) -> Iterator[str]:
    if isinstance(event, Started):
        yield event.trigger
    elif isinstance(event, said.StepsCancelled | said.StepsHeld):
        yield from event.nodes
    elif isinstance(event, STEPS):
        yield event.node


def _blank(run: Run, node: str) -> StepRecord:
    known = run.plan.nodes[node_of(node)]
    trigger = run.started is not None and run.started.trigger == node
    return StepRecord(node, known.name, known.type, "pending", trigger)


def _note(record: StepRecord, event: Event) -> None:
    at = moment(event.at)
    if isinstance(event, Started):
        record.attempts.append(Attempt(1, at, at))
        return
    if isinstance(event, StepStarted):
        record.attempts.append(Attempt(event.attempt, at, recovered=event.recovered))
        return
    if not isinstance(event, StepSucceeded | StepFailed | StepWaiting):
        return
    if not record.attempts or record.attempts[-1].number != event.attempt:
        record.attempts.append(Attempt(event.attempt, moment(event.at - int(event.took * 1000))))
    record.took += event.took
    attempt = record.attempts[-1]
    attempt.lines = attempt.lines or event.lines
    attempt.lines_dropped = attempt.lines_dropped or event.lines_dropped
    if isinstance(event, StepWaiting):
        return
    attempt.finished_at = at
    if isinstance(event, StepFailed):
        attempt.error = event.error
        attempt.retry_at = moment(event.retry_at) if event.retry_at is not None else None


def _close(records: Iterable[StepRecord], run: Run) -> None:
    """Steps that were under way when the run ended are cancelled with it."""
    for record in records:
        if record.status in {"ready", "running", "retrying", "waiting", "ambiguous"}:
            record.status = "cancelled"
            if record.attempts and record.attempts[-1].finished_at is None and run.finished_at is not None:
                record.attempts[-1].finished_at = moment(run.finished_at)
