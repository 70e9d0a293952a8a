"""The rows of `execution.wait`: a run's open waits, written and deleted by its own commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from subgraphs.engine.run import Event, Run, StepWaiting
from subgraphs.execution.domain import moment
from subgraphs.execution.storage import WAIT
from subgraphs.platform.writer import Unit


class Standing(NamedTuple):
    """A wait as its row has it: which attempt waits, and for which run if it waits for one."""

    attempt: int
    child: UUID | None


Waits = Mapping[str, Standing]


def written(run: Run, held: Waits, unit: Unit, events: Sequence[Event]) -> dict[str, Standing]:
    """Brings the rows up to the run's state: `held` is what they say, the result what they say then."""
    found = {step: one for step, one in held.items() if _stands(run, step, one.attempt)}
    for event in events:
        if type(event) is StepWaiting and event.kind != "time" and _stands(run, event.node, event.attempt):
            found[event.node] = Standing(event.attempt, _child(event.detail))
            unit.rows.append((WAIT.name, _row(run, event)))
    for step in held.keys() - found.keys():
        unit.deletes.append((WAIT.name, (run.tenant, run.id, step)))
    return found


def left(held: Waits, stands: Waits, events: Sequence[Event], returned: set[str]) -> list[UUID]:
    """The runs nobody waits for any more though they have not come back: the wait ended otherwise."""
    begun = [
        (event.node, Standing(event.attempt, _child(event.detail)))
        for event in events
        if type(event) is StepWaiting and event.kind == "child"
    ]
    return [
        one.child
        for step, one in [*held.items(), *begun]
        if one.child is not None and stands.get(step) != one and step not in returned
    ]


def standing(run: Run) -> dict[str, Standing]:
    """What the rows of a run say that was read back."""
    return {wait.key: Standing(wait.attempt, _child(wait.detail)) for wait in run.waits() if wait.kind != "time"}


def _stands(run: Run, step: str, attempt: int) -> bool:
    found = run.steps.get(step)
    return not run.final and found is not None and found.status == "waiting" and found.attempt == attempt


def _child(detail: Mapping[str, Any]) -> UUID | None:
    return UUID(detail["run"]) if "run" in detail else None


def _row(run: Run, event: StepWaiting) -> tuple[Any, ...]:
    ends = [each for each in (event.until, event.deadline) if each is not None]
    return (
        run.tenant,
        run.id,
        event.node,
        event.attempt,
        event.kind,
        event.name,
        msgspec.json.encode(event.detail).decode(),
        moment(event.at),
        moment(min(ends)) if ends else None,
    )
