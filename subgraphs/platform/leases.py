"""Who owns which partition, and how that is noticed to end.

Each process is a worker: a row with a heartbeat, and a session advisory lock on its writer's own connection. A peer
waits for that lock, so a killed process is noticed within milliseconds; a paused one keeps its lock and is noticed by
its heartbeat, on the database's clock. Partitions of the dead are claimed with a higher epoch; the writer's fence keeps
what was decided under the old one out. Who loses its connection, its lock or its row is a new worker afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import asyncpg

from subgraphs.platform import eventlog
from subgraphs.platform.database import Database
from subgraphs.platform.writer import Writer

if TYPE_CHECKING:
    from subgraphs.platform.settings import Settings

log = logging.getLogger("linkflow.leases")
FAULTS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


@dataclass(frozen=True, slots=True)
class Lease:
    """A partition this process owns, and the epoch of that ownership."""

    partition: int
    epoch: int


Acquired = Callable[[Lease], Awaitable[None]]
Lost = Callable[[int], None]

PARTITIONS = "insert into bus.lease (part) select generate_series(0, $1 - 1) on conflict do nothing"
ENTER = "insert into bus.worker (id, name, lock, claims) values ($1, $2, $3, $4)"
BEAT = "update bus.worker set beat = clock_timestamp(), claims = $2 where id = $1 and alive returning true"
WORKERS = "select id, lock, claims from bus.worker where alive order by id"
MINE = "select part, epoch from bus.lease where owner = $1"
EXPIRE = """
update bus.worker set alive = false where alive and id <> $1
and beat < clock_timestamp() - make_interval(secs => $2) returning id, lock
"""
BURY = "update bus.worker set alive = false where id = $1"
GONE = "delete from bus.worker where id = $1"
FORGET = "delete from bus.worker where not alive and beat < clock_timestamp() - interval '1 hour'"
LOCK = "select pg_advisory_lock($1)"
UNLOCK = "select pg_advisory_unlock($1)"
LOCK_SHARED = "select pg_advisory_lock_shared($1)"
UNLOCK_SHARED = "select pg_advisory_unlock_shared($1)"
CLAIM = """
with me as (select id from bus.worker where id = $1 and alive for share)
update bus.lease set owner = $1, epoch = epoch + 1 from me where part in
  (select part from bus.lease where owner is null order by part limit $2 for update skip locked)
returning part, epoch
"""
TOPIC = "leases"
TELL = "select pg_notify($1, $2)"
RELEASE = """
update bus.lease set owner = null where part in
  (select part from bus.lease where owner = $1 and part = any($2::smallint[]) order by part for update)
"""
ORPHANED = """
update bus.lease set owner = null where part in
  (select part from bus.lease l where owner is not null
   and not exists (select 1 from bus.worker w where w.id = l.owner and w.alive) order by part for update)
"""
CUT = """
select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted and objsubid = 1
and mode = 'ExclusiveLock' and database = (select oid from pg_database where datname = current_database())
and classid = (($1::bigint >> 32) & 4294967295)::oid and objid = ($1::bigint & 4294967295)::oid
"""


class Leases:
    """This process's partitions. `owned` may be read at any time; `watch` tells of changes."""

    def __init__(self, database: Database, writer: Writer, settings: Settings) -> None:
        self.database = database
        self.writer = writer
        self.settings = settings
        self.id: UUID | None = None
        self.lock = 0
        self.peers = 0
        self.incarnations = 0
        self._owned: dict[int, Lease] = {}
        self.owned: Mapping[int, Lease] = MappingProxyType(self._owned)
        self._order: list[Lease] = []
        self._watchers: list[tuple[Acquired, Lost]] = []
        self._claims = False
        self.leaving = False
        self._own: asyncpg.Pool | None = None
        self._kick = asyncio.Event()
        self._round = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None
        self._guard: tuple[UUID, asyncio.Task[None]] | None = None
        writer.incarnate = self._incarnate
        writer.forsaken = self._lose_all
        database.has_peers = lambda: self.peers > 0

    def partition_of(self, id: UUID) -> int:
        """The partition of an aggregate: the same in every process, for ever."""
        return id.int % self.settings.partitions

    def lease_for(self, id: UUID) -> Lease | None:
        """One of the owned partitions, the same for the same id while ownership does not change; None without any."""
        order = self._order if not self.leaving else []
        return order[id.int % len(order)] if order else None

    def watch(self, acquired: Acquired, lost: Lost) -> None:
        """`acquired(lease)` is awaited in a task of its own; `lost(partition)` is called at once, for any cause."""
        self._watchers.append((acquired, lost))

    @property
    def watched(self) -> bool:
        """Whether anybody in this process does something with a partition; who serves others' data only does not."""
        return bool(self._watchers)

    @property
    def _pool(self) -> asyncpg.Pool:
        return self._own or self.database.engine

    async def open(self) -> None:
        """Connections of its own: a heartbeat must not wait behind other work for one."""
        self._own = await self.database.pool("linkflow leases", 2)
        await self._pool.execute(PARTITIONS, self.settings.partitions)
        self._loop = asyncio.create_task(self._run(), name="leases")

    async def claim(self) -> None:
        """From now on this process takes its fair share of the partitions; returns after the first attempt."""
        self._claims = True
        await self._tick()
        self._kick.set()

    async def hand_back(self, partitions: Collection[int]) -> None:
        """Gives up these partitions, in good order, and takes no more: the process is about to end. Peers are told, so
        that they go on at once."""
        self._claims, self.leaving = False, True
        mine = [partition for partition in partitions if partition in self._owned]
        for partition in mine:
            self._lose(partition)
        if self.id is None:
            return
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.fetchval(BEAT, self.id, self._claims)
            await connection.execute(RELEASE, self.id, mine)
            await connection.execute(TELL, eventlog.WAKES_CHANNEL, f"{self.database.origin}:{TOPIC}:0")

    def look(self, _partition: int = 0) -> None:
        """Somebody handed partitions back: see at once whether there is a share to take."""
        self._kick.set()

    async def close(self) -> None:
        """Hands partitions back, so that others need not wait for our death to be noticed."""
        self._claims = False
        running = [task for task in (self._loop, self._guard[1] if self._guard else None) if task is not None]
        self._lose_all()
        for task in (*running, *self._tasks):
            task.cancel()
        await asyncio.gather(*running, *self._tasks, return_exceptions=True)
        try:
            await self._leave()
        except FAULTS as error:
            log.warning("leases.not_handed_back", extra={"error": repr(error)})
        if self._own is not None:
            own, self._own = self._own, None
            await own.close()

    async def _leave(self) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(RELEASE, self.id, list(range(self.settings.partitions)))
            await connection.execute(GONE, self.id)

    # -- one life

    async def _incarnate(self, connection: asyncpg.Connection) -> UUID:
        """A new worker on a new writer's connection. What the last one owned is free for all again."""
        former, former_lock = self.id, self.lock
        if former is not None:
            await self._bury(former, former_lock)
            await connection.execute(LOCK, former_lock)  # its last statement has ended
            await connection.execute(UNLOCK, former_lock)
        fresh, lock = uuid4(), secrets.randbits(62)
        await connection.execute(LOCK, lock)
        await self._pool.execute(ENTER, fresh, f"{socket.gethostname()}:{os.getpid()}", lock, self._claims)
        self._lose_all()  # a claim of the former life may have been answered while it was buried
        self.id, self.lock = fresh, lock
        self.incarnations += 1
        self._kick.set()
        return fresh

    def _lose_all(self) -> None:
        for partition in list(self._owned):
            self._lose(partition)

    def _lose(self, partition: int) -> None:
        if self._owned.pop(partition, None) is None:
            return
        self._order = [self._owned[part] for part in sorted(self._owned)]
        for _, lost in self._watchers:
            lost(partition)

    # -- the rounds

    async def _run(self) -> None:
        period = self.settings.lease_seconds / 3
        while True:
            try:
                await self._tick()
            except FAULTS as error:
                log.warning("leases.tick_failed", extra={"error": repr(error)})
            except Exception:  # a round that fails must not be the last
                log.exception("leases.tick_failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(period):  # wait_for of Python 3.11 loses a cancellation
                    await self._kick.wait()
            self._kick.clear()

    async def _tick(self) -> None:
        async with self._round:
            if self.id is not None:
                await self._look_round(self.id)

    async def _look_round(self, me: UUID) -> None:
        alive = await self._pool.fetchval(BEAT, me, self._claims)
        if not alive:
            if self.id == me:
                log.warning("leases.declared_dead", extra={"worker": str(me)})
                self._lose_all()
                self.writer.disconnect()
            return
        await self._bury_expired(me)
        workers = await self._pool.fetch(WORKERS)
        if all(row["id"] != me for row in workers):
            return  # declared dead a moment ago; the next round finds out
        self.peers = len(workers) - 1
        self._watch_next(me, [(row["id"], row["lock"]) for row in workers])
        if self._claims:
            await self._reconcile(me)
            await self._balance(me, [row["id"] for row in workers if row["claims"] or row["id"] == me])

    async def _reconcile(self, me: UUID) -> None:
        """What is ours is what the database says: the answer to a claim or a release may have been lost."""
        rows = await self._pool.fetch(MINE, me)
        if self.id != me:
            return
        mine = {row["part"]: Lease(row["part"], row["epoch"]) for row in rows}
        for partition in [part for part, lease in self._owned.items() if mine.get(part) != lease]:
            self._lose(partition)
        self._gain([lease for part, lease in sorted(mine.items()) if part not in self._owned])

    async def _balance(self, me: UUID, claimers: list[UUID]) -> None:
        """Everybody computes the same shares from the same list: no talk, and it settles."""
        share, rest = divmod(self.settings.partitions, len(claimers))
        share += claimers.index(me) < rest
        surplus = sorted(self._owned)[share:]
        if surplus:
            for partition in surplus:
                self._lose(partition)
            await self._pool.execute(RELEASE, me, surplus)
        elif len(self._owned) < share:
            rows = await self._pool.fetch(CLAIM, me, share - len(self._owned))
            if self.id == me:  # else we died meanwhile, and these are buried with the dead
                self._gain([Lease(row["part"], row["epoch"]) for row in rows])

    def _gain(self, leases: list[Lease]) -> None:
        for lease in leases:
            self._owned[lease.partition] = lease
        if leases:
            self._order = [self._owned[part] for part in sorted(self._owned)]
        for lease in leases:
            for acquired, _ in self._watchers:
                task = asyncio.create_task(self._tell(acquired, lease))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _tell(self, acquired: Acquired, lease: Lease) -> None:
        try:
            await acquired(lease)
        except Exception:  # a listener's fault must not cost the others their partition
            log.exception("leases.acquired_failed", extra={"partition": lease.partition})

    # -- the dead

    async def _bury_expired(self, me: UUID) -> None:
        """Workers whose heartbeat is older than a lease, on the database's clock, and leases of those that are gone."""
        async with self._pool.acquire() as connection, connection.transaction():
            dead = await connection.fetch(EXPIRE, me, float(self.settings.lease_seconds))
            await connection.execute(ORPHANED)
            await connection.execute(FORGET)
        for row in dead:
            log.warning("leases.worker_expired", extra={"worker": str(row["id"])})
            await self._cut(row["lock"])

    async def _bury(self, id: UUID, lock: int) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(BURY, id)
            await connection.execute(RELEASE, id, list(range(self.settings.partitions)))
        await self._cut(lock)

    async def _cut(self, lock: int) -> None:
        """Ends the session that still holds a dead worker's lock: a paused process keeps it until told."""
        connection = await self.database.connect("lf_ingress", "linkflow burial")
        try:
            await connection.execute(CUT, lock)
        finally:
            await connection.close()

    def _watch_next(self, me: UUID, workers: list[tuple[UUID, int]]) -> None:
        """Each waits for the next in the ring, so every death has one witness."""
        ids = [worker for worker, _ in workers]
        target = workers[(ids.index(me) + 1) % len(workers)] if me in ids and len(workers) > 1 else None
        if self._guard is not None:
            watched, task = self._guard
            if target is not None and target[0] == watched and not task.done():
                return
            task.cancel()
            self._guard = None
        if target is not None:
            self._guard = (target[0], asyncio.create_task(self._await_death(*target), name="leases.watch"))

    async def _await_death(self, id: UUID, lock: int) -> None:
        connection: asyncpg.Connection | None = None
        try:
            connection = await self.database.connect(
                "lf_ingress",
                "linkflow watch",
                client_connection_check_interval="1s",  # else a session that waits outlives its process
            )
            await connection.execute(LOCK_SHARED, lock)
            await connection.execute(UNLOCK_SHARED, lock)
            log.info("leases.worker_gone", extra={"worker": str(id)})
            await self._bury(id, lock)
        except FAULTS as error:
            log.warning("leases.watch_failed", extra={"error": repr(error)})
        finally:
            if connection is not None:
                connection.terminate()
            self._kick.set()
