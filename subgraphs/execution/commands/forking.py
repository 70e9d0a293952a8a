"""What a caller may do with a run's past: go on from there, with other data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from subgraphs.engine.run import Fork, Run, Start, Unrunnable, decide
from subgraphs.execution.commands.starting import begin, queued
from subgraphs.execution.commands.stopping import found
from subgraphs.execution.domain import Desk, Head, Held, fingerprint
from subgraphs.platform.domain import Caller, Conflict, Invalid, Missing

Edits = Mapping[str, Mapping[str, Sequence[dict[str, Any]]]]
"""Items that take the place of what a step had put out, by step key and port."""


async def fork(
    caller: Caller,
    desk: Desk,
    *,
    origin: Run,
    head: Head,
    edits: Edits,
    effects: str,
    release: int | None,
    key: str | None,
) -> Head:
    """Starts a run that goes on from where `origin` stood, which stays as it is. `origin` is folded up to the event."""
    caller.must("execution:start")
    held = await _held(desk, head, release)
    _possible(origin, held, edits)
    data = {
        "rerunOf": str(head.id),
        "release": release,
        "startedBy": str(caller.subject),
        "fork": {"version": origin.version, "effects": effects, "edits": await desk.portable(edits)},
    }
    same = fingerprint("fork", str(head.id), origin.version, edits, effects, release)
    number = release if release is not None else head.release
    return await begin(
        desk, queued(caller, desk, head.name, head.workflow, head.mode, number, head.id), data, key, same
    )


async def mend(
    caller: Caller, desk: Desk, *, id: UUID, failed: bool, edits: Edits, release: int | None, key: str | None
) -> Head:
    """Starts a run that goes on from just before the step failed that ended another one, which stays as it is."""
    caller.must("execution:start")
    head = await found(desk, id)
    if not failed:
        raise Invalid(
            "Edits and another release go with a run that goes on.",
            code="rerun_whole",
            field="fromFailed",
            next_step="Set fromFailed, or use forkExecution to go on from any event.",
        )
    origin = await desk.before_failure(id) if head.status in {"failed", "timed_out"} else None
    if origin is None:
        raise Conflict(
            "No step of the run has failed and ended it.",
            code="execution_not_failed",
            field="executionId",
            next_step="forkExecution goes on from any event of a run.",
        )
    return await fork(caller, desk, origin=origin, head=head, edits=edits, effects="live", release=release, key=key)


async def _held(desk: Desk, head: Head, release: int | None) -> Held | None:
    """The other release the fork is to run by, if it is to run by another."""
    if release is None:
        return None
    held = await desk.held(head.workflow, release) if head.workflow is not None else None
    if held is None:
        raise Missing("The workflow has no such release to run.", code="release_missing", field="release")
    return held


def _possible(origin: Run, held: Held | None, edits: Edits) -> None:
    """Raises Invalid if the fork could not begin: decided here as it will be there, and thrown away."""
    started = origin.started
    assert started is not None  # noqa: S101 - it is folded up to its first event at least
    for step, ports in edits.items():
        for port, items in ports.items():
            if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                raise Invalid(
                    f"The items of {step}, port {port}, are not a list of objects.",
                    code="items_malformed",
                    field="edits",
                    next_step="Send a list with an object for each item.",
                )
    try:
        plan = held.plan() if held is not None else origin.plan
        blank = Run.blank(UUID(int=0), origin.tenant, plan)
        begun = Start(
            at=started.at,
            seed=0,
            trigger=started.trigger,
            items=[made.json for made in started.items],
            fork=Fork(run=origin, edits=edits),
        )
        if started.trigger not in plan.nodes:
            raise Unrunnable(f"that release has no trigger {started.trigger}")
        decide(blank, begun)
    except Unrunnable as fault:
        raise Invalid(
            f"The run cannot go on from there: {fault}.",
            code="fork_impossible",
            field="edits",
            next_step="Edit steps that had settled at that event; `at(event)` shows which had.",
        ) from fault
