"""Published events: how they reach those who act on them, in this process and in others.

Storing an event is part of its publisher's commit (database.py, writer.py). Three kinds of hearers:
a consumer acts once on every event, whatever crashes (cursor, inbox; delivery.py); a preparer begins a stream with an
event, if it can within the very flush that stores the event; a listener is told what was just committed, and misses
what happens while it is not there. Wake-ups carry the events inside a process; to others go partition and transaction
id by NOTIFY; a slow sweep is the net below both.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import asyncpg

from subgraphs.platform import cursors, eventlog
from subgraphs.platform.database import Database, Published, Transaction
from subgraphs.platform.delivery import Consumer, Handle, NotOwned, Reader, Round, unreachable
from subgraphs.platform.domain import Event
from subgraphs.platform.leases import TOPIC as LEASES
from subgraphs.platform.leases import Lease, Leases
from subgraphs.platform.upcasting import Change, Upcasts
from subgraphs.platform.writer import Ingress, Prepared, Unit, Writer

if TYPE_CHECKING:
    from subgraphs.platform.settings import Settings

log = logging.getLogger("linkflow.bus")

SWEEP_SECONDS = 1.0
TRIM_EVERY = 60  # sweeps
AT_ONCE = 4  # rounds of one process, each holding a connection
RETENTION = timedelta(days=7)
BEGUN = "select 1 from {head} where tenant = $1 and id = $2"
FETCH = f"""
select {eventlog.NAMES} from bus.log where part = any($1::smallint[]) and xid = $2::text::xid8
and type = any($3::text[]) order by seq
"""  # noqa: S608 - our own columns

Listener = Callable[[Event], None]


class Preparer(Protocol):
    """Begins a stream with an event: the stream's id is the event's id, so the stream is its own inbox.

    `name` names its cursor, `head_table` is where its streams are (the sweep skips events that have theirs).
    `prepare` may be called again for the same event and has no effect outside; None: nothing begins.
    `settled` follows once the unit was written, or was not (then the stream is another's, or will be prepared again).
    """

    name: str
    types: frozenset[str]
    head_table: str

    async def prepare(self, event: Event, lease: Lease) -> Unit | None: ...

    def settled(self, event: Event, unit: Unit, committed: bool) -> None: ...


@dataclass(slots=True)
class Starter:
    """A preparer as a reader of the log."""

    preparer: Preparer
    bus: Bus

    @property
    def name(self) -> str:
        return self.preparer.name

    @property
    def types(self) -> frozenset[str]:
        return self.bus.upcasts.former(self.preparer.types)

    @property
    def head_table(self) -> str | None:
        return self.preparer.head_table

    async def attempt(self, event: Event) -> None:
        """Begins the event's stream, unless it has begun."""
        bus, event = self.bus, self.bus.upcasts.newest(event)
        if (under_way := bus.preparing.get(event.id)) is not None and await asyncio.shield(under_way):
            return
        lease = bus.leases.owned.get(event.partition)
        if lease is None or bus.leases.leaving:
            raise NotOwned
        settled = bus.preparing[event.id] = asyncio.get_running_loop().create_future()
        written = False
        try:
            unit = await self.preparer.prepare(event, lease)
            if unit is None:
                written = True
                return
            committed = await bus.writer.commit(units=[unit])
            written = unit.id not in committed.evicted and unit.id not in committed.failed
            self.preparer.settled(event, unit, written)
            if unit.id in committed.failed:
                raise committed.failed[unit.id]
            if not written and not await self._begun(event):
                raise NotOwned
        finally:
            bus.preparing.pop(event.id, None)
            settled.set_result(written)

    async def _begun(self, event: Event) -> bool:
        head = self.preparer.head_table
        return await self.bus.database.engine.fetchval(BEGUN.format(head=head), event.tenant, event.id) is not None


class Bus:
    """Register everything (`consume`, `prepare`, `listen`, `on_wake`) before `open`."""

    def __init__(self, database: Database, writer: Writer, leases: Leases, settings: Settings) -> None:
        self.database = database
        self.writer = writer
        self.leases = leases
        self.settings = settings
        self.retention = RETENTION
        self.preparing: dict[UUID, asyncio.Future[bool]] = {}
        self.upcasts = Upcasts()
        self._readers: dict[str, Reader] = {}
        self._by_type: dict[str, list[Reader]] = {}
        self._starters: dict[str, Starter] = {}
        self._listeners: dict[str, list[Listener]] = {}
        self._wakes: dict[str, list[Callable[[int], None]]] = {}
        self._due: set[tuple[str, int]] = set()
        self._running: set[tuple[str, int]] = set()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ear: asyncpg.Connection | None = None
        self._opened = False
        writer.prepare = self._offer
        writer.dispatch = self.dispatch
        database.after_commit.append(self._after_commit)
        self.on_wake(LEASES, leases.look)

    # -- who hears

    def consume(self, name: str, types: Iterable[str], handle: Handle) -> None:
        """`handle(event, transaction)` has one effect per event: it runs in one transaction with the event's inbox row,
        as lf_api under the event's tenant. Events of one subject come in order, one at a time."""

        async def newest(event: Event, transaction: Transaction) -> None:
            await handle(self.upcasts.newest(event), transaction)

        self._read(Consumer(name, self.upcasts.former(types), newest, self.database))

    def upcast(self, old: str, new: str, change: Change) -> None:
        """Has events of an old version read as the new one (upcasting.py). Before anybody registers for the new one."""
        if self._readers or self._listeners:
            raise ValueError(f"{old} is declared too late: somebody may have registered for {new}")
        self.upcasts.declare(old, new, change)

    def prepare(self, preparer: Preparer) -> None:
        starter = Starter(preparer, self)
        if not self._starters:
            self.leases.watch(self._acquired, lambda partition: None)
        self._read(starter)
        for kind in preparer.types:
            if self._starters.setdefault(kind, starter) is not starter:
                raise ValueError(f"{kind} starts two kinds of streams")

    def _read(self, reader: Reader) -> None:
        if self._opened or reader.name in self._readers:
            raise ValueError(f"the reader {reader.name} comes too late or twice")
        self._readers[reader.name] = reader
        for kind in reader.types:
            self._by_type.setdefault(kind, []).append(reader)

    def listen(self, types: Iterable[str], callback: Listener) -> Callable[[], None]:
        """`callback(event)` is called, soon and once, for events committed from now on in any process. It must not
        block. Returns what ends it. Nothing is kept for listeners: who must not miss anything consumes."""
        wanted = self.upcasts.former(types)

        def newest(event: Event) -> None:
            callback(self.upcasts.newest(event))

        for kind in wanted:
            self._listeners.setdefault(kind, []).append(newest)

        def stop() -> None:
            for kind in wanted:
                self._listeners[kind].remove(newest)

        return stop

    def on_wake(self, topic: str, callback: Callable[[int], None]) -> None:
        """`callback(partition)` follows `Transaction.wake(topic, partition)` of any process."""
        self._wakes.setdefault(topic, []).append(callback)

    async def publish(self, *events: Event) -> None:
        """Stores events that belong to no other change."""
        await self.writer.commit(Ingress(events=list(events)))

    async def lags(self) -> dict[str, int]:
        """How many events each consumer has not acted on yet, those it failed at included; for metrics."""
        names = [reader.name for reader in self._readers.values() if reader.head_table is None]
        rows = await self.database.engine.fetch(cursors.LAGS, names)
        return {row["consumer"]: int(row["lag"]) for row in rows}

    # -- life

    async def open(self) -> None:
        """Begins to deliver; claims partitions if somebody here has work for their owner."""
        for reader in self._readers.values():
            await cursors.enrol(self.database.engine, reader.name, sorted(reader.types), self.settings.partitions)
        self._opened = True
        await self._listen()
        if self.leases.watched:
            await self.leases.claim()
        self._spawn(self._sweep())

    async def close(self) -> None:
        """Stops delivering; an event under way is finished or comes again."""
        self._opened = False
        self._due.clear()
        for _ in range(50):
            if not self._running:
                break
            await asyncio.sleep(0.1)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._ear is not None:
            ear, self._ear = self._ear, None
            await ear.close()

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- what was committed

    async def _offer(self, event: Event) -> Prepared | None:
        """A unit for the flush that stores the event, if this process owns its partition."""
        starter = self._starters.get(event.type)
        lease = self.leases.owned.get(event.partition)
        if starter is None or lease is None or not self._opened or self.leases.leaving:
            return None
        try:
            unit = await starter.preparer.prepare(event, lease)
        except Exception:
            log.exception("bus.prepare_failed", extra={"type": event.type, "id": str(event.id)})
            return None
        if unit is None:
            return None
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.preparing[event.id] = future

        def settle(written: bool) -> None:
            self.preparing.pop(event.id, None)
            if not future.done():
                future.set_result(written)
            starter.preparer.settled(event, unit, written)

        return Prepared(event, unit, settle)

    def _after_commit(self, published: Published) -> None:
        self.dispatch(published.xid, published.events, frozenset())
        for topic, partition in dict.fromkeys(published.wakes):
            self._woken(topic, partition)

    def dispatch(self, xid: int, events: Sequence[Event], started: frozenset[UUID]) -> None:
        """Tells this process of committed events; `started` have had their stream begun with them."""
        for event in events:
            for callback in tuple(self._listeners.get(event.type, ())):
                try:
                    callback(event)
                except Exception:
                    log.exception("bus.listener_failed", extra={"type": event.type})
            for reader in self._by_type.get(event.type, ()):
                if reader.head_table is None:
                    self._poke(reader.name, event.partition)
                elif event.id not in started and event.partition in self.leases.owned and self._opened:
                    self._spawn(self._start(reader, event))

    async def _start(self, reader: Reader, event: Event) -> None:
        """Begins a stream outside its event's flush. Whatever fails is the sweep's, which holds and retries."""
        try:
            await reader.attempt(event)
        except NotOwned:
            log.info("bus.start_moved", extra={"type": event.type, "id": str(event.id)})
        except Exception:
            log.exception("bus.start_failed", extra={"type": event.type, "id": str(event.id)})
            self._poke(reader.name, event.partition)

    def _woken(self, topic: str, partition: int) -> None:
        for callback in self._wakes.get(topic, ()):
            try:
                callback(partition)
            except Exception:
                log.exception("bus.wake_failed", extra={"topic": topic})

    async def _acquired(self, lease: Lease) -> None:
        for reader in self._readers.values():
            if reader.head_table is not None:
                self._poke(reader.name, lease.partition)

    # -- rounds

    def _poke(self, name: str, part: int) -> None:
        if not self._opened:
            return
        self._due.add((name, part))
        if (name, part) not in self._running:
            self._running.add((name, part))
            self._spawn(self._rounds(name, part))

    async def _rounds(self, name: str, part: int) -> None:
        """Rounds of one reader in one partition, until nothing is due."""
        key = (name, part)
        try:
            while key in self._due:
                self._due.discard(key)
                async with self._slots:
                    await self._round(self._readers[name], part)
        finally:
            self._running.discard(key)

    async def _round(self, reader: Reader, part: int) -> None:
        if reader.head_table is not None and (part not in self.leases.owned or self.leases.leaving):
            return
        try:
            async with self.database.engine.acquire() as connection, connection.transaction():
                now = Round(connection, reader, part)
                more = await now.run()
        except Exception as error:
            if not unreachable(error):
                log.exception("bus.round_failed", extra={"consumer": reader.name, "partition": part})
            self._later(1.0, reader.name, part)
            return
        if more:
            self._due.add((reader.name, part))
        if now.retry is not None:
            self._later(now.retry, reader.name, part)

    def _later(self, seconds: float, name: str, part: int) -> None:
        asyncio.get_running_loop().call_later(seconds, self._poke, name, part)

    async def _sweep(self) -> None:
        """Finds what no wake-up told of, and trims the log."""
        sweeps = 0
        while True:
            try:
                await self._look()
                sweeps += 1
                if sweeps % TRIM_EVERY == 0:
                    await cursors.trim(self.database.engine, self.settings.partitions, self.retention)
                if self._ear is None or self._ear.is_closed():
                    await self._listen()
            except Exception as error:
                if not unreachable(error):
                    log.exception("bus.sweep_failed")
            await asyncio.sleep(SWEEP_SECONDS)

    async def _look(self) -> None:
        everywhere = [reader.name for reader in self._readers.values() if reader.head_table is None]
        owned = [reader.name for reader in self._readers.values() if reader.head_table is not None]
        for names, parts in ((everywhere, range(self.settings.partitions)), (owned, sorted(self.leases.owned))):
            if names and parts:
                for row in await self.database.engine.fetch(cursors.BEHIND, names, list(parts)):
                    self._poke(row["consumer"], row["part"])

    # -- other processes

    async def _listen(self) -> None:
        ear = await self.database.connect("lf_engine", "linkflow ear")
        await ear.add_listener(eventlog.EVENTS_CHANNEL, self._heard)
        await ear.add_listener(eventlog.WAKES_CHANNEL, self._heard)
        self._ear = ear

    def _heard(self, connection: Any, pid: int, channel: str, payload: object) -> None:
        origin, first, second = str(payload).split(":")
        if origin == self.database.origin:
            return
        if channel == eventlog.WAKES_CHANNEL:
            self._woken(first, int(second))
        else:
            self._spawn(self._fetch([int(part) for part in first.split(",")], int(second)))

    async def _fetch(self, parts: list[int], xid: int) -> None:
        wanted = list(self._by_type.keys() | {kind for kind, callbacks in self._listeners.items() if callbacks})
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            rows = await self.database.engine.fetch(FETCH, parts, str(xid), wanted)
            self.dispatch(xid, [eventlog.event(row) for row in rows], frozenset())
