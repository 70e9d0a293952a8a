"""What a process holds of the database: connections, pools, transactions, writer and object store over a wire.

These have the methods of asyncpg, of `platform/database.py` and of `platform/objects.py` that the code under test uses.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.dml import Insert

from subgraphs.platform import delivery, eventlog, leases
from subgraphs.platform.commits import Committed, Stored
from subgraphs.platform.database import Published
from subgraphs.platform.domain import Event
from subgraphs.platform.flush import Batch, Ingress, Unit
from subgraphs.platform.objects import Damaged, Objects, Ref
from subgraphs.platform.writer import Writer
from tests.simulation.server import Session
from tests.simulation.statements import Tx
from tests.simulation.wire import Wire

DIALECT = postgresql.dialect()


class Connection:
    """A session of one's own."""

    def __init__(self, wire: Wire, session: Session) -> None:
        self.wire, self.session = wire, session
        self.tx: Tx | None = None

    async def fetch(self, query: str, *args: Any) -> list[dict[str, Any]]:
        wire, tx = self.wire, self.tx
        if query in (leases.LOCK, leases.LOCK_SHARED):
            await wire.lock(self.session, args[0], query == leases.LOCK_SHARED)
            return []

        def work() -> list[dict[str, Any]]:
            if query in (leases.UNLOCK, leases.UNLOCK_SHARED):
                wire.unlock(self.session, args[0])
                return []
            if query == leases.CUT:
                if (holder := wire.holder(args[0])) is not None:
                    wire.cut(holder)
                return []
            if tx is not None and tx.over:
                return []
            return wire.statements.answer(query, args, tx)

        found: list[dict[str, Any]] = await wire.call(self.session, work)
        return found

    async def fetchrow(self, query: str, *args: Any) -> dict[str, Any] | None:
        return next(iter(await self.fetch(query, *args)), None)

    async def fetchval(self, query: str, *args: Any) -> Any:
        row = await self.fetchrow(query, *args)
        return None if row is None else next(iter(row.values()))

    async def execute(self, query: str, *args: Any) -> str:
        return f"DONE {len(await self.fetch(query, *args))}"

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        wire, tx = self.wire, Tx()
        self.session.on_end.append(lambda: None if tx.over else wire.statements.rollback(tx))
        self.tx = tx
        try:
            yield
            await wire.call(self.session, lambda: None if tx.over else wire.statements.commit(tx))
        except BaseException:
            self.undo(tx)
            raise
        finally:
            self.tx = None

    def undo(self, tx: Tx) -> None:
        """Rolls back; where the session is dead the server does, once the last statement has ended."""
        if self.session.alive and not tx.over:
            self.wire.statements.rollback(tx)

    async def add_listener(self, channel: str, callback: Callable[..., None]) -> None:
        await self.wire.call(self.session, lambda: None)
        self.wire.listen(self.session, channel, callback, self)

    def add_termination_listener(self, callback: Callable[..., None]) -> None:
        loop = asyncio.get_running_loop()
        context = copy_context()

        def end() -> None:
            loop.call_soon(callback, self, context=context)

        self.session.on_end.append(end)

    def is_closed(self) -> bool:
        return not self.session.alive

    def terminate(self) -> None:
        self.wire.cut(self.session)

    async def close(self) -> None:
        self.wire.cut(self.session)


class Pool:
    """Connections for short work; as many as are needed."""

    def __init__(self, wire: Wire, name: str) -> None:
        self.wire, self.name = wire, name
        self.idle: list[Connection] = []

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        connection = None
        while self.idle and connection is None:
            found = self.idle.pop()
            connection = None if found.is_closed() else found
        connection = connection or Connection(self.wire, await self.wire.open(self.name))
        try:
            yield connection
        finally:
            if not connection.is_closed():
                connection.session.on_end = []
                self.idle.append(connection)

    async def fetch(self, query: str, *args: Any) -> list[dict[str, Any]]:
        async with self.acquire() as connection:
            return await connection.fetch(query, *args)

    async def fetchrow(self, query: str, *args: Any) -> dict[str, Any] | None:
        async with self.acquire() as connection:
            return await connection.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        async with self.acquire() as connection:
            return await connection.fetchval(query, *args)

    async def execute(self, query: str, *args: Any) -> str:
        async with self.acquire() as connection:
            return await connection.execute(query, *args)

    async def call(self, work: Callable[[], Any]) -> Any:
        """One statement that is no text: `work` at the server."""
        async with self.acquire() as connection:
            return await self.wire.call(connection.session, work)

    async def close(self) -> None:
        for connection in self.idle:
            connection.terminate()


class SimTransaction:
    """A writing transaction of a consumer or a command: what it writes shows when it commits."""

    def __init__(self, database: SimDatabase, connection: Connection, tenant: UUID | None) -> None:
        self.database, self.connection, self.tenant = database, connection, tenant
        self.tx = Tx()
        self.inserts: list[tuple[str, tuple[Any, ...]]] = []
        self.inbox: list[tuple[str, UUID]] = []
        self.events: list[Event] = []
        self.wakes: list[tuple[str, int]] = []

    def publish(self, *events: Event) -> None:
        for event in events:
            if event.tenant != self.tenant:
                raise ValueError(f"{event.type} carries another tenant than its transaction")
        self.events.extend(events)

    def wake(self, topic: str, partition: int) -> None:
        self.wakes.append((topic, partition))

    async def execute(self, statement: Any, params: Mapping[str, Any] | None = None) -> Any:
        if statement is delivery.INBOX:
            assert params is not None
            return SimpleNamespace(rowcount=await self._received((params["consumer"], params["id"])))
        assert isinstance(statement, Insert), f"no answer for {statement}"
        return SimpleNamespace(rowcount=await self._insert(statement))

    async def _received(self, key: tuple[str, UUID]) -> int:
        """The inbox row, once nobody else is about to commit the same."""
        server, statements = self.database.wire.server, self.database.wire.statements

        def work() -> int | None:
            self.tx.xid = self.tx.xid or server.begin()
            if not statements.lock(self.tx, ("inbox", *key)):
                return None
            return int(key not in server.inbox)

        while (found := await self.database.wire.call(self.connection.session, work)) is None:
            await asyncio.sleep(0.005)
        if found:
            self.inbox.append(key)
        return int(found)

    async def _insert(self, statement: Insert) -> int:
        server = self.database.wire.server
        name = f"{statement.table.schema}.{statement.table.name}"
        values = statement.compile(dialect=DIALECT).params
        row = tuple(values.get(column) for column in server.tables[name].names)
        places = server.tables[name].places()

        def work() -> int:
            return int(tuple(row[place] for place in places) not in server.rows[name])

        self.inserts.append((name, row))
        return int(await self.database.wire.call(self.connection.session, work))

    def commit(self) -> int:
        """At the server."""
        server, wire = self.database.wire.server, self.database.wire
        if self.tx.over:
            return 0
        xid = self.tx.xid or server.begin()
        self.tx.xid = xid
        limit = self.database.settings.claim_check_bytes
        rows = [eventlog.row(event, seq, limit) for seq, event in enumerate(self.events)]
        server.inbox.update(self.inbox)
        for name, row in self.inserts:
            server.store(name, row)
            wire.note("insert", name, *row[:3])
        server.append(rows, xid)
        wire.statements.commit(self.tx)
        if rows:
            notice = eventlog.notice(self.database.origin, (event.partition for event in self.events))
            wire.notify(eventlog.EVENTS_CHANNEL, f"{notice}{xid}")
        for topic, partition in dict.fromkeys(self.wakes):
            wire.notify(eventlog.WAKES_CHANNEL, f"{self.database.origin}:{topic}:{partition}")
        return xid


class SimDatabase:
    """Stands for `platform.database.Database`."""

    def __init__(self, wire: Wire, settings: Any, origin: str) -> None:
        self.wire, self.settings, self.origin = wire, settings, origin
        self.has_peers: Callable[[], bool] = lambda: True
        self.after_commit: list[Callable[[Published], None]] = []
        self.engine = Pool(wire, "engine")

    async def open(self) -> None:
        """The pool opens its connections when it needs them."""

    async def close(self) -> None:
        await self.engine.close()

    async def pool(self, name: str, most: int) -> Pool:
        return Pool(self.wire, name)

    async def connect(self, role: str, name: str, **words: Any) -> Connection:
        return Connection(self.wire, await self.wire.open(name))

    @asynccontextmanager
    async def write(self, tenant: UUID | None) -> AsyncIterator[SimTransaction]:
        async with self.engine.acquire() as connection:
            transaction = SimTransaction(self, connection, tenant)
            tx, statements = transaction.tx, self.wire.statements
            connection.session.on_end.append(lambda: None if tx.over else statements.rollback(tx))
            try:
                yield transaction
                xid = await self.wire.call(connection.session, transaction.commit)
            except BaseException:
                connection.undo(tx)
                raise
        if transaction.events or transaction.wakes:
            published = Published(xid, transaction.events, transaction.wakes)
            for hook in self.after_commit:
                hook(published)


class SimWriter(Writer):
    """The writer itself; only its statement goes to the simulated server as the rows it is made of."""

    deciding: Callable[[UUID, Unit], None] = staticmethod(lambda owner, unit: None)

    async def commit(self, ingress: Ingress | None = None, units: Sequence[Unit] = ()) -> Committed:
        for unit in units:
            self.deciding(self.owner, unit)
        return await super().commit(ingress, units)

    async def _send(self, batch: Batch) -> Stored:
        connection: Any = self._connection
        assert connection is not None
        notice = None
        if batch.events and self.database.has_peers():
            rows = (*batch.ingress_events, *batch.unit_events)
            notice = eventlog.notice(self.database.origin, (row[0] for row in rows))
        stored: Stored = await connection.wire.flush(connection.session, batch, self.owner, notice)
        self.flushes += 1
        self._xid = stored.xid
        return stored


class SimObjects(Objects):
    """The object store: durable at once, content by its hash."""

    def __init__(self, settings: Any, wire: Wire) -> None:
        self.settings, self.wire = settings, wire

    async def put(self, tenant: UUID, data: bytes) -> Ref:
        await asyncio.sleep(self.wire.delay())
        reference = Ref(hashlib.sha256(data).hexdigest(), len(data))
        self.wire.server.objects[(tenant, reference.sha256)] = data
        return reference

    async def get(self, tenant: UUID, ref: Ref) -> bytes:
        await asyncio.sleep(self.wire.delay())
        data = self.wire.server.objects.get((tenant, ref.sha256))
        if data is None:
            raise Damaged(ref, "is gone")
        return data


def columns(rows: Sequence[Mapping[str, Any]], *names: str) -> list[dict[str, Any]]:
    """Rows cut to some of their columns."""
    return [{name: row[name] for name in names} for row in rows]
