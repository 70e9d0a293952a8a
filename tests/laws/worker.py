"""A worker process for the laws: does what it is told on standard input, one word a line, answers in JSON."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from subgraphs.platform.domain import uuid7
from subgraphs.platform.settings import Settings
from subgraphs.platform.writer import Unit
from tests.laws.ground import TENANT, Process, process_on


class Told:
    def __init__(self, process: Process) -> None:
        self.process = process
        self.decided: Unit | None = None

    async def owned(self) -> Any:
        return sorted(self.process.leases.owned)

    async def begin(self) -> Any:
        lease = self.process.leases.lease_for(uuid7())
        assert lease is not None
        run = uuid7()
        await self.process.writer.commit(units=[self.process.unit(run, TENANT, lease, 0, "begun")])
        self.decided = self.process.unit(run, TENANT, lease, 1, "decided by the worker")
        return {"run": str(run), "partition": lease.partition, "tenant": str(TENANT)}

    async def commit(self) -> Any:
        assert self.decided is not None
        outcome = await self.process.writer.commit(units=[self.decided])
        return {"evicted": bool(outcome.evicted)}

    async def lives(self) -> Any:
        return {"incarnations": self.process.leases.incarnations, "lost": self.process.lost}


async def main() -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with process_on(Settings.load(os.environ)) as process:
        told = Told(process)
        print(json.dumps("ready"), flush=True)
        while line := (await reader.readline()).decode().strip():
            print(json.dumps(await getattr(told, line)()), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
