"""The end of an attempt: done, failed and tried again or not, or waiting."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from subgraphs.engine.run import lineage, waits
from subgraphs.engine.run.ahead import Ahead, count
from subgraphs.engine.run.commands import Complete
from subgraphs.engine.run.events import Event, Outputs, Replied, StepFailed, StepSucceeded, Tagged
from subgraphs.engine.run.parts import PlanNode
from subgraphs.engine.run.retry import delay
from subgraphs.engine.run.state import Run, Step
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
    ahead = Ahead(run, command.at)
    if outcome.reply is not None and run.reply is None:
        ahead.events.append(Replied(at=command.at, reply=outcome.reply, node=key))
        ahead.replied = True
    if outcome.error is not None:
        fail(ahead, step, replace(command, outcome=outcome), outcome.error)
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
    if any(len(items) > most for items in outcome.outputs.values()):
        error = StepError("step.too_many_items", f"A step puts out at most {most:,} items.", "limit")
    elif outcome.keys and not fits(run, outcome.keys):
        told = f"A run has at most {KEYS} business keys, names of {KEY_LENGTH} and values of {VALUE_LENGTH} characters."
        error = StepError("run.keys_invalid", told, "limit")
    else:
        return outcome
    return replace(outcome, outputs={}, wait=None, keys=None, error=error)


def fits(run: Run, keys: Mapping[str, str]) -> bool:
    """Whether a run can carry these business keys too."""
    return len(run.keys.keys() | keys.keys()) <= KEYS and all(
        0 < len(name) <= KEY_LENGTH and len(value) <= VALUE_LENGTH for name, value in keys.items()
    )


def fail(ahead: Ahead, step: Step, command: Complete, error: StepError, *, again: bool = True) -> None:
    """An attempt failed: it is tried again, or the step carries on with the error, or ends what it is a part of."""
    run, key, outcome = ahead.run, command.node, command.outcome
    node = run.node(key)
    seed = f"{run.started.seed if run.started else 0}:{key}"
    wait = delay(node.retry, step.failures + 1, error, seed) if again else None
    failed = StepFailed(
        at=command.at,
        node=key,
        attempt=command.attempt,
        error=error,
        took=command.took,
        retry_at=command.at + int(wait * 1e6) if wait is not None else None,
        outputs=_carried(run, key, node, error) if wait is None else None,
        lines=outcome.lines,
        lines_dropped=outcome.lines_dropped,
    )
    if wait is not None:
        ahead.events.append(failed)
    else:
        ahead.failed(failed, node)


def _carried(run: Run, key: str, node: PlanNode, error: StepError) -> Outputs | None:
    if node.on_error not in ("continue", "output"):
        return None
    return {"main" if node.on_error == "continue" else "error": lineage.with_error(run, key, error)}
