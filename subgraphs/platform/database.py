"""PostgreSQL as the domains see it: one pool a role, transactions bound to a tenant, and the policies that bind them.

Two walls keep tenants apart. The first is the filter every query writes (`Reading.tenant_filter`); the second is
row-level security, forced on every table, whose policies read the setting `app.tenant` of the running transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import orjson
from sqlalchemy import ColumnElement, CursorResult, Executable, RowMapping, text, true
from sqlalchemy.event import listen
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from subgraphs.platform import eventlog
from subgraphs.platform.domain import Event
from subgraphs.platform.reach import Reach

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


def tenant_table(
    schema: str, table: str, *, engine: bool = False, flush: Sequence[str] = (), definer: Sequence[str] = ()
) -> list[str]:
    """SQL for a table whose first key column is `tenant`: row-level security, forced, and the grants of each role.

    `engine`: lf_engine works on it across tenants (queues, journals, timers). `flush`: the kinds under which the writer
    (role lf_ingress) knows it, for instance ("ingress",) or ("insert", "delete"); it gets no right beyond those.
    `definer`: the commands ("select", "update") that SECURITY DEFINER functions may do on it; their owner, lf_migrate,
    is bound by the forced policies like everybody else.
    """
    name = f'"{schema}"."{table}"'
    sql = [
        f"alter table {name} enable row level security",
        f"alter table {name} force row level security",
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
    for command in definer:
        check = {"insert": "with check (true)", "update": "using (true) with check (true)"}.get(command, "using (true)")
        sql.append(f"create policy definer_{command} on {name} for {command} to lf_migrate {check}")
    return sql


def function_for_api(signature: str) -> list[str]:
    """SQL that makes a SECURITY DEFINER function callable by lf_api and by nobody else. The catalogue test lists it."""
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
        return await self.connection.execute(statement, params)

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


AfterCommit = Callable[[Published], None]

SET_TENANT = text("select set_config('app.tenant', :tenant, true)")
ARRAYS = ", ".join(f"cast(:{name} as {kind}[])" for name, kind in eventlog.COLUMNS)
STORE = text(
    f"with stored as (insert into bus.log ({eventlog.NAMES}) select * from unnest({ARRAYS})) "  # noqa: S608 - our columns
    "select cast(cast(pg_current_xact_id() as text) as bigint)"
)
NOTIFY = text("select pg_notify(:channel, :payload)")


def _still_open(adapted: Any, _record: object, _proxy: object) -> None:
    """Has the pool take another connection when the server ended this one while it lay there."""
    if adapted.driver_connection.is_closed():
        raise DisconnectionError


class Database:
    """Pools and transactions of one process.

    `api`: SQLAlchemy engine of role lf_api, for everything a caller asks. `engine`: asyncpg pool of role lf_engine, for
    work across tenants (leases, cursors, journals). The writer keeps its own connection of role lf_ingress.
    """

    api: AsyncEngine
    reads: AsyncEngine
    engine: asyncpg.Pool

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.origin = uuid4().hex
        """Names this process in wake-ups, so that it does not wake itself."""
        self.has_peers: Callable[[], bool] = lambda: True
        self.after_commit: list[AfterCommit] = []
        self.reach = Reach(partial(self._connected, "lf_engine", "linkflow reach", 2.0))

    async def open(self) -> None:
        self.api = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=partial(self._connected, "lf_api", "linkflow api", 2.0),
            pool_size=self.settings.database_pool,
            max_overflow=0,
            pool_timeout=10,
            json_serializer=lambda value: orjson.dumps(value).decode(),
            json_deserializer=orjson.loads,
        )
        listen(self.api.sync_engine, "checkout", _still_open)
        self.reads = self.api.execution_options(isolation_level="AUTOCOMMIT")
        self.engine = await self.pool("linkflow engine", self.settings.database_pool)
        self.reach.changed.append(self._reached)
        self.reach.open()

    def _reached(self, ok: bool) -> None:
        """Back again: what the pool kept from before is of no use."""
        if ok:
            self._renewing = asyncio.create_task(self.api.dispose(), name="renew")

    async def _connected(self, role: str, name: str, patience: float) -> asyncpg.Connection:
        connection = await asyncpg.connect(
            self.settings.dsn(role), timeout=patience, server_settings={"application_name": name}
        )
        return self.reach.watch(connection)

    async def _watch(self, connection: asyncpg.Connection) -> None:
        self.reach.watch(connection)

    async def pool(self, name: str, most: int) -> asyncpg.Pool:
        """Connections of role lf_engine, at most so many; `name` is what the server's lists show."""
        return await asyncpg.create_pool(
            self.settings.dsn("lf_engine"),
            min_size=1,
            max_size=most,
            timeout=5,
            init=self._watch,
            server_settings={"application_name": name},
        )

    async def connect(
        self, role: str, name: str, *, statement_cache_size: int = 100, **server_settings: str
    ) -> asyncpg.Connection:
        """A connection of its own, outside the pools: for sessions that mean something (locks, notifications)."""
        connection = await asyncpg.connect(
            self.settings.dsn(role),
            timeout=5,
            statement_cache_size=statement_cache_size,
            server_settings={"application_name": name, **server_settings},
        )
        return self.reach.watch(connection)

    async def close(self) -> None:
        await self.reach.close()
        await self.engine.close()
        await self.api.dispose()

    @asynccontextmanager
    async def read(self, tenant: UUID | None) -> AsyncIterator[Reading]:
        """A read-only transaction as lf_api; without a tenant it sees no tenant's rows.

        Begin and tenant travel together as one simple query, past SQLAlchemy's own transactions (0.4 ms a read).
        """
        bound = f"; select set_config('app.tenant', '{tenant}', true)" if tenant is not None else ""
        with self.reach:
            async with self._read(bound) as connection:
                yield Reading(connection, tenant, self.settings.tenant_filter)

    @asynccontextmanager
    async def _read(self, bound: str) -> AsyncIterator[AsyncConnection]:
        async with self.reads.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None  # noqa: S101 - it was just connected
            try:
                await driver.execute(f"begin read only{bound}")
                yield connection
                await driver.execute("commit")
            except Exception:
                if driver.is_closed():
                    await connection.invalidate()
                else:
                    await driver.execute("rollback")
                raise
            except BaseException:
                # Cancelled in the middle of something: nobody may inherit this transaction and its tenant.
                driver.terminate()
                await connection.invalidate()
                raise

    @asynccontextmanager
    async def write(self, tenant: UUID | None) -> AsyncIterator[Transaction]:
        """A transaction as lf_api: commits at the end of the block, rolls back when it raises."""
        with self.reach:
            async with self.api.begin() as connection:
                if tenant is not None:
                    await connection.execute(SET_TENANT, {"tenant": str(tenant)})
                transaction = Transaction(connection, tenant, self.settings.tenant_filter)
                yield transaction
                xid = await self._store(connection, transaction)
        if transaction.events or transaction.wakes:
            published = Published(xid, transaction.events, transaction.wakes)
            for hook in self.after_commit:
                hook(published)

    async def _store(self, connection: AsyncConnection, transaction: Transaction) -> int:
        """Stores what the transaction publishes, and notifies other processes as part of it; its transaction id."""
        xid = 0
        if events := transaction.events:
            limit = self.settings.claim_check_bytes
            rows = [eventlog.row(event, seq, limit) for seq, event in enumerate(events)]
            names = (name for name, _ in eventlog.COLUMNS)
            values = dict(zip(names, eventlog.columns(rows, len(eventlog.COLUMNS)), strict=True))
            xid = (await connection.execute(STORE, values)).scalar_one()
            if self.has_peers():
                payload = f"{eventlog.notice(self.origin, (event.partition for event in events))}{xid}"
                await connection.execute(NOTIFY, {"channel": eventlog.EVENTS_CHANNEL, "payload": payload})
        for topic, partition in dict.fromkeys(transaction.wakes):
            payload = f"{self.origin}:{topic}:{partition}"
            await connection.execute(NOTIFY, {"channel": eventlog.WAKES_CHANNEL, "payload": payload})
        return xid
