"""Tenant's tables. A tenant's own id is its tenant column."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, DateTime, MetaData, RowMapping, Select, Table, Text, Uuid, delete, select, update
from sqlalchemy.dialects.postgresql import insert

from subgraphs.platform.database import Database, Reading, Transaction
from subgraphs.platform.domain import Event
from subgraphs.tenant.domain import SignUpAbandoned, State, Store, Tenant

metadata = MetaData(schema="tenant")

tenants = Table(
    "tenant",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("name", Text),
    Column("slug", Text),
    Column("state", Text),
    Column("sign_up", Uuid),
    Column("at", DateTime(timezone=True)),
)
abandoned = Table(
    "abandoned",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("sign_up", Uuid),
    Column("at", DateTime(timezone=True)),
)


def read(reading: Reading, ids: Sequence[UUID]) -> Select[Any]:
    """The tenants among `ids` that the reader may see."""
    return select(tenants).where(reading.tenant_filter(tenants.c.tenant), tenants.c.tenant.in_(ids))


def tenant_of(row: RowMapping) -> Tenant:
    return Tenant(row["tenant"], row["name"], row["slug"], State(row["state"]), row["at"])


class TenantStore:
    """`domain.Store` on one transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self._tx = transaction

    def publish(self, *events: Event) -> None:
        self._tx.publish(*events)

    async def provision(self, tenant: Tenant, sign_up: UUID) -> bool:
        gone = select(abandoned.c.sign_up).where(self._tx.tenant_filter(abandoned.c.tenant))
        if await self._tx.scalar(gone.where(abandoned.c.sign_up == sign_up)):
            raise SignUpAbandoned("This sign-up was abandoned.")
        row = {
            "tenant": tenant.id,
            "name": tenant.name,
            "slug": tenant.slug,
            "state": tenant.state.value,
            "sign_up": sign_up,
            "at": tenant.at,
        }
        added = await self._tx.execute(insert(tenants).values(row).on_conflict_do_nothing(index_elements=["tenant"]))
        return bool(added.rowcount)

    async def withdraw(self, sign_up: UUID, now: datetime) -> bool:
        row = {"tenant": self._tx.tenant, "sign_up": sign_up, "at": now}
        await self._tx.execute(insert(abandoned).values(row).on_conflict_do_nothing())
        mine = (self._tx.tenant_filter(tenants.c.tenant), tenants.c.sign_up == sign_up)
        return bool((await self._tx.execute(delete(tenants).where(*mine))).rowcount)

    async def rename(self, name: str) -> Tenant | None:
        mine = self._tx.tenant_filter(tenants.c.tenant) & (tenants.c.tenant == self._tx.tenant)
        row = await self._tx.row(update(tenants).where(mine).values(name=name).returning(*tenants.c))
        return tenant_of(row) if row else None


def stores(database: Database) -> Callable[[UUID], AbstractAsyncContextManager[Store]]:
    """`domain.Stores` on this database."""

    @asynccontextmanager
    async def opened(tenant: UUID) -> AsyncIterator[Store]:
        async with database.write(tenant) as transaction:
            yield TenantStore(transaction)

    return opened
