"""Stopping a run."""

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
    if reason is not None and len(reason) > MAX_REASON:
        raise Invalid(f"A reason has at most {MAX_REASON} characters.", code="reason_long", field="reason")
    head = await desk.head(id)
    if head is None:
        raise Missing("There is no such run.", field="executionId")
    if head.final:
        if head.status != "cancelled":
            raise Conflict(
                f"The run has {head.status.replace('_', ' ')} already.",
                code="execution_final",
                next_step="There is nothing left to cancel; rerunExecution runs it again.",
            )
        return head
    await desk.post_until_end(head, "cancel", {"reason": reason or "", "by": str(caller.subject)}, PATIENCE)
    return await desk.head(id) or head
