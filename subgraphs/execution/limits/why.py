"""Why a run does not go on: what a queued, waiting, paused or running one waits for, and for how long. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from subgraphs.engine.run import Event, Run, RunPaused
from subgraphs.execution.limits.gate import Terms

KINDS = {"time": "TIME", "signal": "SIGNAL", "event": "EVENT", "approval": "APPROVAL", "form": "FORM"}


@dataclass(frozen=True, slots=True)
class Standing:
    """A queued run at its gate. `place` is 1 for who is next. Times in microseconds since 1970; `starts`: when runs
    were let in lately, where that is what counts; `pace`: how long runs have held a place."""

    limit: str
    key: str
    terms: Terms
    at: int
    place: int
    waiting: int
    first: int
    last: int
    held: int = 0
    holders: Sequence[UUID] = ()
    starts: Sequence[int] = ()
    pace: int | None = None
    paused: bool = False

    def due(self, now: int) -> int | None:
        """When it will probably begin, if nothing else comes; None where nothing is known to tell by."""
        terms = self.terms
        if self.paused or terms.kind == "pause":
            return None
        if terms.kind == "debounce":
            due = self.last + terms.period
            return max(now, min(due, self.first + terms.timeout) if terms.timeout else due)
        if terms.kind == "batch":
            return now if self.waiting >= terms.limit else max(now, self.first + terms.timeout)
        if terms.paces:
            return max(now, _paced(self.starts, self.place, terms, now))
        if self.pace is None:
            return None
        rounds = (self.place + max(0, self.held - terms.limit) + terms.limit - 1) // terms.limit
        return now + max(0, rounds * self.pace - self.pace // 2)


def _paced(starts: Sequence[int], place: int, terms: Terms, now: int) -> int:
    """When the `place`-th from now is let in: a period after the one that came `limit` before it."""
    before = sorted(starts)[-terms.limit :]
    index = len(before) + place - 1 - terms.limit
    if index < 0:
        return now
    turns, rest = divmod(index, terms.limit)
    first = before[rest] if rest < len(before) else now
    return first + (turns + 1) * terms.period


@dataclass(frozen=True, slots=True)
class Pending:
    """What one step waits for. `kind`: RUNNING (its body is under way), RETRY, TIME, SIGNAL, EVENT, APPROVAL, FORM,
    CALLBACK, CHILD or SETTLEMENT (nobody knows whether it happened)."""

    key: str
    name: str
    kind: str
    since: int | None
    until: int | None = None
    deadline: int | None = None
    about: str = ""
    who: Sequence[str] = ()
    child: UUID | None = None
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Held:
    """Who paused the run, and when."""

    by: UUID | None
    reason: str
    at: int


@dataclass(frozen=True, slots=True)
class Why:
    """What is known about one run; all of it empty: it is about to go on."""

    standing: Standing | None = None
    held: Held | None = None
    steps: Sequence[Pending] = field(default_factory=tuple)


def steps(run: Run) -> list[Pending]:
    """What the steps of a run wait for that is under way."""
    return [*_waiting(run), *_retrying(run), *_ambiguous(run), *_running(run)]


def _waiting(run: Run) -> Iterator[Pending]:
    for wait in run.waits():
        detail: Mapping[str, Any] = wait.detail
        kind = {"webhook": "CALLBACK", "child": "CHILD"}.get(wait.kind) or KINDS.get(wait.kind, "TIME")
        child = detail.get("run") if wait.kind == "child" else None
        yield Pending(
            key=wait.key,
            name=run.node(wait.key).name,
            kind=kind,
            since=wait.since,
            until=wait.until,
            deadline=wait.deadline,
            about=wait.name,
            who=[str(each) for each in detail.get("approvers") or ()],
            child=UUID(str(child)) if child else None,
            attempt=wait.attempt,
        )


def _retrying(run: Run) -> Iterator[Pending]:
    for key, step in run.steps.items():
        if step.status == "retrying":
            due = run.alarms.get(f"retry:{key}")
            told = step.error.message if step.error is not None else ""
            yield Pending(key, run.node(key).name, "RETRY", step.since or None, due, about=told, attempt=step.attempt)


def _ambiguous(run: Run) -> Iterator[Pending]:
    for key, attempt in run.ambiguous.items():
        yield Pending(key, run.node(key).name, "SETTLEMENT", run.steps[key].since or None, attempt=attempt)


def _running(run: Run) -> Iterator[Pending]:
    for key, attempt in run.running.items():
        yield Pending(key, run.node(key).name, "RUNNING", run.steps[key].since or None, attempt=attempt)


def held(events: Iterable[Event]) -> Held | None:
    """Who paused it last."""
    found = None
    for event in events:
        if isinstance(event, RunPaused):
            found = Held(event.by, event.reason, event.at)
    return found
