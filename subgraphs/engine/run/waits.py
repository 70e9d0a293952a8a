"""Waits: how they begin, what ends them, and timers in general."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from subgraphs.engine.run import failing
from subgraphs.engine.run.ahead import Ahead
from subgraphs.engine.run.commands import Answer, ChildEnded, Complete, Fire, Signal
from subgraphs.engine.run.ending import conclude
from subgraphs.engine.run.events import (
    Event,
    Ignored,
    Made,
    Outputs,
    Signalled,
    StepResumed,
    StepStarted,
    StepSucceeded,
    StepWaiting,
)
from subgraphs.engine.run.flow import count
from subgraphs.engine.run.state import Hold, Run, Step
from subgraphs.engine.step import StepError, StepOutcome, Wait

SIGNALS = 10_000
"""Signals kept that nobody has waited for; later ones are ignored."""


def wait(ahead: Ahead, step: Step, command: Complete, asked: Wait) -> None:
    """The step begins to wait, or goes on at once if its signal is there."""
    run, key, at = ahead.run, command.node, command.at
    node = run.node(key)
    if asked.kind == "time" and asked.until is None:
        error = StepError("step.wait_endless", "The step waits for a time and names none.")
        failing.fail(ahead, step, command, error)
        return
    until = int(asked.until.timestamp() * 1e6) if asked.until is not None else None
    bounds = [(step.since or at) + int(node.wait_timeout * 1e6)] if node.wait_timeout is not None else []
    timed = asked.kind == "time"
    if until is not None and not timed:
        bounds.append(until)
    waiting = StepWaiting(
        at=at,
        node=key,
        attempt=command.attempt,
        until=max(at, until) if until is not None and timed else None,
        deadline=min(bounds) if bounds else None,
        took=command.took,
        lines=command.outcome.lines,
        lines_dropped=command.outcome.lines_dropped,
        kind=asked.kind,
        name=asked.name,
        detail=asked.detail,
    )
    ahead.events.append(waiting)
    if asked.kind == "signal" and (kept := run.signals.get(asked.name)):
        hold = Hold(command.attempt, at, asked.kind, asked.name)
        _answered(ahead, key, hold, Answer(at, key, command.attempt, "main", kept[0].data, kept[0].by))


def _answered(ahead: Ahead, key: str, hold: Hold, answer: Answer) -> None:
    """The items that were held leave with the answer beside their data, under the name of the kind of wait."""
    run, at = ahead.run, answer.at
    ahead.events.append(
        StepResumed(at=at, node=key, attempt=hold.attempt, port=answer.port, data=answer.data, by=answer.by)
    )
    items = [item for _, _, _, items in run.arriving(key) for item in items]
    made: list[int | Made] = [
        Made({**item.json, hold.kind: answer.data}, (index,), item.files) for index, item in enumerate(items)
    ]
    succeed(ahead, key, hold.attempt, {answer.port: made})


def succeed(ahead: Ahead, key: str, attempt: int, outputs: Outputs) -> None:
    """The step is done with these outputs, and what follows is worked out."""
    done = StepSucceeded(at=ahead.at, node=key, attempt=attempt, outputs=outputs)
    ahead.events.append(done)
    ahead.settled(done, ahead.run.node(key), count(outputs))
    ahead.proceed()


def answer(run: Run, command: Answer) -> list[Event]:
    """What was waited for is there."""
    hold = run.holds.get(command.node)
    if hold is None or hold.attempt != command.attempt or hold.kind in ("time", "child"):
        return []
    ahead = Ahead(run, command.at)
    _answered(ahead, command.node, hold, command)
    return ahead.events


def signal(run: Run, command: Signal) -> list[Event]:
    """A message: for the step that has waited longest for one of its name, else for the next that will."""
    if command.id in run.heard:
        return []
    if sum(len(kept) for kept in run.signals.values()) >= SIGNALS:
        return [Ignored(at=command.at, node="", source=command.name)]
    ahead = Ahead(run, command.at)
    ahead.events.append(Signalled(at=command.at, id=command.id, name=command.name, data=command.data, by=command.by))
    for key, hold in run.holds.items():
        if hold.kind == "signal" and hold.name == command.name:
            _answered(ahead, key, hold, Answer(command.at, key, hold.attempt, "main", command.data, command.by))
            break
    return ahead.events


def child_ended(run: Run, command: ChildEnded) -> list[Event]:
    """The called run is over: its items leave, or its error is the step's."""
    key = command.node
    hold = run.holds.get(key)
    if hold is None or hold.attempt != command.attempt or hold.kind != "child":
        return []
    ahead = Ahead(run, command.at)
    told = {"execution": str(command.run) if command.run is not None else None, "status": command.status}
    ahead.events.append(StepResumed(at=command.at, node=key, attempt=hold.attempt, data=told))
    if command.status == "succeeded":
        succeed(ahead, key, hold.attempt, {"main": _theirs(run, key, command.items)})
        return ahead.events
    why = command.error or StepError(f"call.{command.status}", f"The called run ended as {command.status}.")
    error = StepError(
        why.code, why.message, why.kind, why.retryable, why.retry_after, why.field, {**why.detail, **told}
    )
    ended = Complete(command.at, key, hold.attempt, StepOutcome(error=error))
    failing.fail(ahead, run.steps[key], ended, error)
    ahead.proceed()
    return ahead.events


def _theirs(run: Run, key: str, items: Sequence[Mapping[str, Any]]) -> list[int | Made]:
    """The child's items: from the held item at the same place when as many come back as went out, else from all."""
    held = sum(len(each) for _, _, _, each in run.arriving(key))
    alike = len(items) == held
    return [Made(dict(json), (index,) if alike else tuple(range(held))) for index, json in enumerate(items)]


def fire(run: Run, command: Fire) -> list[Event]:
    """A timer is due."""
    due = run.timers.get(command.timer)
    if due is None or due > command.at:
        return []
    ahead = Ahead(run, command.at)
    kind, _, key = command.timer.partition(":")
    if kind == "run":
        error = StepError("execution.timeout", f"The run took longer than {run.plan.timeout:g} s.", "timeout")
        conclude(ahead, "timed_out", error=error)
    elif kind == "retry":
        return [StepStarted(at=command.at, node=key, attempt=run.steps[key].attempt + 1)]
    elif kind == "node":
        total = run.node(key).total or 0.0
        error = StepError("step.total_timeout", f"The node took longer than {total:g} s in all.", "timeout")
        _late(ahead, key, error, again=False)
    else:
        _wait_over(ahead, key, due)
    ahead.proceed()
    return ahead.events


def _wait_over(ahead: Ahead, key: str, due: int) -> None:
    """A wait for time has its end, any wait its deadline."""
    run, step = ahead.run, ahead.run.steps[key]
    hold = run.holds.get(key)  # snapshots taken before holds were kept have none; their waits were for time
    held = sum(len(items) for _, _, _, items in run.arriving(key))
    if (hold is None or hold.kind == "time") and due >= step.until:
        succeed(ahead, key, step.attempt, {"main": list(range(held))})
    elif any(edge.output == "timeout" for edge in run.node(key).outgoing):
        succeed(ahead, key, step.attempt, {"timeout": list(range(held))})
    else:
        error = StepError("step.wait_timeout", "The wait outlasted the node's timeout.", "timeout")
        _late(ahead, key, error)


def _late(ahead: Ahead, key: str, error: StepError, *, again: bool = True) -> None:
    step = ahead.run.steps[key]
    ended = Complete(ahead.at, key, step.attempt, StepOutcome(error=error))
    failing.fail(ahead, step, ended, error, again=again)
