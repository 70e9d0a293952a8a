"""Several `linkflow serve` processes on one database, killed by the pids this holds, called through their webhook; and
the outside world their steps call, which sees whose bodies are under way at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import httpx

from subgraphs.platform.security import SecretBox
from subgraphs.platform.settings import Settings
from tests.conftest import free_port

CHECKOUT = Path(__file__).resolve().parents[4]
PROGRAM = "from subgraphs.platform.cli import main; main()"
SERVED = ("execution", "executor", "webhook")


@dataclass
class Outside:
    """`inside`: runs whose calls are being answered right now; `most` of them at once; `done`: calls by run."""

    pause: float
    inside: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    most: int = 0
    port: int = 0
    talks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.create_task(self._talk(reader, writer))
        self.talks.add(talk)
        talk.add_done_callback(self.talks.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                key = next(line.split(": ")[1] for line in head.split("\r\n") if line.startswith("idempotency-key"))
                await self._answered(key.strip('"').partition(":")[0])
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone")
                await writer.drain()

    async def _answered(self, run: str) -> None:
        self.inside[run] += 1
        self.most = max(self.most, len(self.inside))
        try:
            await asyncio.sleep(self.pause)
        finally:
            self.inside[run] -= 1
            if not self.inside[run]:
                del self.inside[run]
        self.done[run] += 1


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
    """`workers` on one database; `acknowledged` are the runs a webhook call was answered with."""

    settings: Settings
    outside: Outside
    client: httpx.AsyncClient
    workers: list[Worker] = field(default_factory=list)
    acknowledged: set[UUID] = field(default_factory=set)
    environment: dict[str, str] = field(default_factory=dict)
    token: str = ""
    born: int = 0

    async def spawn(self) -> Worker:
        self.born += 1
        port, path = free_port(), self.settings.home / "logs" / f"worker-{self.born}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(CHECKOUT),
            "LINKFLOW_HOME": str(self.settings.home),
            "LINKFLOW_DATABASE_URL": str(self.settings.database_url),
            "LINKFLOW_LEASE_SECONDS": str(self.settings.lease_seconds),
            "LINKFLOW_LOG_FORMAT": "json",
            "LINKFLOW_EGRESS_ALLOW": f"127.0.0.1:{self.outside.port}",
            **self.environment,
        }
        with path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", PROGRAM, "serve", *SERVED, "--port", str(port)),
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        worker = Worker(process, port, path)
        try:
            await self._ready(worker)
        except BaseException:
            await worker.kill()
            raise
        self.workers.append(worker)
        return worker

    async def _ready(self, worker: Worker) -> None:
        async with asyncio.timeout(40):
            while True:
                assert worker.process.returncode is None, worker.log.read_text()[-3000:]
                with contextlib.suppress(httpx.HTTPError):
                    answer = await self.client.get(f"http://127.0.0.1:{worker.port}/health/ready")
                    if answer.status_code == 200:
                        return
                await asyncio.sleep(0.05)

    async def replace(self, *victims: Worker) -> None:
        """Kills them without warning, all at once, and starts as many others."""
        for worker in victims:
            self.workers.remove(worker)
            worker.signal(signal.SIGKILL)
        for worker in victims:
            await worker.process.wait()
            await self.spawn()

    async def open_endpoint(self, connection: asyncpg.Connection) -> None:
        """Waits until the release is held by Execution and its webhook has a URL."""
        async with asyncio.timeout(20):
            while not self.token:
                row = await connection.fetchrow(
                    "select e.id, e.token from webhook.endpoint e join execution.release r using (workflow)"
                )
                if row is not None:
                    box = SecretBox.from_settings(self.settings)
                    self.token = box.open(row["token"], f"webhook.endpoint/{row['id']}/token").decode()
                await asyncio.sleep(0.05)

    async def start(self) -> None:
        """One delivery, sent under the same key until some process acknowledges it."""
        key = uuid4()
        for turn in range(400):
            worker = self.workers[(key.int + turn) % len(self.workers)] if self.workers else None
            if worker is not None and (run := await self._sent(worker, str(key))) is not None:
                self.acknowledged.add(run)
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"nobody took {key}")

    async def _sent(self, worker: Worker, key: str) -> UUID | None:
        url = f"http://127.0.0.1:{worker.port}/webhook/hooks/{self.token}"
        try:
            answer = await self.client.post(url, json={"key": key}, headers={"idempotency-key": key}, timeout=3)
        except httpx.HTTPError:
            return None
        return UUID(answer.json()["executionId"]) if answer.status_code == 200 else None

    async def close(self) -> None:
        for worker in self.workers:
            if worker.process.returncode is None:
                worker.signal(signal.SIGCONT)
                await worker.kill()
