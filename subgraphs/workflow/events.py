"""What Workflow tells others, translated from its own changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from subgraphs.engine.validation import blocking
from subgraphs.platform.domain import Event
from subgraphs.workflow.domain import (
    AnyChange,
    DraftRun,
    DraftSaved,
    ReleasePublished,
    Workflow,
    WorkflowArchived,
    WorkflowCreated,
    WorkflowDeleted,
    WorkflowRenamed,
    WorkflowUnarchived,
)

TYPES = {
    WorkflowCreated: "workflow.workflow.created.v1",
    WorkflowRenamed: "workflow.workflow.renamed.v1",
    WorkflowArchived: "workflow.workflow.archived.v1",
    WorkflowUnarchived: "workflow.workflow.unarchived.v1",
    WorkflowDeleted: "workflow.workflow.deleted.v1",
}
DRAFT_SAVED = "workflow.draft.saved.v1"
DRAFT_REQUESTED = "workflow.draft.requested.v1"
RELEASE_PUBLISHED = "workflow.release.published.v1"


def published(
    workflow: Workflow, change: AnyChange, *, tenant: UUID, partition: int, definition: Any = None
) -> Event | None:
    """The event others hear of a change, if they hear of it. `definition` is needed for releases: the document, or its
    claim check when it is large."""
    data: dict[str, Any] = {"workflowId": str(workflow.id), "name": workflow.state.name}
    match change:
        case DraftSaved():
            kind = DRAFT_SAVED
            data |= {"revision": change.revision, "valid": not blocking(change.faults)}
        case ReleasePublished():
            kind = RELEASE_PUBLISHED
            data |= {"release": change.release, "definition": definition, "nodeTypes": change.node_types}
        case _:
            if type(change) not in TYPES:
                return None
            kind = TYPES[type(change)]
    return Event(type=kind, subject=str(workflow.id), data=data, tenant=tenant, partition=partition)


def draft_requested(
    run: DraftRun, *, id: UUID, tenant: UUID, partition: int, definition: Any, input: Mapping[str, Any]
) -> Event:
    """The wish to run a draft; the execution's id is the event's."""
    data = {
        "workflowId": str(run.workflow),
        "name": run.name,
        "revision": run.revision,
        "definition": definition,
        "nodeTypes": run.node_types,
        "trigger": run.trigger,
        "input": input,
        "startedBy": str(run.started_by),
        "key": run.key,
    }
    return Event(id=id, type=DRAFT_REQUESTED, subject=str(id), data=data, tenant=tenant, partition=partition)
