"""One simulated process: the real writer, leases, bus, runner, sweep and consumers, wired as in service.py."""

from __future__ import annotations

from contextvars import copy_context
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, MetaData, Table, Text, Uuid
from sqlalchemy import insert as insert_into

from subgraphs.execution import consumers, events, hearing
from subgraphs.execution.desk import TOPIC
from subgraphs.execution.runner import Preparation, Runner
from subgraphs.execution.runner.loading import Loading, Plans
from subgraphs.execution.runner.sweep import Sweep
from subgraphs.execution.storage import WRITTEN
from subgraphs.platform import writer
from subgraphs.platform.bus import Bus
from subgraphs.platform.domain import Event
from subgraphs.platform.leases import Leases
from tests.simulation.bodies import SimExecutor
from tests.simulation.driver import SimDatabase, SimObjects, SimTransaction, SimWriter
from tests.simulation.loop import OWNER, Owner
from tests.simulation.store import SimStore

if TYPE_CHECKING:
    from tests.simulation.world import World

GRACE = 2.0
heard = Table(
    "heard",
    MetaData(schema="sim"),
    Column("tenant", Uuid, primary_key=True),
    Column("nth", BigInteger, primary_key=True),
    Column("event", Uuid),
    Column("type", Text),
)
HEARD = writer.Table(
    "sim.heard",
    (("tenant", "uuid"), ("nth", "bigint"), ("event", "uuid"), ("type", "text")),
    "insert",
    ("tenant", "nth"),
)
RELEASE = writer.Table(
    "execution.release",
    (
        ("tenant", "uuid"),
        ("workflow", "uuid"),
        ("release", "integer"),
        ("name", "text"),
        ("definition", "text"),
        ("types", "text"),
    ),
    "ingress",
    ("tenant", "workflow", "release"),
)
TABLES = (*WRITTEN, RELEASE, HEARD, writer.BLOB)


class SimClock:
    """Time and chance of one process; its clock may be wrong by `skew` seconds."""

    def __init__(self, world: World, skew: float, random: Random) -> None:
        self.world, self.skew, self.random = world, skew, random
        self.drag = random.choice((0.0, 0.0, 0.004))
        self.asked = 0

    def now(self) -> int:
        return int((self.world.clock() + self.skew) * 1_000_000)

    def seed(self) -> int:
        return self.random.getrandbits(62)

    def ticks(self) -> float:
        self.asked += 1
        return self.world.loop.now + self.asked * self.drag


class Process(Owner):
    """Boots when it is made. `opened` once it works; `world.kill` and `stop` end it."""

    def __init__(self, world: World, name: str, skew: float) -> None:
        super().__init__(name)
        self.world, self.opened, self.gone = world, False, False
        self.clock = SimClock(world, skew, Random(f"{world.seed}:{name}"))
        settings: Any = world.settings
        database: Any = SimDatabase(world.wire, settings, name)
        self.database = database
        self.writer = SimWriter(self.database, settings)
        self.writer.deciding = world.judge.deciding
        for table in TABLES:
            self.writer.register(table)
        self.leases = Leases(self.database, self.writer, settings)
        self.bus = Bus(self.database, self.writer, self.leases, settings)
        self.objects = SimObjects(settings, world.wire)
        self.store = SimStore(self.database.engine)
        self.loading = Loading(self.store, self.objects, Plans(self.store))
        remote, slow = world.random.random() < 0.2, world.random.choice((0.0, 0.05))
        self.executor = SimExecutor(self.clock.random, world.judge, remote=remote, slow=slow)
        self.runner = Runner(
            executor=lambda: self.executor,
            writer=self.writer,
            leases=self.leases,
            objects=self.objects,
            clock=self.clock,
            loading=lambda: self.loading,
            limit=settings.claim_check_bytes,
            told=lambda run, version, told: None,
        )
        self.sweep = Sweep(self.runner, self.store)
        self._register()
        self.context = copy_context()
        self.context.run(OWNER.set, self)
        self.booting = world.loop.create_task(self._boot(), context=self.context)

    def _register(self) -> None:
        self.leases.watch(self.runner.acquired, self.runner.lost)
        self.bus.prepare(Preparation(self.runner, lambda: self.loading))
        self.bus.on_wake(TOPIC, self._woken)
        consumers.register(self.bus, self.objects)
        hearing.register(self.bus)
        self.bus.consume("sim.ears", [events.FINISHED], self._hear)

    def _woken(self, partition: int) -> None:
        if partition in self.leases.owned:
            self.sweep.wake(partition)

    async def _hear(self, event: Event, transaction: Any) -> None:
        assert isinstance(transaction, SimTransaction)
        self.world.heard += 1
        row = {"tenant": event.tenant, "nth": self.world.heard, "event": event.id, "type": event.type}
        await transaction.execute(insert_into(heard).values(row))

    async def _boot(self) -> None:
        try:
            await self.database.open()
            await self.writer.open()
            await self.leases.open()
            self.sweep.start()
            await self.bus.open()
        except Exception:  # noqa: BLE001 - whatever runs it starts it again
            self.world.kill(self, 0.2)
            return
        self.opened = True

    async def stop(self) -> None:
        """As at SIGTERM: what is under way ends, partitions are handed back."""
        self.opened = False
        await self.bus.close()
        await self.sweep.stop()
        await self.runner.drain(GRACE)
        await self.leases.close()
        await self.writer.close()
        await self.database.close()


def settings(random: Random) -> Any:
    """The few settings these parts read."""
    return SimpleNamespace(
        partitions=random.choice((1, 2, 4)),
        lease_seconds=random.choice((1, 3)),
        claim_check_bytes=random.choice((400, 1 << 20, 1 << 20, 1 << 20)),
        tenant_filter=True,
    )


def uuid(random: Random) -> UUID:
    return UUID(int=random.getrandbits(128), version=4)
