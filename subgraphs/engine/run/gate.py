"""The replay gate: whether this build still takes recorded runs the way they were taken.

Every chunk must decode and fold. Wherever the events themselves show the command (an attempt that ended, a timer, a
start), the command is put to `decide` again, on the state before, and must bring the very same events. What came from
outside alone is only folded: a cancel's reason is in its event, but whether a worker was to recover an attempt or to
park it is the policy of its day.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from uuid import UUID

import msgspec

from subgraphs.engine.run import commands as asked
from subgraphs.engine.run import events as told
from subgraphs.engine.run.decision import decide
from subgraphs.engine.run.events import Event, Made, Outputs, decode
from subgraphs.engine.run.folding import evolve
from subgraphs.engine.run.plan import Plan
from subgraphs.engine.run.state import STATUSES, Run
from subgraphs.engine.step import Item, Source, StepError, StepOutcome


class Divergence(msgspec.Struct, frozen=True):
    """Where a run would go another way: after `version` events, what was recorded and what this build says."""

    version: int
    recorded: str
    now: str


class Verdict(msgspec.Struct):
    """A replayed run, how many of its events were decided again, and where it diverged first."""

    run: Run
    decided: int = 0
    divergence: Divergence | None = None


def replay(plan: Plan, chunks: Iterable[bytes], id: UUID, tenant: UUID) -> Verdict:
    """Replays the journal of one run. Stops at the first divergence."""
    verdict = Verdict(Run.blank(id, tenant, plan))
    for chunk in chunks:
        try:
            events = decode(chunk)
        except msgspec.DecodeError as fault:
            verdict.divergence = Divergence(verdict.run.version, chunk[:500].decode(errors="replace"), str(fault))
            return verdict
        _chunk(verdict, events)
        if verdict.divergence is not None:
            break
    return verdict


def _chunk(verdict: Verdict, events: Sequence[Event]) -> None:
    run, at = verdict.run, 0
    while at < len(events) and verdict.divergence is None:
        length = 1
        for command in _commands(run, events[at:]):
            decided = decide(run, command)
            length = max(1, len(decided))
            recorded = list(events[at : at + length])
            if decided == recorded:
                verdict.decided += length
                verdict.divergence = None
                break
            verdict.divergence = Divergence(run.version, str(recorded), str(decided))
        if verdict.divergence is None:
            _fold(verdict, events[at : at + length])
        at += length


def _fold(verdict: Verdict, events: Iterable[Event]) -> None:
    run = verdict.run
    for event in events:
        final = run.final
        try:
            evolve(run, event)
        except (LookupError, AssertionError, TypeError, AttributeError) as fault:
            verdict.divergence = Divergence(run.version, str(event), f"cannot be applied: {fault!r}")
            return
        if final or run.status not in STATUSES or run.left < 0:
            verdict.divergence = Divergence(run.version, str(event), f"leads to no legal state: {run.status}")
            return


def _commands(run: Run, events: Sequence[Event]) -> Iterator[asked.Command]:
    """The commands that may have brought the first of these events; none if it cannot be told."""
    first = events[0]
    cause = next((event for event in events if not isinstance(event, told.Replied | told.Tagged)), first)
    match cause:
        case told.Started():
            yield from _start(cause, events)
        case told.StepSucceeded() | told.StepFailed() | told.StepWaiting():
            yield from _ended(run, cause, events)
        case told.StepStarted() if not cause.recovered and f"retry:{cause.node}" in run.timers:
            yield asked.Fire(cause.at, f"retry:{cause.node}")
        case told.Finished() | told.Compensating() | told.Concluding():
            yield from _over(run, cause)
        case told.RunPaused():
            yield asked.Pause(cause.at, cause.by, cause.reason)
        case told.RunResumed():
            yield asked.Resume(cause.at, cause.by)
        case told.Signalled():
            yield asked.Signal(cause.at, cause.id, cause.name, cause.data, cause.by)
        case told.StepResumed() if run.holds[cause.node].kind != "child":
            yield asked.Answer(cause.at, cause.node, cause.attempt, cause.port, cause.data, cause.by)
        case told.Admitted():
            items = [made.json for made in cause.items] if cause.items is not None else None
            yield asked.Admit(cause.at, cause.gate, items)


def _start(event: told.Started, events: Sequence[Event]) -> Iterator[asked.Command]:
    if len(events) > 1 and isinstance(events[1], told.Forked):
        return
    last = events[-1]
    refused = isinstance(last, told.Finished) and last.status == "failed" and last.node is None
    names = set(asked.Start.__struct_fields__) - {"items", "given", "fork", "fault"}
    yield asked.Start(
        **{name: getattr(event, name) for name in names},
        items=[made.json for made in event.items],
        given={key: _bodies(outputs) for key, outputs in event.given.items()},
        fault=last.error if refused and isinstance(last, told.Finished) else None,
    )


def _bodies(outputs: Outputs) -> dict[str, list[dict[str, object]]]:
    return {port: [made.json for made in items if isinstance(made, Made)] for port, items in outputs.items()}


def _ended(
    run: Run, event: told.StepSucceeded | told.StepFailed | told.StepWaiting, events: Sequence[Event]
) -> Iterator[asked.Command]:
    """An attempt ended, or a timer did it."""
    key = event.node
    if key not in run.running and key not in run.ready and key not in run.held:
        yield from (asked.Fire(event.at, f"{kind}:{key}") for kind in ("wait", "node") if f"{kind}:{key}" in run.timers)
        return
    if isinstance(event, told.StepFailed) and event.error.code == "step.total_timeout":
        yield asked.Fire(event.at, f"node:{key}")
        return
    if isinstance(event, told.StepWaiting) or (
        isinstance(event, told.StepFailed) and event.error.code == "step.poison"
    ):
        return
    outcome = StepOutcome(lines=event.lines, lines_dropped=event.lines_dropped)
    if isinstance(event, told.StepFailed):
        outcome.error = event.error
    else:
        outcome.outputs = _outputs(run, key, event.outputs)
    for other in events:
        if isinstance(other, told.Replied) and other.node == key and run.reply is None:
            outcome.reply = other.reply
            break
        if isinstance(other, told.Tagged) and other.node == key:
            outcome.keys = other.keys
    yield asked.Complete(event.at, key, event.attempt, outcome, event.took)


def _outputs(run: Run, key: str, outputs: Outputs) -> dict[str, list[Item]]:
    """The items as a body put them out: what passed through is the input item itself."""
    arrived, places = [], []
    counts: dict[str, int] = {}
    for _, _, port, items in run.arriving(key):
        for item in items:
            arrived.append(item)
            places.append(Source("", port, counts.get(port, 0)))
            counts[port] = counts.get(port, 0) + 1
    return {
        port: [
            Item(made.json, made.files, tuple(places[index] for index in made.source))
            if isinstance(made, Made)
            else arrived[made]
            for made in entries
        ]
        for port, entries in outputs.items()
    }


def _over(run: Run, event: told.Finished | told.Compensating | told.Concluding) -> Iterator[asked.Command]:
    """The run ends by nothing that happened in it."""
    error = event.error or StepError("", "")
    if event.status in ("timed_out", "succeeded"):  # nothing that succeeds ends by itself
        yield asked.Fire(event.at, "run")
    elif event.status == "cancelled":
        kill = isinstance(event, told.Finished) and bool(run.plan.last or run.undo or run.ending)
        yield asked.Cancel(event.at, by=event.by, kill=kill, error=error)
    elif event.status == "failed" and event.node is None:
        yield asked.Fail(event.at, error)
