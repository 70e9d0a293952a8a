"""What Workflow tells others, translated from its own changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from subgraphs.engine.validation import blocking
from subgraphs.platform.domain import Event
from subgraphs.platform.facts import Read, Told
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


class Changed(Told):
    """A workflow was created, renamed, archived, taken back or deleted; `name` is the one it has now."""

    workflow_id: UUID
    name: str


class DraftChanged(Told):
    """A workflow has a new draft; `valid`: it could be published."""

    workflow_id: UUID
    name: str
    revision: int
    valid: bool


class Published(Told):
    """A workflow has a new release. `definition` is the document, or {"$ref", "size"} of it in the object store;
    `nodeTypes` says by `type@version` what runs need to know of its node types."""

    workflow_id: UUID
    name: str
    release: int
    definition: dict[str, Any]
    node_types: dict[str, dict[str, Any]]


class DraftRunRequested(Told):
    """Somebody runs a draft, or a part of it; the event's id is the run's. `definition`, `input` and `given` may be
    references to the object store. `until`: the node after which the run ends; `only`: the one node it is of; `given`:
    items, by node and output port, taken for what those nodes would put out."""

    workflow_id: UUID
    name: str
    revision: int
    definition: dict[str, Any]
    node_types: dict[str, dict[str, Any]]
    trigger: str | None
    input: dict[str, Any]
    started_by: UUID
    key: str | None
    until: str | None
    only: str | None
    given: dict[str, Any]


PUBLISHED: dict[str, type[Told]] = {
    **dict.fromkeys(TYPES.values(), Changed),
    DRAFT_SAVED: DraftChanged,
    DRAFT_REQUESTED: DraftRunRequested,
    RELEASE_PUBLISHED: Published,
}


class Announced(Read):
    digest: str
    manifests: list[dict[str, Any]]


class Held(Read):
    workflow_id: UUID
    release: int


ANNOUNCED = "executor.catalogue.announced.v1"
HOLDERS = {"execution.release.held.v1": "execution", "webhook.release.held.v1": "webhook"}
READ: dict[str, type[Read]] = {ANNOUNCED: Announced, **dict.fromkeys(HOLDERS, Held)}


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
    run: DraftRun,
    *,
    id: UUID,
    tenant: UUID,
    partition: int,
    definition: Any,
    input: Mapping[str, Any],
    given: Mapping[str, Any],
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
        "until": run.part.until,
        "only": run.part.only,
        "given": given,
    }
    return Event(id=id, type=DRAFT_REQUESTED, subject=str(id), data=data, tenant=tenant, partition=partition)
