"""Pausing all runs of a workflow, or of the whole tenant: those under way are held, new ones wait in line."""

from __future__ import annotations

from uuid import UUID

from subgraphs.execution.commands.stopping import _reason
from subgraphs.execution.domain import Desk, Pause
from subgraphs.platform.domain import Caller, Missing

WHOLE_TENANT = UUID(int=0)


async def pause_all(caller: Caller, desk: Desk, *, workflow: UUID | None, reason: str | None) -> Pause:
    """Pauses a workflow, or everything of the tenant. A pause that stands already stays as it is."""
    caller.must("execution:control" if workflow is not None else "tenant:write")
    if workflow is not None and await desk.held(workflow, None) is None:
        raise Missing(
            "There is no such workflow to run.", field="workflowId", next_step="Publish a release of it first."
        )
    return await desk.pause(workflow or WHOLE_TENANT, caller.subject, _reason(reason))


async def resume_all(caller: Caller, desk: Desk, *, workflow: UUID | None) -> Pause:
    """Ends such a pause; the pause as it was. Raises Missing when there is none."""
    caller.must("execution:control" if workflow is not None else "tenant:write")
    ended = await desk.unpause(workflow or WHOLE_TENANT, caller.subject)
    if ended is None:
        field = "workflowId" if workflow is not None else None
        raise Missing("Nothing is paused here.", code="pause_missing", field=field)
    return ended
