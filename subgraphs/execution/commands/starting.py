"""Beginning runs: of a release, or of a run again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from subgraphs.engine.run import Unrunnable
from subgraphs.execution import events
from subgraphs.execution.domain import Claim, Desk, Head, Held, checked_input, checked_key, fingerprint
from subgraphs.platform.domain import Caller, Conflict, Invalid, Missing, uuid7


async def start(
    caller: Caller,
    desk: Desk,
    *,
    workflow: UUID,
    release: int | None,
    input: Any,
    key: str | None,
    trigger: str | None,
) -> Head:
    """Starts a release. With a key, the same start again gives the same run, another start is a Conflict (EX-13)."""
    caller.must("execution:start")
    held = await desk.held(workflow, release)
    if held is None:
        raise Missing(
            "There is no such release to run.",
            code="release_missing",
            field="release" if release is not None else "workflowId",
            next_step="Publish a release of the workflow first.",
        )
    given = checked_input(held.definition.get("inputs") or (), input)
    node = _trigger(held, trigger)
    data = {
        "workflowId": str(workflow),
        "release": held.release,
        "trigger": node,
        "input": await desk.portable(given),
        "startedBy": str(caller.subject),
    }
    same = fingerprint("start", str(workflow), release, trigger, given)
    accepted = queued(caller, desk, held.name, workflow, "manual", held.release)
    return await begin(desk, accepted, data, key, same)


async def rerun(caller: Caller, desk: Desk, *, id: UUID, key: str | None) -> Head:
    """Runs the same definition with the same trigger and items again, as a new run; the original stays as it is."""
    caller.must("execution:start")
    original = await desk.head(id)
    if original is None:
        raise Missing("There is no such run.", field="executionId")
    data = {"rerunOf": str(id), "startedBy": str(caller.subject)}
    same = fingerprint("rerun", str(id))
    accepted = queued(caller, desk, original.name, original.workflow, original.mode, original.release, id)
    return await begin(desk, accepted, data, key, same)


def _trigger(held: Held, wanted: str | None) -> str:
    try:
        return held.plan().trigger(wanted, "core.manual")
    except Unrunnable as fault:
        raise Invalid(
            f"The run cannot start: {fault}.",
            code="trigger_unknown",
            field="trigger",
            next_step="Name a trigger of this release, or leave it out.",
        ) from fault


async def begin(desk: Desk, accepted: Head, data: dict[str, Any], key: str | None, same: bytes) -> Head:
    """Stores the start; the run if it begins at once, else `queued`, as which it was accepted."""
    known = checked_key(key)
    claim = Claim(desk.tenant, known, accepted.id, same) if known is not None else None
    event = events.requested(accepted.id, desk.tenant, accepted.part, data)
    if not await desk.publish(event, claim) and known is not None:
        first = await desk.claimed(known)
        if first is None or first.hash != same:
            raise Conflict(
                "This idempotency key was used for another start.",
                code="key_reused",
                field="idempotencyKey",
                next_step="Use a new key, or send the same input.",
            )
        accepted = replace(accepted, id=first.run)
    return await desk.begun(accepted.id) or accepted


def queued(
    caller: Caller, desk: Desk, name: str, workflow: UUID | None, mode: str, release: int | None, of: UUID | None = None
) -> Head:
    """A run that was accepted and has not begun."""
    run = uuid7()
    return Head(
        tenant=desk.tenant,
        id=run,
        part=desk.partition(run),
        version=0,
        workflow=workflow,
        name=name,
        mode=mode,
        release=release,
        revision=None,
        status="queued",
        started_at=datetime.now(UTC),
        finished_at=None,
        error=None,
        started_by=caller.subject,
        rerun_of=of,
    )
