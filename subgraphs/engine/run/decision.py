"""What follows from a command: `decide(run, command)` gives the events, and changes nothing.

A node is ready when all its incoming connections have settled and at least one brought items; if none did it is
skipped, and so its own connections are dead. Nodes that only compute become ready and leave no trace until they are
done; nodes that reach outside get `StepStarted` in the same commit as what made them ready.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from subgraphs.engine.run import recovery, starting, waits
from subgraphs.engine.run.ahead import Ahead
from subgraphs.engine.run.commands import (
    Admit,
    Answer,
    Cancel,
    ChildEnded,
    Command,
    Complete,
    Fail,
    Fire,
    Pause,
    Recover,
    Resume,
    Settle,
    Signal,
    Start,
    Tag,
)
from subgraphs.engine.run.ending import conclude
from subgraphs.engine.run.events import Event, RunPaused, RunResumed, Tagged
from subgraphs.engine.run.finishing import complete, fits
from subgraphs.engine.run.state import Run
from subgraphs.engine.step import StepError


def decide(run: Run, command: Command) -> list[Event]:
    """The events that follow; none when the command comes too late (a final run, an attempt that was replaced)."""
    if run.started is None or run.finished_at is not None:
        return starting.start(run, command) if isinstance(command, Start) and run.started is None else []
    if type(command) is Complete:
        return complete(run, command)
    rule = _RULES.get(type(command))
    return rule(run, command) if rule is not None else []


def _cancel(run: Run, command: Cancel) -> list[Event]:
    if run.ending is not None and not command.kill:
        return []
    error = command.error or StepError("execution.cancelled", command.reason or "The run was cancelled.")
    ahead = Ahead(run, command.at)
    conclude(ahead, "cancelled", error=error, by=command.by, at_once=command.kill or run.queued)
    return ahead.events


def _fail(run: Run, command: Fail) -> list[Event]:
    ahead = Ahead(run, command.at)
    conclude(ahead, "failed", error=command.error, at_once=run.queued or run.ending is not None)
    return ahead.events


def _pause(run: Run, command: Pause) -> list[Event]:
    return [] if run.paused else [RunPaused(at=command.at, by=command.by, reason=command.reason)]


def _resume(run: Run, command: Resume) -> list[Event]:
    if not run.paused:
        return []
    return [RunResumed(at=command.at, by=command.by), *recovery.beginning(run, command.at, run.held)]


def _tag(run: Run, command: Tag) -> list[Event]:
    if not command.keys or not fits(run, command.keys):
        return []
    return [Tagged(at=command.at, keys=dict(command.keys))]


_RULES: dict[type[Any], Callable[[Run, Any], list[Event]]] = {
    Admit: starting.admit,
    Fire: waits.fire,
    Cancel: _cancel,
    Fail: _fail,
    Recover: recovery.recover,
    Pause: _pause,
    Resume: _resume,
    Signal: waits.signal,
    Answer: waits.answer,
    ChildEnded: waits.child_ended,
    Settle: recovery.settle,
    Tag: _tag,
}
