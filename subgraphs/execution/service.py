"""Wires Execution: its tables in the group commit, its runner on the leases, its consumers on the bus, its schema."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast
from uuid import UUID

from starlette.routing import Route

from resolvers.entities import loader
from subgraphs.engine.run import Event, Finished, Run, Started, replay
from subgraphs.engine.step import Executor
from subgraphs.execution import bulk, consumers, events, hearing, queries, reasons, standing
from subgraphs.execution.bulk import Bulk
from subgraphs.execution.desk import TOPIC, TenantDesk
from subgraphs.execution.domain import Head
from subgraphs.execution.door import Door, Links
from subgraphs.execution.door.taking import Taking
from subgraphs.execution.invariants import Invariants
from subgraphs.execution.limits import wiring
from subgraphs.execution.limits.entrance import Entrance
from subgraphs.execution.limits.why import Why
from subgraphs.execution.mending import ended_by
from subgraphs.execution.remote import RemoteExecutor
from subgraphs.execution.retention import Retention
from subgraphs.execution.runner import Preparation, Runner, gate
from subgraphs.execution.runner.loading import Loading, Plans
from subgraphs.execution.runner.store import PostgresStore, Rows, SystemClock
from subgraphs.execution.runner.sweep import Sweep
from subgraphs.execution.schema import Context, schema
from subgraphs.execution.storage import WRITTEN
from subgraphs.execution.waits import Delegation, OpenWait
from subgraphs.execution.watching import Watching
from subgraphs.platform.domain import Caller
from subgraphs.platform.domain import Event as Published
from subgraphs.platform.server import Ground, Incoming, Subgraph
from subgraphs.platform.waiting import Waiting

GRACE = 10.0  # seconds running bodies get when the process is told to stop


class Service:
    """Execution in one process; `loading` exists once the database is open."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self._loading: Loading | None = None
        self._sweep: Sweep | None = None
        self._remote: RemoteExecutor | None = None
        self._draining: asyncio.Task[None] | None = None
        self.links = Links(ground.secrets, ground.settings.public_url)
        self.runner = Runner(
            executor=lambda: cast(Executor, ground.ports["executor"]),
            writer=ground.writer,
            leases=ground.leases,
            objects=ground.objects,
            clock=SystemClock(),
            loading=self.loading,
            limit=ground.settings.claim_check_bytes,
            told=self._told,
            turns=wiring.turns(ground.settings),
            span=lambda: ground.telemetry.span if ground.telemetry.tracer is not None else None,
            url=self.links.of,
            most=ground.settings.max_output_bytes,
        )
        self.keeper = wiring.keeper(ground, self.runner.clock, self._woken)
        self.watching = Watching(self.loading, lambda run: run in self.runner.runs)
        self.retention = Retention(ground.database, ground.leases, self.loading)
        self.bulk = Bulk(ground.database, ground.leases, self.retention)
        self.invariants = Invariants(
            ground.database, ground.leases, self.loading, lambda: self.runner.runs, ground.telemetry.metrics.registry
        )
        self.ends = Waiting(ground.bus, {events.FINISHED}, key=lambda event: event.subject)

    def register(self) -> None:
        ground = self.ground
        for table in WRITTEN:
            ground.writer.register(table)
        ground.leases.watch(self.runner.acquired, self.runner.lost)
        entrance = Entrance(self.keeper, ground.settings.partitions)
        ground.bus.prepare(Preparation(self.runner, self.loading, entrance.place))
        ground.bus.listen([events.FINISHED], self._ended)
        ground.bus.on_wake(TOPIC, self._woken)
        ground.bus.on_wake(bulk.TOPIC, self.bulk.wake)
        ground.on_drain.append(self._drain)
        consumers.register(ground.bus, ground.objects)
        hearing.register(ground.bus)

    def loading(self) -> Loading:
        if self._loading is None:
            store = PostgresStore(cast(Rows, self.ground.database.engine))
            self._loading = Loading(store, self.ground.objects, Plans(store))
        return self._loading

    def _told(self, run: Run, version: int, told: Sequence[Event]) -> None:
        """Events that were just committed here."""
        self.watching.told(run, version, told)
        if run.final and told and isinstance(told[-1], Finished) and run.started is not None:
            seconds = (told[-1].at - run.started.at) / 1e6
            self.ground.telemetry.metrics.finished(run.status.upper(), seconds)

    async def start(self) -> None:
        """Binds the Executor of this process, else the one at LINKFLOW_EXECUTOR_URL."""
        if "executor" not in self.ground.ports:
            self._remote = RemoteExecutor(self.ground.settings.executor_url, self.ground.hop)
            self.ground.ports["executor"] = self._remote
            await self._remote.open()
        await gate.admit(self.loading(), refuse=self.ground.settings.replay_gate == "refuse")
        self._sweep = Sweep(self.runner, self.loading().store)
        self._sweep.start()
        await self.keeper.start()
        self.watching.start()
        self.invariants.start()
        self.retention.start()
        self.bulk.start()

    def _drain(self) -> None:
        """The process was told to end: partitions go back as their last bodies end."""
        self._draining = asyncio.get_running_loop().create_task(self.runner.drain(GRACE))

    async def stop(self) -> None:
        """Streams end, timers rest, bodies get a grace; what remains is the next owner's."""
        await self.watching.stop()
        await self.invariants.stop()
        await self.retention.stop()
        await self.bulk.stop()
        await self.runner.drain(GRACE)
        if self._sweep is not None:
            await self._sweep.stop()
        await self.keeper.stop()
        if self._remote is not None:
            await self._remote.close()

    def _ended(self, event: Published) -> None:
        if event.tenant is not None:
            self.watching.ended(event.tenant, UUID(event.subject))

    def _woken(self, partition: int) -> None:
        if self._sweep is not None and partition in self.ground.leases.owned:
            self._sweep.wake(partition)

    def context(self, caller: Caller, _incoming: Incoming) -> Context:
        heads = loader(partial(self._heads, caller))
        details = loader(partial(self._details, caller))
        whys = loader(partial(self._whys, caller))
        desk = self.desk(caller.tenant) if caller.tenant is not None else None
        waits = loader(partial(self._waits, caller))
        delegations = loader(partial(self._delegations, caller))
        return Context(caller, self.ground.database, desk, self.watching, heads, details, whys, waits, delegations)

    def desk(self, tenant: UUID) -> TenantDesk:
        return TenantDesk(self.ground, tenant, self.ends, self.folded, self.failing)

    async def failing(self, tenant: UUID, id: UUID) -> Run | None:
        """A run as it was just before the step failed that ended it; None if none did."""
        journal = (await self.loading().journal([(tenant, id)]))[id]
        version = ended_by(journal)
        if version is None or not isinstance(journal[0], Started):
            return None
        plan = await self.loading().plans.of(tenant, journal[0])
        return replay(Run.blank(id, tenant, plan), journal[:version])

    async def folded(self, tenant: UUID, id: UUID) -> Run | None:
        """A run as its journal has it."""
        stored = await self.loading().runs([(tenant, id)])
        return stored[0].run if stored else None

    async def _heads(self, caller: Caller, ids: Sequence[UUID]) -> Mapping[UUID, Head]:
        return await queries.begun(self.ground.database, caller.must("execution:read"), ids)

    async def _whys(self, caller: Caller, ids: Sequence[UUID]) -> Mapping[UUID, Why]:
        tenant, now = caller.must("execution:read"), self.runner.clock.now()
        return await reasons.whys(self.ground.database, tenant, self.loading(), ids, now)

    async def _waits(self, caller: Caller, ids: Sequence[UUID]) -> Mapping[UUID, list[OpenWait]]:
        async with self.ground.database.read(caller.must("execution:read")) as reading:
            return await standing.waits(reading, ids)

    async def _delegations(
        self, caller: Caller, places: Sequence[standing.Place]
    ) -> Mapping[standing.Place, list[Delegation]]:
        async with self.ground.database.read(caller.must("execution:read")) as reading:
            return await standing.delegations(reading, places)

    async def _details(self, caller: Caller, ids: Sequence[UUID]) -> Mapping[UUID, queries.Detail]:
        async with self.ground.database.read(caller.must("execution:read")) as reading:
            return await queries.details(reading, self.loading(), ids)


def build(ground: Ground) -> Subgraph:
    """Registers Execution on the ground; opens nothing."""
    service = Service(ground)
    service.register()
    ground.ports["execution"] = service.runner
    ground.ports["keeper"] = service.keeper
    ground.ports["invariants"] = service.invariants
    ground.ports["retention"] = service.retention
    ground.ports["bulk"] = service.bulk
    door = Door(service.links, Taking(ground.database, service.folded))
    routes = [Route("/resume/{token}", door)]
    return Subgraph("execution", schema, service.context, routes=[*routes], start=service.start, stop=service.stop)
