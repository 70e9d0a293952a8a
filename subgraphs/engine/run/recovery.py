"""After a crash: what was cut off begins again, waits for somebody who knows, or is given up."""

from __future__ import annotations

from collections.abc import Iterable

from subgraphs.engine.run import failing, waits
from subgraphs.engine.run.ahead import Ahead
from subgraphs.engine.run.commands import Complete, Recover, Settle
from subgraphs.engine.run.events import Event, Made, StepAmbiguous, StepSettled, StepsHeld, StepStarted
from subgraphs.engine.run.state import Run
from subgraphs.engine.step import StepError, StepOutcome

RECOVERIES = 3
"""A step whose process died under it so many times is not begun again."""


def recover(run: Run, command: Recover) -> list[Event]:
    """A new owner has the run. Attempts whose effect may be repeated begin again, others wait to be settled; a step
    that took its process with it too often fails. What was ready to reach outside and had not begun begins now."""
    ahead = Ahead(run, command.at)
    spared = command.spared
    poisonous = [key for key in run.running if run.steps[key].recoveries >= RECOVERIES and key not in spared]
    for key in poisonous:
        error = StepError(
            "step.poison", f"The process died {RECOVERIES + 1} times while it ran this.", "infrastructure"
        )
        ended = Complete(command.at, key, run.running[key], StepOutcome(error=error))
        if ahead.section == 0 and not ahead.lost(key):
            failing.fail(ahead, run.steps[key], ended, error, again=False)
            ahead.proceed()
    others = [key for key in run.running if key not in poisonous and not ahead.lost(key)]
    if ahead.section:
        return ahead.events
    parked = [key for key in others if run.node(key).parks]
    again = [key for key in others if not run.node(key).parks]
    ahead.events += [StepAmbiguous(at=command.at, node=key, attempt=run.running[key]) for key in parked]
    if run.paused:
        return [*ahead.events, StepsHeld(at=command.at, nodes=tuple(again))] if again else ahead.events
    ahead.events += [
        StepStarted(at=command.at, node=key, attempt=run.running[key] + 1, recovered=True, spared=key in spared)
        for key in again
    ]
    return [*ahead.events, *beginning(run, command.at, (key for key in run.ready if not ahead.lost(key)))]


def beginning(run: Run, at: int, keys: Iterable[str]) -> list[Event]:
    """The beginnings of those of these steps that reach outside."""
    return [StepStarted(at=at, node=key, attempt=run.steps[key].attempt + 1) for key in keys if not run.node(key).pure]


def settle(run: Run, command: Settle) -> list[Event]:
    """Somebody knows whether an attempt that was cut off had happened."""
    key = command.node
    if run.ambiguous.get(key) != command.attempt:
        return []
    settled = StepSettled(at=command.at, node=key, attempt=command.attempt, happened=command.happened, by=command.by)
    if not command.happened:
        again = StepStarted(at=command.at, node=key, attempt=command.attempt + 1)
        return [settled] if run.paused else [settled, again]
    ahead = Ahead(run, command.at)
    ahead.events.append(settled)
    held = sum(len(items) for _, _, _, items in run.arriving(key))
    waits.succeed(
        ahead,
        key,
        command.attempt,
        {
            port: [
                Made(dict(json), (index,) if len(items) == held else tuple(range(held)))
                for index, json in enumerate(items)
            ]
            for port, items in command.outputs.items()
        },
    )
    return ahead.events
