"""Those who ask: they publish releases, start runs as Webhook does, cancel some, and ask again when in doubt."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from sqlalchemy import insert

from subgraphs.execution import events
from subgraphs.execution.desk import TOPIC
from subgraphs.execution.storage import START_KEY, inbox
from subgraphs.platform.domain import Event
from subgraphs.platform.writer import Ingress
from tests.simulation.judge import Intent
from tests.simulation.workload import TYPES, Flow, flow

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

TENANTS = (UUID(int=71), UUID(int=72))
TRIES = 30


class Clients:
    """Everything that is asked in one seed."""

    def __init__(self, world: World) -> None:
        self.world, self.random = world, world.random
        self.flows = [flow(self.random, self._id()) for _ in range(self.random.choice((1, 2, 3)))]
        loop = world.loop
        self.tasks = [loop.create_task(self._publish(each)) for each in self.flows]
        self.tasks += [loop.create_task(self._client()) for _ in range(self.random.choice((1, 2, 4, 8)))]

    def _id(self) -> UUID:
        return UUID(int=self.random.getrandbits(128), version=4)

    async def done(self) -> None:
        await asyncio.wait(self.tasks)
        for task in self.tasks:
            task.result()

    async def _anyone(self) -> Process:
        """A process that takes calls."""
        while not (able := self.world.working()):
            await asyncio.sleep(0.05)
        return self.random.choice(able)

    def tenant(self, workflow: UUID) -> UUID:
        return TENANTS[workflow.int % 2]

    async def _publish(self, flow: Flow) -> None:
        """Workflow publishes the release; starts may come before Execution holds it."""
        data = {
            "workflowId": str(flow.workflow),
            "name": "Simulated",
            "release": 1,
            "definition": flow.definition,
            "nodeTypes": TYPES,
        }
        id, tenant = self._id(), self.tenant(flow.workflow)
        await self._until_heard(
            lambda process: process.bus.publish(
                Event(
                    type=events.RELEASED,
                    id=id,
                    subject=str(flow.workflow),
                    tenant=tenant,
                    partition=process.leases.partition_of(flow.workflow),
                    data=data,
                )
            )
        )

    async def _until_heard(self, ask: Any) -> Any:
        for _ in range(TRIES):
            process = await self._anyone()
            try:
                return await self.world.within(process, ask(process), 3.0)
            except Exception:  # noqa: BLE001 - whatever it was, it may have been done: ask again
                await asyncio.sleep(0.1)
        return None

    async def _client(self) -> None:
        for _ in range(self.random.choice((1, 1, 2))):
            await asyncio.sleep(self.random.random() * 3)
            intent = Intent(
                flow=self.random.choice(self.flows),
                item={"n": self.random.randrange(9)},
                respond=self.random.choice(("now", "done", "node")),
                key=str(self._id()) if self.random.random() < 0.5 else None,
            )
            self.world.judge.intents.append(intent)
            partition = await self._start(intent)
            if partition is not None and self.random.random() < 0.25:
                await asyncio.sleep(self.random.random() * 2)
                await self._cancel(intent, partition)

    async def _start(self, intent: Intent) -> int | None:
        """Asks until somebody says yes; with a key under a new id each time, as a caller does who heard nothing."""
        id = self._id()
        for _ in range(TRIES):
            process = await self._anyone()
            lease = process.leases.lease_for(id)
            partition = lease.partition if lease is not None else process.leases.partition_of(id)
            ingress = self._ingress(intent, id, partition)
            intent.asked.append(id)
            try:
                committed = await self.world.within(process, process.writer.commit(ingress), 3.0)
            except Exception:  # noqa: BLE001 - nobody knows whether it was stored
                id = self._id() if intent.key is not None else id
                await asyncio.sleep(0.1)
                continue
            if committed.claimed:
                intent.acknowledged.add(id)
                return partition
            return None
        return None

    def _ingress(self, intent: Intent, id: UUID, partition: int) -> Ingress:
        tenant = self.tenant(intent.flow.workflow)
        data = {
            "workflowId": str(intent.flow.workflow),
            "release": 1,
            "node": "n0",
            "item": intent.item,
            "respond": {"mode": intent.respond, "address": "replica"},
        }
        event = Event(type=events.CALLED, id=id, subject=str(id), tenant=tenant, partition=partition, data=data)
        ingress = Ingress(events=[event])
        if intent.key is not None:
            until = datetime.now(UTC) + timedelta(days=4000)
            ingress.claim = (START_KEY.name, (tenant, intent.key, id, b"hash", until))
        return ingress

    async def _cancel(self, intent: Intent, partition: int) -> None:
        run = next(iter(intent.acknowledged))
        letter, tenant = self._id(), self.tenant(intent.flow.workflow)
        intent.cancelled = True

        async def post(process: Process) -> None:
            async with process.database.write(tenant) as transaction:
                row = {
                    "tenant": tenant,
                    "run": run,
                    "id": letter,
                    "part": partition,
                    "kind": "cancel",
                    "data": msgspec.json.encode({"reason": "simulated"}).decode(),
                }
                await transaction.execute(insert(inbox).values(row))
                transaction.wake(TOPIC, partition)

        if (head := self.world.server.row("execution.run", (tenant, run))) is not None:
            partition = head["part"]
            await self._until_heard(post)
