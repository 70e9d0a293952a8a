"""What a caller may read of workflows: SQL to frozen rows, one statement a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import ARRAY, RowMapping, Select, Table, Uuid, and_, func, literal, select, true, tuple_

from subgraphs.platform.database import Reading
from subgraphs.workflow.domain import Known
from subgraphs.workflow.storage import KnownWorkflows, tables


@dataclass(frozen=True, slots=True)
class RevisionRow:
    """A saved state of a workflow. `faults` as validation found them at the save."""

    number: int
    parent: int | None
    source: int | None
    name: str | None
    message: str
    author: UUID
    at: datetime
    digest: str
    hash: str
    faults: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """A published revision, and since when those who run it hold it."""

    number: int
    revision: int
    name: str | None
    message: str
    author: UUID
    at: datetime
    digest: str
    execution_at: datetime | None
    webhook_at: datetime | None


@dataclass(frozen=True, slots=True)
class WorkflowRow:
    """A workflow with its draft and the release that is current, if there is one."""

    id: UUID
    name: str
    archived_at: datetime | None
    created_at: datetime
    created_by: UUID
    updated_at: datetime
    draft: RevisionRow
    release: ReleaseRow | None


@dataclass(frozen=True, slots=True)
class CallRow:
    """A node of a newest release that calls another workflow. `pinned`: the release it calls; none: the newest."""

    workflow: UUID
    node: str
    pinned: int | None


CallerKey = tuple[UUID, int, tuple[UUID, str] | None]
"""Who is called, rows to read, the call after which to read."""
PageKey = tuple[UUID, int, int | None]
"""Workflow, rows to read, number after which to read (newest first)."""

REVISION = tuple(RevisionRow.__slots__)
RELEASE = tuple(ReleaseRow.__slots__)
HEAD = ("id", "name", "archived_at", "created_at", "created_by", "updated_at")


async def workflows(
    reading: Reading, *, limit: int, after: UUID | None, search: str | None, archived: bool | None
) -> list[WorkflowRow]:
    """Newest first. `search`: part of the name, case ignored. `archived`: only those, only the others, or all."""
    workflow = tables.workflow
    statement = _with_draft_and_release(reading).order_by(workflow.c.id.desc()).limit(limit)
    if after is not None:
        statement = statement.where(workflow.c.id < after)
    if search:
        statement = statement.where(workflow.c.name.icontains(search.replace("\0", ""), autoescape=True))
    if archived is not None:
        put_aside = workflow.c.archived_at
        statement = statement.where(put_aside.is_not(None) if archived else put_aside.is_(None))
    return [_workflow(row) for row in await reading.rows(statement)]


async def by_ids(reading: Reading, ids: Sequence[UUID]) -> dict[UUID, WorkflowRow]:
    statement = _with_draft_and_release(reading).where(tables.workflow.c.id.in_(ids))
    return {row["id"]: _workflow(row) for row in await reading.rows(statement)}


async def revision(reading: Reading, workflow: UUID, number: int) -> RevisionRow | None:
    table = tables.revision
    where = and_(reading.tenant_filter(table.c.tenant), table.c.workflow == workflow, table.c.number == number)
    row = await reading.row(select(*(table.c[name] for name in REVISION)).where(where))
    return RevisionRow(**row) if row else None


async def release(reading: Reading, workflow: UUID, number: int) -> ReleaseRow | None:
    table = tables.release
    where = and_(reading.tenant_filter(table.c.tenant), table.c.workflow == workflow, table.c.number == number)
    row = await reading.row(select(*(table.c[name] for name in RELEASE)).where(where))
    return ReleaseRow(**row) if row else None


async def revision_pages(reading: Reading, keys: Sequence[PageKey]) -> dict[PageKey, list[RevisionRow]]:
    """Pages of many workflows' revisions, newest first."""
    found = await _pages(reading, tables.revision, REVISION, keys)
    return {key: [RevisionRow(**row) for row in rows] for key, rows in found.items()}


async def release_pages(reading: Reading, keys: Sequence[PageKey]) -> dict[PageKey, list[ReleaseRow]]:
    """Pages of many workflows' releases, newest first."""
    found = await _pages(reading, tables.release, RELEASE, keys)
    return {key: [ReleaseRow(**row) for row in rows] for key, rows in found.items()}


def known(reading: Reading) -> Known:
    """What can be asked of workflows and their releases."""
    return KnownWorkflows(reading)


async def caller_pages(reading: Reading, keys: Sequence[CallerKey]) -> dict[CallerKey, list[CallRow]]:
    """Pages of the calls that lead to workflows, from the newest releases of others."""
    pages: dict[CallerKey, list[CallRow]] = {key: [] for key in keys}
    for limit, after in dict.fromkeys((limit, after) for _, limit, after in keys):
        ids = [key[0] for key in keys if key[1:] == (limit, after)]
        for row in await reading.rows(_callers(reading, ids, limit, after)):
            values = dict(row)
            pages[values.pop("callee"), limit, after].append(CallRow(**values))
    return pages


def _callers(reading: Reading, ids: Sequence[UUID], limit: int, after: tuple[UUID, str] | None) -> Select[Any]:
    call, workflow = tables.call, tables.workflow
    wanted = select(func.unnest(literal(ids, ARRAY(Uuid))).label("id")).subquery()
    same = and_(
        workflow.c.tenant == call.c.tenant, workflow.c.id == call.c.workflow, workflow.c.release == call.c.release
    )
    rows = (
        select(call.c.callee, call.c.workflow, call.c.node, call.c.pinned)
        .select_from(call.join(workflow, same))
        .where(reading.tenant_filter(call.c.tenant), call.c.callee == wanted.c.id)
    )
    if after is not None:
        rows = rows.where(tuple_(call.c.workflow, call.c.node) > tuple_(*map(literal, after)))
    page = rows.order_by(call.c.workflow, call.c.node).limit(limit).lateral()
    return select(page).select_from(wanted.join(page, true())).order_by(page.c.workflow, page.c.node)


async def documents(reading: Reading, digests: Sequence[str]) -> dict[str, Any]:
    """Stored definitions as JSON values."""
    table = tables.definition
    statement = select(table.c.digest, table.c.body).where(
        reading.tenant_filter(table.c.tenant), table.c.digest.in_(digests)
    )
    return {row["digest"]: orjson.loads(row["body"]) for row in await reading.rows(statement)}


def _with_draft_and_release(reading: Reading) -> Select[Any]:
    workflow, draft, release = tables.workflow, tables.revision.alias("d"), tables.release.alias("r")
    joined = workflow.join(
        draft,
        and_(
            draft.c.tenant == workflow.c.tenant, draft.c.workflow == workflow.c.id, draft.c.number == workflow.c.draft
        ),
    ).outerjoin(
        release,
        and_(
            release.c.tenant == workflow.c.tenant,
            release.c.workflow == workflow.c.id,
            release.c.number == workflow.c.release,
        ),
    )
    columns = [
        *(workflow.c[name] for name in HEAD),
        *(draft.c[name].label(f"draft_{name}") for name in REVISION),
        *(release.c[name].label(f"release_{name}") for name in RELEASE),
    ]
    return select(*columns).select_from(joined).where(reading.tenant_filter(workflow.c.tenant))


def _workflow(row: RowMapping) -> WorkflowRow:
    release = row["release_number"] is not None
    return WorkflowRow(
        **{name: row[name] for name in HEAD},
        draft=RevisionRow(**{name: row[f"draft_{name}"] for name in REVISION}),
        release=ReleaseRow(**{name: row[f"release_{name}"] for name in RELEASE}) if release else None,
    )


async def _pages(
    reading: Reading, table: Table, names: Sequence[str], keys: Sequence[PageKey]
) -> dict[PageKey, list[dict[str, Any]]]:
    """One statement for all keys that share size and start, as those of one field of one query do."""
    pages: dict[PageKey, list[dict[str, Any]]] = {key: [] for key in keys}
    for limit, after in dict.fromkeys((limit, after) for _, limit, after in keys):
        ids = [key[0] for key in keys if key[1:] == (limit, after)]
        wanted = select(func.unnest(literal(ids, ARRAY(Uuid))).label("id")).subquery()
        rows = select(table.c.workflow, *(table.c[name] for name in names)).where(
            reading.tenant_filter(table.c.tenant), table.c.workflow == wanted.c.id
        )
        if after is not None:
            rows = rows.where(table.c.number < after)
        newest = rows.order_by(table.c.number.desc()).limit(limit).lateral()
        statement = select(newest).select_from(wanted.join(newest, true()))
        for row in await reading.rows(statement.order_by(newest.c.number.desc())):
            values = dict(row)
            pages[values.pop("workflow"), limit, after].append(values)
    return pages
