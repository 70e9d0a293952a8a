"""The end of an attempt: done, failed and tried again or not, or waiting."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from subgraphs.engine.run import failing, lineage, plain, waits
from subgraphs.engine.run.ahead import Ahead
from subgraphs.engine.run.commands import Complete
from subgraphs.engine.run.events import Event, Replied, StepSucceeded, Tagged
from subgraphs.engine.run.flow import count
from subgraphs.engine.run.state import Run
from subgraphs.engine.step import StepError, StepOutcome

KEYS = 50
"""Business keys of one run."""
KEY_LENGTH = 64
VALUE_LENGTH = 256


def complete(run: Run, command: Complete) -> list[Event]:
    """What follows from the end of an attempt."""
    key = command.node
    step = run.steps.get(key)
    if step is None:
        return []
    if key in run.running:
        if run.running[key] != command.attempt:
            return []
    elif (key not in run.ready and key not in run.held) or command.attempt != step.attempt + 1:
        return []
    outcome = _within(run, command.outcome)
    if run.plain and not run.paused and outcome.error is None and outcome.wait is None and outcome.keys is None:
        return plain.succeed(run, command)
    ahead = Ahead(run, command.at)
    if outcome.reply is not None and run.reply is None:
        ahead.events.append(Replied(at=command.at, reply=outcome.reply, node=key))
        ahead.replied = True
    if outcome.error is not None:
        failing.fail(ahead, step, replace(command, outcome=outcome), outcome.error)
    elif outcome.wait is not None:
        waits.wait(ahead, step, command, outcome.wait)
    else:
        _succeed(ahead, command, outcome)
    ahead.proceed()
    return ahead.events


def _succeed(ahead: Ahead, command: Complete, outcome: StepOutcome) -> None:
    run, key = ahead.run, command.node
    node = run.node(key)
    outputs = lineage.record(run, key, outcome.outputs)
    done = StepSucceeded(
        at=command.at,
        node=key,
        attempt=command.attempt,
        outputs=outputs,
        took=command.took,
        lines=outcome.lines,
        lines_dropped=outcome.lines_dropped,
    )
    ahead.events.insert(0, done)
    if outcome.keys:
        ahead.events.append(Tagged(at=command.at, keys=outcome.keys, node=key))
    ahead.fresh[key] = outcome.outputs
    ahead.settled(done, node, count(outputs))


def _within(run: Run, outcome: StepOutcome) -> StepOutcome:
    """The outcome, or the error it is because it goes beyond a limit."""
    most = run.plan.items
    for items in outcome.outputs.values():
        if len(items) > most:
            told = f"A step puts out at most {most:,} items by a port."
            return StepOutcome(error=StepError("step.too_many_items", told, "limit"), lines=outcome.lines)
    if outcome.keys and not fits(run, outcome.keys):
        told = f"A run has at most {KEYS} business keys, names of {KEY_LENGTH} and values of {VALUE_LENGTH} characters."
        return StepOutcome(error=StepError("run.keys_invalid", told, "limit"), lines=outcome.lines)
    return outcome


def fits(run: Run, keys: Mapping[str, str]) -> bool:
    """Whether a run can carry these business keys too."""
    return len(run.keys.keys() | keys.keys()) <= KEYS and all(
        0 < len(name) <= KEY_LENGTH and len(value) <= VALUE_LENGTH for name, value in keys.items()
    )
