"""Group commit: what many callers have to store becomes one statement, fenced by leases and versions.

Callers await `commit`; one task takes what is waiting, sends it as one flush, and takes the next when that returned:
no timer, so one caller alone waits for one commit, and under load a commit is shared by all who came meanwhile. The
writer holds one direct connection of role lf_ingress, which may write and hardly read. A lost connection is made anew,
and what was under way is looked up by its ids, never guessed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg

from subgraphs.platform import eventlog
from subgraphs.platform.commits import (
    Committed,
    Entry,
    OutcomeUnknown,
    Prepared,
    Stored,
    Unavailable,
    part,
    passing,
    size_of,
)
from subgraphs.platform.database import Database
from subgraphs.platform.domain import Event
from subgraphs.platform.flush import Batch, Ingress, Table, Text, Unit

if TYPE_CHECKING:
    from asyncpg.prepared_stmt import PreparedStatement

    from subgraphs.platform.settings import Settings

__all__ = ["Committed", "Ingress", "OutcomeUnknown", "Prepared", "Table", "Unavailable", "Unit", "Writer"]

log = logging.getLogger("linkflow.writer")

WAITING = 4096  # callers that may wait for a flush; the next ones wait at the door
BATCH = 256  # callers that share one flush at most
BATCH_BYTES = 16 << 20
PATIENCE = 10.0  # seconds without a database before waiting callers are told
XMIN = "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
LANDED = "select 1 from {head} where tenant = $1 and id = $2 and version = $3 and epoch = $4"
LOGGED = "select 1 from bus.log where part = $1 and xid >= $2::text::xid8 and id = $3"
BLOB = Table(
    "bus.blob",
    (("tenant", "uuid"), ("sha256", "text"), ("holder", "uuid")),
    "ingress",
    ("tenant", "sha256", "holder"),
)


class Writer:
    """The one writer of a process.

    `incarnate(connection)` is awaited on every new connection and returns the owner under which units are fenced;
    `forsaken()` is called when the connection is gone; `prepare(event)` offers units that share an event's flush;
    `dispatch(xid, events, started)` hears what was committed. Leases and the bus set them.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database = database
        self.settings = settings
        self.tables: dict[str, Table] = {BLOB.name: BLOB}
        self.incarnate: Callable[[asyncpg.Connection], Awaitable[UUID]] | None = None
        self.forsaken: Callable[[], None] = lambda: None
        self.prepare: Callable[[Event], Awaitable[Prepared | None]] | None = None
        self.dispatch: Callable[[int, Sequence[Event], frozenset[UUID]], None] = lambda xid, events, started: None
        self.owner = uuid4()
        self.flushes = 0
        self.committed = 0
        self._connection: asyncpg.Connection | None = None
        self._statements: dict[Any, PreparedStatement[Any]] = {}
        self._waiting: deque[Entry] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Semaphore(WAITING)
        self._task: asyncio.Task[None] | None = None
        self._xid = 0
        self._since = 0
        self._closing = self._away = False
        self._flying: Sequence[Entry] = ()

    def register(self, table: Table) -> None:
        """Makes a table writable. Registering the same table again is fine, another shape under its name is not."""
        if self.tables.setdefault(table.name, table) != table:
            raise ValueError(f"{table.name} is registered with another shape")

    async def open(self) -> None:
        self._closing = False
        await self._connect()
        self._task = asyncio.create_task(self._run(), name="writer")

    async def close(self) -> None:
        """Flushes what is waiting, then leaves."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()

    async def commit(self, ingress: Ingress | None = None, units: Sequence[Unit] = ()) -> Committed:
        """Stores the ingress and the units; returns once the database has them on disk. Many callers share a flush.

        Units are atomic each, not together. Raises what made the ingress fail, Unavailable or OutcomeUnknown. A caller
        that is cancelled while waiting does not stop the flush.
        """
        async with self._room:
            if self._closing or (self._away and ingress is not None):
                raise Unavailable("The database cannot be reached.")
            entry = Entry(ingress, units, [], asyncio.get_running_loop().create_future(), size_of(ingress, units))
            if ingress is not None and self.prepare is not None:
                for event in ingress.events:
                    prepared = await self.prepare(event)
                    if prepared is not None:
                        entry.prepared.append(prepared)
                        entry.size += size_of(None, [prepared.unit])
            self._waiting.append(entry)
            self._wake.set()
            return await asyncio.shield(entry.done)

    def reach(self, ok: bool) -> None:
        """Told when the database has gone away, and when it is back. Whoever has somebody waiting is answered at once;
        the runner's units go on waiting."""
        self._away = not ok
        if ok:
            return
        for entry in self._flying:
            if entry.ingress is not None and not entry.done.done():
                entry.done.set_exception(OutcomeUnknown("The database went away during the commit."))
        refused = [entry for entry in self._waiting if entry.ingress is not None]
        self._waiting = deque(entry for entry in self._waiting if entry.ingress is None)
        self._abandon(refused, Unavailable("The database cannot be reached."))

    def disconnect(self) -> None:
        """Drops the connection, for one who found that its lease on life is over; the writer comes back by itself."""
        if self._connection is not None:
            self._connection.terminate()
        self._wake.set()

    # -- the loop

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._lost():
                if self._closing:
                    return self._refuse(Unavailable("The writer is closed."))
                await self._reconnect([])
            while self._waiting:
                await self._flush(self._take())
                await asyncio.sleep(0)  # those just answered may have more to add to the next flush
            if self._closing:
                return None

    def _take(self) -> list[Entry]:
        """The callers of the next flush. A stream takes one step a flush, for one statement sees one version of it."""
        taken: list[Entry] = []
        streams: set[UUID] = set()
        size = 0
        while self._waiting and len(taken) < BATCH and (size < BATCH_BYTES or not taken):
            entry = self._waiting[0]
            ids = {unit.id for unit in entry.all_units()}
            if taken and not streams.isdisjoint(ids):
                break
            streams |= ids
            size += entry.size
            taken.append(self._waiting.popleft())
        return taken

    async def _flush(self, entries: list[Entry]) -> None:
        self._since, self._flying = self._xid, entries
        try:
            await self._store(entries)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is given to the caller whose rows cause it
            if self._lost(error):
                await self._reconnect(entries)
            elif passing(error):
                self._abandon(entries, Unavailable(f"The database cannot store now: {error}"))
            else:
                log.info("flush.split", extra={"callers": len(entries), "error": repr(error)})
                await self._singly(entries)

    def _lost(self, error: Exception | None = None) -> bool:
        """Whether the connection is gone, or of no use any more: the driver lost track of what the server does."""
        if self._connection is not None and isinstance(error, asyncpg.InternalClientError):
            self._connection.terminate()
        return self._connection is None or self._connection.is_closed()

    async def _store(self, entries: Sequence[Entry]) -> None:
        """One statement for all of them; tried again for a while when the database says it cannot now."""
        batch, claims = self._gather(entries)
        pause, began = 0.0, time.monotonic()
        while True:
            try:
                stored = await self._send(batch)
                break
            except asyncpg.PostgresError as error:
                if not passing(error) or self._lost() or self._closing or time.monotonic() - began > PATIENCE:
                    raise
                log.warning("flush.again", extra={"error": repr(error)})
            await asyncio.sleep(pause)
            pause = min(1.0, pause * 2 or 0.02)
        for entry, claim in zip(entries, claims, strict=True):
            entry.claimed = claim is None or claim in stored.claimed
            entry.written = {unit.id for unit in entry.all_units() if unit.id in stored.written}
        self._announce(stored.xid, entries)

    def _gather(self, entries: Sequence[Entry]) -> tuple[Batch, list[UUID | None]]:
        batch = Batch(self.tables, self.settings.claim_check_bytes)
        claims: list[UUID | None] = []
        for entry in entries:
            claim = batch.add_ingress(entry.ingress) if entry.ingress is not None else None
            claims.append(claim)
            for unit in entry.units:
                batch.add_unit(unit)
            for prepared in entry.prepared:
                batch.add_unit(prepared.unit, claim)
        return batch, claims

    async def _send(self, batch: Batch) -> Stored:
        assert self._connection is not None  # noqa: S101 - the loop connected
        notice = None
        if batch.events and self.database.has_peers():
            rows = (*batch.ingress_events, *batch.unit_events)
            notice = eventlog.notice(self.database.origin, (row[0] for row in rows))
        shape = (batch.shape(), notice is not None)
        statement = self._statements.get(shape)
        if statement is None:
            statement = await self._connection.prepare(Text(batch, notice is not None).text)
            self._statements[shape] = statement
        row = await statement.fetchrow(*batch.arguments(self.owner, notice))
        assert row is not None  # noqa: S101 - the statement always answers one row
        self.flushes += 1
        self._xid = row["xid"]
        return Stored(row["xid"], frozenset(row["written"] or ()), frozenset(row["claimed"] or ()))

    def _announce(self, xid: int, entries: Sequence[Entry]) -> None:
        """Settles units, answers callers and tells the bus, in this order."""
        events: list[Event] = []
        started: set[UUID] = set()
        for entry in entries:
            for prepared in entry.prepared:
                if prepared.unit.id in entry.written:
                    started.add(prepared.event.id)
                prepared.settle(prepared.unit.id in entry.written)
            if entry.ingress is not None and entry.claimed and not entry.told:
                events += entry.ingress.events
            for unit in entry.all_units():
                if unit.id in entry.written and unit.id not in entry.announced:
                    events += unit.events
            self._answer(entry)
        if events:
            self.dispatch(xid, events, frozenset(started))

    def _answer(self, entry: Entry) -> None:
        self.committed, entry.over = self.committed + 1, True
        if entry.done.done():
            return
        missing = (unit.id for unit in entry.units if unit.id not in entry.written and unit.id not in entry.failed)
        entry.done.set_result(Committed(frozenset(missing), entry.failed, entry.claimed))

    # -- poison

    async def _singly(self, entries: Sequence[Entry]) -> None:
        """The statement failed: each part alone, so that only the poisonous ones fail."""
        for at, entry in enumerate(entries):
            try:
                await self._alone(entry)
            except Exception as error:  # noqa: BLE001 - it is the caller's
                if self._lost(error):
                    await self._reconnect(entries[at:])
                    return
                gone = Unavailable(f"The database cannot store now: {error}")
                self._abandon([entry], gone if passing(error) else error)

    async def _alone(self, entry: Entry) -> None:
        if entry.ingress is not None:
            alone = part(entry.ingress)
            await self._store([alone])
            entry.claimed, entry.told = alone.claimed, True
        for unit in entry.all_units() if entry.claimed else entry.units:
            alone = part(None, [unit])
            try:
                await self._store([alone])
            except Exception as error:
                if self._lost(error) or passing(error):
                    raise
                log.warning("flush.poison", extra={"stream": str(unit.id), "error": repr(error)})
                entry.failed[unit.id] = error
            entry.written |= alone.written
            entry.announced |= alone.written
        for prepared in entry.prepared:
            prepared.settle(prepared.unit.id in entry.written)
        self._answer(entry)

    # -- the connection

    async def _connect(self) -> None:
        connection = await self.database.connect(
            "lf_ingress",
            "linkflow writer",
            statement_cache_size=0,
            plan_cache_mode="force_generic_plan",
            enable_hashjoin="off",
            enable_mergejoin="off",
            tcp_keepalives_idle="5",
            tcp_keepalives_interval="2",
            tcp_keepalives_count="3",
        )
        try:
            self._xid = await connection.fetchval(XMIN)
            if self.incarnate is not None:
                async with asyncio.timeout(10):
                    self.owner = await self.incarnate(connection)
        except BaseException:
            connection.terminate()
            raise
        connection.add_termination_listener(self._terminated)
        self._statements = {}
        self._connection = connection

    def _terminated(self, connection: Any) -> None:
        if connection is self._connection:
            self._wake.set()

    async def _reconnect(self, entries: Sequence[Entry]) -> None:
        """A new connection and a new owner; then the fate of `entries`, whose flush was under way, is looked up."""
        since, unsettled, began = self._since, list(entries), time.monotonic()
        while True:
            self._drop()
            unsettled = [entry for entry in unsettled if not entry.over]
            try:
                await self._connect()
                await self._resolve(unsettled, since)
                return
            except Exception as error:  # noqa: BLE001 - there is nothing to do without a connection but to try again
                if time.monotonic() - began > PATIENCE or self._closing:
                    self._abandon(unsettled, OutcomeUnknown("The database went away during the commit."))
                    self._refuse(Unavailable("The database cannot be reached."))
                    unsettled = []
                log.warning("writer.reconnecting", extra={"error": repr(error)})
                if self._closing:
                    return
                await asyncio.sleep(0.1)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
        self.forsaken()

    async def _resolve(self, entries: Sequence[Entry], since: int) -> None:
        """Finds out by ids what of a broken flush was stored. Ingress that was not is sent again: its rows are the same
        rows. Units that were not are evicted: they were decided by an owner that no longer is."""
        for entry in entries:
            for unit in entry.all_units():
                head = self.tables[unit.head_table].name
                place = (unit.tenant, unit.id, unit.version, unit.epoch)
                if await self.database.engine.fetchval(LANDED.format(head=head), *place):
                    entry.written.add(unit.id)
            if entry.ingress is not None and not await self._logged(entry.ingress.events, since):
                alone = part(entry.ingress)
                try:
                    await self._store([alone])
                except Exception as error:
                    if self._lost(error):
                        raise
                    self._abandon([entry], error)
                    continue
                entry.claimed, entry.told = alone.claimed, True
            self._announce(self._xid, [entry])

    async def _logged(self, events: Sequence[Event], since: int) -> bool:
        if not events:
            return False
        place = (events[0].partition, str(since), events[0].id)
        return await self.database.engine.fetchval(LOGGED, *place) is not None

    def _abandon(self, entries: Sequence[Entry], error: Exception) -> None:
        for entry in entries:
            entry.over = True
            for prepared in entry.prepared:
                prepared.settle(prepared.unit.id in entry.written)
            if not entry.done.done():
                entry.done.set_exception(error)

    def _refuse(self, error: Exception) -> None:
        waiting, self._waiting = list(self._waiting), deque()
        self._abandon(waiting, error)
