"""What queries read, written from the changes in the transaction that stores them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Table, delete, insert, update

from subgraphs.platform.database import Transaction
from subgraphs.workflow.domain import (
    AnyChange,
    DraftSaved,
    ReleasePublished,
    RevisionNamed,
    RevisionRestored,
    Workflow,
    WorkflowArchived,
    WorkflowCreated,
    WorkflowDeleted,
    calls_of,
)
from subgraphs.workflow.storage import tables


async def project(transaction: Transaction, tenant: UUID, workflow: Workflow, at: datetime) -> None:
    """Brings the read tables up to the workflow's fresh changes."""
    created = [each for each in workflow.fresh if isinstance(each, WorkflowCreated)]
    if any(isinstance(each, WorkflowDeleted) for each in workflow.fresh):
        for table, column in (
            (tables.call, "workflow"),
            (tables.release, "workflow"),
            (tables.revision, "workflow"),
            (tables.workflow, "id"),
        ):
            await transaction.execute(delete(table).where(*_mine(table, tenant, **{column: workflow.id})))
        return
    await _head(transaction, tenant, workflow, at, created)
    for change in workflow.fresh:
        await _part(transaction, tenant, workflow.id, change, at)
        if isinstance(change, ReleasePublished):
            await _calls(transaction, tenant, workflow, change)


async def _head(
    transaction: Transaction, tenant: UUID, workflow: Workflow, at: datetime, created: list[WorkflowCreated]
) -> None:
    state = workflow.state
    values: dict[str, Any] = {
        "name": state.name,
        "draft": state.draft,
        "release": state.release,
        "updated_at": at,
    }
    if created:
        first = {"tenant": tenant, "id": workflow.id, "created_at": at, "created_by": created[0].author}
        await transaction.execute(insert(tables.workflow).values(**first, **values))
        return
    for change in workflow.fresh:
        if change.__struct_config__.tag in ("workflow.archived", "workflow.unarchived"):
            values["archived_at"] = at if isinstance(change, WorkflowArchived) else None
    where = _mine(tables.workflow, tenant, id=workflow.id)
    await transaction.execute(update(tables.workflow).where(*where).values(**values))


async def _part(transaction: Transaction, tenant: UUID, workflow: UUID, change: AnyChange, at: datetime) -> None:
    match change:
        case DraftSaved():
            values = {
                "number": change.revision,
                "parent": change.parent,
                "source": change.source if isinstance(change, RevisionRestored) else None,
                "message": change.message,
                "digest": change.digest,
                "hash": change.hash,
                "faults": msgspec.to_builtins(change.faults),
            }
            table = tables.revision
        case ReleasePublished():
            names = ("revision", "name", "message", "digest")
            values = {"number": change.release, **{name: getattr(change, name) for name in names}}
            table = tables.release
        case RevisionNamed():
            where = _mine(tables.revision, tenant, workflow=workflow, number=change.revision)
            await transaction.execute(update(tables.revision).where(*where).values(name=change.name))
            return
        case _:
            return
    whose = {"tenant": tenant, "workflow": workflow, "author": change.author, "at": at}
    await transaction.execute(insert(table).values(**whose, **values))


async def _calls(transaction: Transaction, tenant: UUID, workflow: Workflow, change: ReleasePublished) -> None:
    calls = calls_of(workflow.documents[change.digest].definition)
    if calls:
        whose = {"tenant": tenant, "workflow": workflow.id, "release": change.release}
        rows = [{**whose, "node": each.node, "callee": each.callee, "pinned": each.release} for each in calls]
        await transaction.execute(insert(tables.call).values(rows))


def _mine(table: Table, tenant: UUID, **key: Any) -> list[ColumnElement[bool]]:
    return [table.c.tenant == tenant, *(table.c[name] == value for name, value in key.items())]
