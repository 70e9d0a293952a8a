"""What a caller may read of tenants: their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from subgraphs.platform.database import Database
from subgraphs.tenant import storage
from subgraphs.tenant.domain import Tenant


async def by_ids(ids: Sequence[UUID], *, tenant: UUID | None, database: Database) -> Mapping[UUID, Tenant]:
    """The caller's tenant, if it is among the ids: one statement, or none for a caller without a tenant."""
    if tenant is None:
        return {}
    async with database.read(tenant) as reading:
        rows = await reading.rows(storage.read(reading, ids))
    return {row["tenant"]: storage.tenant_of(row) for row in rows}
