"""Starts, kills and pauses workers by the pids it holds, receives their effects, and sends them starts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from subgraphs.platform.settings import Settings

WORKER = Path(__file__).with_name("worker.py")
CHECKOUT = WORKER.parents[2]


@dataclass
class Receiver:
    """The outside world: counts what arrives by idempotency key; answers the first call of a `flaky` key with 503."""

    pause: float = 0.02
    calls: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                key = next(line.split(": ")[1] for line in head.split("\r\n") if line.startswith("idempotency-key"))
                self.calls[key] += 1
                await asyncio.sleep(self.pause)
                refused = key.endswith(":flaky") and self.calls[key] == 1
                self.done[key] += not refused
                status, body = ("503 Unavailable", "") if refused else ("200 OK", f"done {key[-5:]}")
                writer.write(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
                await writer.drain()
        writer.close()


@asynccontextmanager
async def receiving(pause: float) -> AsyncIterator[Receiver]:
    receiver = Receiver(pause)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    async with server:
        yield receiver


@dataclass
class Worker:
    process: asyncio.subprocess.Process
    port: int
    log: Path

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        await self.process.wait()


@dataclass
class Rig:
    """`workers` on one database; `acknowledged` are the starts a worker said were stored."""

    settings: Settings
    receiver: Receiver
    tenant: UUID
    workflow: UUID
    workers: list[Worker] = field(default_factory=list)
    acknowledged: set[UUID] = field(default_factory=set)
    born: int = 0

    async def spawn(self) -> Worker:
        self.born += 1
        home = self.settings.home
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(CHECKOUT),
            "LINKFLOW_HOME": str(home),
            "LINKFLOW_DATABASE_URL": str(self.settings.database_url),
            "LINKFLOW_LEASE_SECONDS": str(self.settings.lease_seconds),
            "LINKFLOW_LOG_FORMAT": "json",
        }
        path = home / "logs" / f"worker-{self.born}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(WORKER),
                str(self.receiver.port),
                str(self.tenant),
                str(self.workflow),
                env=environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert process.stdout is not None
        line = b""
        while not line.strip().isdigit():
            line = await asyncio.wait_for(process.stdout.readline(), 30)
            assert line, path.read_text()[-3000:]
        worker = Worker(process, int(line), path)
        self.workers.append(worker)
        asyncio.get_running_loop().create_task(_drained(process.stdout, path))
        return worker

    async def replace(self, worker: Worker) -> Worker:
        """Kills it without warning and starts another."""
        self.workers.remove(worker)
        await worker.kill()
        return await self.spawn()

    async def start(self, run: UUID) -> None:
        """Sends a start until some worker acknowledges it, always under the same id."""
        for turn in range(200):
            worker = self.workers[(run.int + turn) % len(self.workers)] if self.workers else None
            if worker is not None and await self._sent(worker, run):
                self.acknowledged.add(run)
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"nobody took {run}")

    async def _sent(self, worker: Worker, run: UUID) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
            writer.write(f"{run}\n".encode())
            answer = await asyncio.wait_for(reader.readline(), 10)
            writer.close()
            return answer == b"ok\n"
        except (OSError, TimeoutError):
            return False

    async def close(self) -> None:
        for worker in self.workers:
            if worker.process.returncode is None:
                worker.signal(signal.SIGCONT)
                await worker.kill()


async def _drained(stream: asyncio.StreamReader, path: Path) -> None:
    """Keeps what a worker logs to its standard output."""
    with path.open("ab") as log:
        while line := await stream.readline():
            log.write(line)
