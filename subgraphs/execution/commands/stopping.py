"""Stopping a run for good, or for a while. Each is a letter to the run's owner, and waits a moment for its effect."""

from __future__ import annotations

from uuid import UUID

from subgraphs.execution.domain import Desk, Head
from subgraphs.platform.domain import Caller, Conflict, Invalid, Missing

MAX_REASON = 500
PATIENCE = 2.0  # seconds a caller waits for the run's owner


async def cancel(caller: Caller, desk: Desk, *, id: UUID, reason: str | None) -> Head:
    """Asks the run's owner to stop it; the run as it is then, ended unless its owner takes longer than PATIENCE.

    Cancelling twice is fine; a run that ended otherwise before is a Conflict."""
    caller.must("execution:cancel")
    return await _stop(caller, desk, "cancel", id, reason)


async def kill(caller: Caller, desk: Desk, *, id: UUID, reason: str | None) -> Head:
    """As `cancel`, but nothing is cleaned up: no compensation and no finally section runs."""
    caller.must("execution:cancel")
    return await _stop(caller, desk, "kill", id, reason)


async def _stop(caller: Caller, desk: Desk, kind: str, id: UUID, reason: str | None) -> Head:
    said = _reason(reason)
    head = await found(desk, id)
    if head.final:
        if head.status != "cancelled":
            raise over(head, "There is nothing left to cancel; rerunExecution runs it again.")
        return head
    await desk.post_until_end(head, kind, {"reason": said, "by": str(caller.subject)}, PATIENCE)
    return await desk.head(id) or head


async def pause(caller: Caller, desk: Desk, *, id: UUID, reason: str | None) -> Head:
    """Holds a run: bodies under way end, none begins, timers rest. Pausing a paused run is fine."""
    caller.must("execution:control")
    return await _heeded(desk, id, "pause", {"reason": _reason(reason), "by": str(caller.subject)})


async def resume(caller: Caller, desk: Desk, *, id: UUID) -> Head:
    """Lets a paused run go on; timers that came due meanwhile fire at once."""
    caller.must("execution:control")
    return await _heeded(desk, id, "resume", {"by": str(caller.subject)})


async def _heeded(desk: Desk, id: UUID, kind: str, data: dict[str, str]) -> Head:
    head = await found(desk, id)
    if head.final:
        raise over(head)
    await desk.post(head, kind, data, patience=PATIENCE)
    return await desk.head(id) or head


async def found(desk: Desk, id: UUID) -> Head:
    """The run; raises Missing."""
    head = await desk.head(id)
    if head is None:
        raise Missing("There is no such run.", field="executionId")
    return head


def over(head: Head, next_step: str = "rerunExecution runs it again.") -> Conflict:
    """What is said of a run that has ended."""
    said = f"The run has {head.status.replace('_', ' ')} already."
    return Conflict(said, code="execution_final", field="executionId", next_step=next_step)


def _reason(reason: str | None) -> str:
    if reason is not None and len(reason) > MAX_REASON:
        raise Invalid(
            f"A reason has at most {MAX_REASON} characters.",
            code="reason_long",
            field="reason",
            next_step="Shorten the reason.",
        )
    return (reason or "").replace("\0", "")  # PostgreSQL keeps no NUL in a text
