"""What a caller may read: their tenant's endpoints and the calls that came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, select

from resolvers.connections import Page, Unpageable
from subgraphs.platform.database import Database
from subgraphs.webhook.domain import Endpoint
from subgraphs.webhook.storage import Rows, call, endpoint, seen

__all__ = ["Received", "Rows", "by_id", "calls", "first_of", "of_workflow"]


@dataclass(frozen=True, slots=True)
class Received:
    """A call as its owner sees it; the body is left out."""

    id: UUID
    at: datetime
    method: str
    path: str
    size: int
    content_type: str | None
    status: int
    outcome: str
    reason: str | None
    execution: UUID | None
    duplicate_of: UUID | None


SHOWN = (
    call.c.id,
    call.c.at,
    call.c.method,
    call.c.path,
    call.c.size,
    call.c.content_type,
    call.c.status,
    call.c.outcome,
    call.c.reason,
    call.c.execution,
    call.c.duplicate_of,
)


async def of_workflow(workflow: UUID, *, tenant: UUID, database: Database, rows: Rows) -> Sequence[Endpoint]:
    async with database.read(tenant) as reading:
        query = select(endpoint).where(
            reading.tenant_filter(endpoint.c.tenant), endpoint.c.workflow == workflow, endpoint.c.present
        )
        return [rows.endpoint(row) for row in await reading.rows(query.order_by(endpoint.c.id).limit(1000))]


async def by_id(id: UUID, *, tenant: UUID, database: Database, rows: Rows) -> Endpoint | None:
    async with database.read(tenant) as reading:
        row = await reading.row(select(endpoint).where(reading.tenant_filter(endpoint.c.tenant), endpoint.c.id == id))
    return rows.endpoint(row) if row else None


async def calls(of: UUID, page: Page, *, tenant: UUID, database: Database) -> Sequence[Received]:
    """A page of an endpoint's calls, newest first."""
    after = _position(page.after)
    async with database.read(tenant) as reading:
        query = select(*SHOWN).where(reading.tenant_filter(call.c.tenant), call.c.endpoint == of)
        if after is not None:
            query = query.where(call.c.id < after)
        return [_received(row) for row in await reading.rows(query.order_by(call.c.id.desc()).limit(page.limit))]


async def first_of(of: Endpoint, key: bytes, *, database: Database) -> UUID | None:
    """The run that the first call with this key started."""
    async with database.read(of.tenant) as reading:
        found: UUID | None = await reading.scalar(
            select(seen.c.id).where(reading.tenant_filter(seen.c.tenant), seen.c.endpoint == of.id, seen.c.key == key)
        )
    return found


def _received(row: RowMapping) -> Received:
    return Received(**{name: row[name] for name in Received.__dataclass_fields__})


def _position(after: list[Any] | None) -> UUID | None:
    if after is None:
        return None
    try:
        (text,) = after
        return UUID(text)
    except (TypeError, ValueError, AttributeError):
        raise Unpageable(
            "This is not a cursor of this list.", code="cursor_malformed", field="after", next_step="Leave it out."
        ) from None
