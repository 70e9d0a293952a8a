"""Wires Executor: the runner others bind to, the row of this worker, and the announcement of the catalogue."""

from __future__ import annotations

import asyncio
import logging
import os
import socket

import asyncpg
from starlette.routing import BaseRoute, Route

from subgraphs.executor import events
from subgraphs.executor.door import Door, Probes
from subgraphs.executor.runner import Runner, Tools
from subgraphs.executor.sandbox import Sandbox
from subgraphs.executor.schema import Context, schema
from subgraphs.executor.storage import WorkerRows
from subgraphs.platform.domain import Caller, uuid7
from subgraphs.platform.egress import Egress
from subgraphs.platform.server import Ground, Incoming, Subgraph

BEAT_SECONDS = 5.0
log = logging.getLogger("linkflow.executor")


class Worker:
    """This process as a worker: what it runs with, and its signs of life."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.id = uuid7()
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.slots = ground.settings.executor_workers
        self.egress = Egress.from_settings(ground.settings)
        self.sandbox = Sandbox(ground.settings.sandbox_socket)
        self.runner = Runner(Tools(self.egress, self.sandbox), workers=self.slots)
        self.workers = WorkerRows(lambda: ground.database.engine)
        self._beating: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._beat()
        self._beating = asyncio.create_task(self._keep_beating(), name="executor-heartbeat")
        partition = self.ground.leases.partition_of(events.CATALOGUE)
        await self.ground.bus.publish(events.announced(self.runner.types, self.runner.digest, partition=partition))

    async def stop(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
            await self.workers.gone(self.id)
        await self.egress.close()
        await self.sandbox.close()

    async def _beat(self) -> None:
        runner = self.runner
        state = (runner.busy, runner.done, runner.failed)
        await self.workers.beat(self.id, self.name, self.slots, runner.digest, *state)

    async def _keep_beating(self) -> None:
        """A database that is away for a while is no reason to stop; the next beat tells."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            try:
                await self._beat()
                await self.workers.sweep()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.warning("heartbeat failed", extra={"reason": str(error)})


def build(ground: Ground) -> Subgraph:
    worker = Worker(ground)
    ground.ports["executor"] = worker.runner

    def context(caller: Caller, incoming: Incoming) -> Context:
        return Context(caller, worker.runner, worker.workers)

    doors: list[BaseRoute] = [
        Route("/steps", Door(worker.runner, ground.hop), methods=["POST"]),
        Route("/probes", Probes(worker.runner, ground.hop), methods=["POST"]),
    ]
    return Subgraph("executor", schema, context, routes=doors, start=worker.start, stop=worker.stop)
