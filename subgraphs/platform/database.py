"""PostgreSQL as the domains see it: one pool a role, transactions bound to a tenant, and the policies that bind them.

Two walls keep tenants apart. The first is the filter every query writes (`Reading.tenant_filter`); the second is
row-level security, forced on every table, whose policies read the setting `app.tenant` of the running transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import orjson
from sqlalchemy import ColumnElement, CursorResult, Executable, RowMapping, text, true
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from subgraphs.platform.domain import Event

if TYPE_CHECKING:
    from subgraphs.platform.settings import Settings

MINE = "(select nullif(current_setting('app.tenant', true), '')::uuid)"
"""SQL of the running transaction's tenant, null when there is none; in a subquery so that it is evaluated once."""

FLUSH_GRANTS: Mapping[str, Sequence[str]] = {
    "ingress": ("insert",),
    "insert": ("insert",),
    "claim": ("select", "insert", "update"),
    "head": ("select", "insert", "update"),
    "upsert": ("select", "insert", "update"),
    "delete": ("select", "delete"),
}
"""What the flush role may do to a table, by the kind under which the writer knows it (writer.py)."""


def tenant_table(schema: str, table: str, *, engine: bool = False, flush: Sequence[str] = ()) -> list[str]:
    """SQL for a table whose first key column is `tenant`: row-level security, forced, and the grants of each role.

    `engine`: lf_engine works on it across tenants (queues, journals, timers). `flush`: the kinds under which the writer
    (role lf_ingress) knows it, for instance ("ingress",) or ("insert", "delete"); it gets no right beyond those.
    """
    name = f'"{schema}"."{table}"'
    sql = [
        f"alter table {name} enable row level security",
        f"alter table {name} force row level security",
        f"grant usage on schema \"{schema}\" to lf_api, lf_engine, lf_ingress",
        f"grant select, insert, update, delete on {name} to lf_api",
        f"create policy tenant on {name} to lf_api using (tenant = {MINE}) with check (tenant = {MINE})",
    ]
    if engine:
        sql.append(f"grant select, insert, update, delete on {name} to lf_engine")
        sql.append(f"create policy engine on {name} to lf_engine using (true) with check (true)")
    rights = sorted({right for kind in flush for right in FLUSH_GRANTS[kind]})
    if rights:
        sql.append(f"grant {', '.join(rights)} on {name} to lf_ingress")
        sql.append(f"create policy flush on {name} to lf_ingress using (true) with check (true)")
    return sql


def function_for_api(signature: str) -> list[str]:
    """SQL that makes a SECURITY DEFINER function callable by lf_api and by nobody else; list it in the catalogue test."""
    return [f"revoke all on function {signature} from public", f"grant execute on function {signature} to lf_api"]


class Reading:
    """A read-only transaction of one tenant (or of none). Statements are SQLAlchemy's; `text()` works too."""

    def __init__(self, connection: AsyncConnection, tenant: UUID | None, filtered: bool) -> None:
        self.connection = connection
        self.tenant = tenant
        self._filtered = filtered

    async def execute(
        self, statement: Executable, params: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[Any]:
        return await self.connection.execute(statement, params)  # type: ignore[arg-type]

    async def rows(self, statement: Executable, params: Mapping[str, Any] | None = None) -> list[RowMapping]:
        return list((await self.execute(statement, params)).mappings())

    async def row(self, statement: Executable, params: Mapping[str, Any] | None = None) -> RowMapping | None:
        """The first row, or None."""
        return (await self.execute(statement, params)).mappings().first()

    async def scalar(self, statement: Executable, params: Mapping[str, Any] | None = None) -> Any:
        """The first column of the first row, or None."""
        return (await self.execute(statement, params)).scalar()

    def tenant_filter(self, column: ColumnElement[Any]) -> ColumnElement[bool]:
        """The first wall: `column = this transaction's tenant`. A test flag turns it off to prove the second wall."""
        return column == self.tenant if self._filtered else true()


class Transaction(Reading):
    """A writing transaction. What it publishes is stored with its rows and dispatched after the commit, or never."""

    def __init__(self, connection: AsyncConnection, tenant: UUID | None, filtered: bool) -> None:
        super().__init__(connection, tenant, filtered)
        self.events: list[Event] = []
        self.wakes: list[tuple[str, int]] = []

    def publish(self, *events: Event) -> None:
        """Stores the events in this transaction. They must carry this transaction's tenant.

        Lock or version-check the aggregate before writing anything else: the order of one aggregate's events is the
        order in which their transactions first wrote.
        """
        for event in events:
            if event.tenant != self.tenant:
                raise ValueError(f"{event.type} carries another tenant than its transaction")
        self.events.extend(events)

    def wake(self, topic: str, partition: int) -> None:
        """Tells every process that listens on `topic`, this one included, once the commit is durable."""
        self.wakes.append((topic, partition))


@dataclass(frozen=True, slots=True)
class Published:
    """A transaction that committed: its id in the database, what it published, whom it wakes."""

    xid: int
    events: Sequence[Event]
    wakes: Sequence[tuple[str, int]]
