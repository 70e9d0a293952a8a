"""What happens to workflows, as the event store keeps it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from subgraphs.engine.faults import Fault


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """Something that happened to a workflow, by whom."""

    author: UUID


class WorkflowCreated(Change, frozen=True, kw_only=True, tag="workflow.created"):
    name: str


class DraftSaved(Change, frozen=True, kw_only=True, tag="draft.saved"):
    """`digest` names the stored document, `hash` its canonical form; `parent` is the revision it was based on."""

    revision: int
    parent: int | None
    message: str
    digest: str
    hash: str
    faults: tuple[Fault, ...] = ()


class RevisionRestored(DraftSaved, frozen=True, kw_only=True, tag="revision.restored"):
    """A new revision with the content of an old one."""

    source: int


class RevisionNamed(Change, frozen=True, kw_only=True, tag="revision.named"):
    revision: int
    name: str | None


class ReleasePublished(Change, frozen=True, kw_only=True, tag="release.published"):
    """`node_types`: what runs need to know of each type used, by `type@version`."""

    release: int
    revision: int
    name: str | None
    message: str
    digest: str
    node_types: dict[str, Any]


class WorkflowRenamed(Change, frozen=True, kw_only=True, tag="workflow.renamed"):
    name: str


class WorkflowArchived(Change, frozen=True, kw_only=True, tag="workflow.archived"):
    pass


class WorkflowUnarchived(Change, frozen=True, kw_only=True, tag="workflow.unarchived"):
    pass


class WorkflowDeleted(Change, frozen=True, kw_only=True, tag="workflow.deleted"):
    pass


AnyChange = (
    WorkflowCreated
    | DraftSaved
    | RevisionRestored
    | RevisionNamed
    | ReleasePublished
    | WorkflowRenamed
    | WorkflowArchived
    | WorkflowUnarchived
    | WorkflowDeleted
)


class State(msgspec.Struct, omit_defaults=True):
    """What the aggregate decides by, as snapshots keep it."""

    name: str = ""
    draft: int = 0
    digests: dict[int, str] = {}
    hashes: dict[int, str] = {}
    names: dict[int, str] = {}
    release: int = 0
    archived: bool = False
    deleted: bool = False
