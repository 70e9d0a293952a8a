"""A process like `linkflow serve execution executor`, to be killed: it runs workflows and takes starts on a socket.

    python worker.py EFFECTS_PORT      settings come from LINKFLOW_*; prints its port when it is ready

A start is one line, the run's id, and is answered `ok` once it is stored: the acknowledgement the checker holds us to.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta
from uuid import UUID

import httpx

from subgraphs.engine.step import Item, StepError, StepOutcome, StepRequest, Wait
from subgraphs.execution import service
from subgraphs.platform.domain import Event
from subgraphs.platform.server import Ground, Subgraph, ground_opened
from subgraphs.platform.settings import Settings
from subgraphs.platform.telemetry import configure_logs


class Effects:
    """An executor whose `call` nodes have an effect at the receiver, under the step's idempotency key."""

    def __init__(self, port: int) -> None:
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30)

    def effect(self, type: str, version: str) -> str:
        return "unsafe" if type == "core.call" else "pure"

    def run_pure(self, request: StepRequest) -> StepOutcome:
        items = [item for port in request.inputs.values() for item in port]
        if request.type == "core.wait":
            return StepOutcome(wait=Wait(request.now + timedelta(seconds=request.parameters["seconds"])))
        if request.type == "core.set":
            return StepOutcome(outputs={"main": [Item({**item.json, request.node: True}) for item in items]})
        return StepOutcome(outputs={"main": items})

    async def run(self, request: StepRequest) -> StepOutcome:
        if request.type != "core.call":
            return self.run_pure(request)
        headers = {"idempotency-key": request.idempotency_key}
        try:
            answer = await self.client.post("/" + request.node, headers=headers)
        except httpx.HTTPError as error:
            return StepOutcome(error=StepError("net.failed", repr(error), "infrastructure"))
        if answer.status_code >= 500:
            return StepOutcome(error=StepError(f"http.status.{answer.status_code}", "Refused.", "infrastructure"))
        items = [item for port in request.inputs.values() for item in port]
        return StepOutcome(outputs={"main": [Item({**item.json, request.node: answer.text}) for item in items]})


class Door:
    """Takes starts."""

    def __init__(self, ground: Ground, tenant: UUID, workflow: UUID) -> None:
        self.ground, self.tenant, self.workflow = ground, tenant, workflow

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            await self.ground.bus.publish(self.start(UUID(line.decode().strip())))
            writer.write(b"ok\n")
            await writer.drain()
        writer.close()

    def start(self, run: UUID) -> Event:
        lease = self.ground.leases.lease_for(run)
        return Event(
            type="execution.execution.requested.v1",
            id=run,
            subject=str(run),
            tenant=self.tenant,
            partition=lease.partition if lease is not None else self.ground.leases.partition_of(run),
            data={"workflowId": str(self.workflow), "release": 1, "input": {"run": str(run)}},
        )


async def main(effects: int, tenant: UUID, workflow: UUID) -> None:
    settings = Settings.load(os.environ)
    configure_logs(settings)

    def build(ground: Ground) -> Subgraph:
        ground.ports["executor"] = Effects(effects)
        return service.build(ground)

    async with ground_opened(settings, [build]) as ground:
        server = await asyncio.start_server(Door(ground, tenant, workflow).serve, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), UUID(sys.argv[2]), UUID(sys.argv[3])))
