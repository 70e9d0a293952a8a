"""The crash rig: processes on one database, workflows published to them, calls that start runs, and the record of what
was acknowledged. What must hold afterwards is the checker's (checker.py)."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx

from subgraphs.engine.run import Plan
from subgraphs.platform.database import Database
from subgraphs.platform.domain import Event, uuid7
from subgraphs.platform.security import SecretBox
from subgraphs.platform.settings import Settings
from tests.conftest import free_port
from tests.crashes.graphs import Definition, types
from tests.crashes.supervisor import CHECKOUT, SERVED, Ledger, Worker, Zygote


@dataclass(frozen=True)
class Workflow:
    """A release that the processes hold, the token of its webhook, and how it is run."""

    id: UUID
    token: str
    plan: Plan


@dataclass
class Rig:
    """`workers` on one database. `acknowledged`: run -> (workflow, key) of calls that were answered with 2xx;
    `asked`: every key that was ever sent, by workflow. `ended`: what each run was first seen to have ended as."""

    settings: Settings
    zygote: Zygote
    ledger: Ledger
    client: httpx.AsyncClient
    chance: random.Random
    refusal: str = ""
    """Why the last call was not answered with 2xx."""
    workers: list[Worker] = field(default_factory=list)
    former: list[Worker] = field(default_factory=list)
    workflows: dict[str, Workflow] = field(default_factory=dict)
    acknowledged: dict[UUID, tuple[str, str]] = field(default_factory=dict)
    replies: dict[UUID, Any] = field(default_factory=dict)
    ended: dict[UUID, tuple[int, int]] = field(default_factory=dict)
    dead: list[str] = field(default_factory=list)
    """Liveness checks that failed in a process that was not killed or paused."""
    paused: set[int] = field(default_factory=set)
    environment: dict[str, str] = field(default_factory=dict)
    direct: str = ""
    """How to reach the database past a proxy."""

    # -- processes

    async def spawn(
        self,
        crash_at: str = "",
        *,
        faults: Mapping[str, Any] | None = None,
        ready: bool = True,
        words: Sequence[str] = (),
    ) -> Worker:
        port = free_port()
        path = self.settings.home / "logs" / f"worker-{len(self.workers) + len(self.former) + 1}.log"
        environment = {
            "PYTHONPATH": str(CHECKOUT),
            "LINKFLOW_HOME": str(self.settings.home),
            "LINKFLOW_DATABASE_URL": str(self.settings.database_url),
            "LINKFLOW_LEASE_SECONDS": str(self.settings.lease_seconds),
            "LINKFLOW_LOG_FORMAT": "json",
            "LINKFLOW_EGRESS_ALLOW": f"127.0.0.1:{self.ledger.port}",
            **({"LINKFLOW_SANDBOX": str(self.settings.sandbox)} if self.settings.sandbox else {}),
            **({"LINKFLOW_CRASH_AT": crash_at, "LINKFLOW_FAULTS": "true"} if crash_at else {}),
            **self.environment,
        }
        order = [*(words or ("serve", *SERVED)), "--port", str(port)]
        worker = await self.zygote.fork(order, environment, path, port, faults)
        self.workers.append(worker)
        if ready:
            await self.ready(worker)
        return worker

    async def ready(self, worker: Worker) -> None:
        """Until it says that it is ready, or died."""
        async with asyncio.timeout(40):
            while worker.alive:
                with contextlib.suppress(httpx.HTTPError):
                    answer = await self.client.get(f"http://127.0.0.1:{worker.port}/health/ready", timeout=5)
                    if answer.status_code == 200:
                        return
                await asyncio.sleep(0.02)

    async def remove(self, worker: Worker, number: signal.Signals = signal.SIGKILL) -> int:
        """Signals it; its exit code once it is gone."""
        if worker in self.workers:
            self.workers.remove(worker)
            self.former.append(worker)
        worker.signal(number)
        return await asyncio.shield(worker.ended)

    async def replace(self, *victims: Worker) -> None:
        """Kills them without warning, all at once, and starts as many others."""
        await asyncio.gather(*(self.remove(worker) for worker in victims))
        await asyncio.gather(*(self.spawn() for _ in victims))

    async def close(self) -> None:
        for worker in [*self.workers, *self.former]:
            worker.signal(signal.SIGCONT)
            await worker.kill()

    # -- the database, past all faults

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self.direct or self.settings.dsn("lf_admin"))
        try:
            yield connection
        finally:
            await connection.close()

    async def publish(self, **definitions: Definition) -> None:
        """Publishes releases as Workflow does, and waits until those who need them have them."""
        tenant, ids = uuid7(), {name: uuid7() for name in definitions}
        database = Database(self.settings)
        await database.open()
        async with database.write(tenant) as transaction:
            for name, definition in definitions.items():
                data = {"workflowId": str(ids[name]), "name": name, "release": 1, "definition": definition}
                transaction.publish(
                    Event(
                        type="workflow.release.published.v1",
                        subject=str(ids[name]),
                        tenant=tenant,
                        partition=0,
                        data={**data, "nodeTypes": types()},
                    )
                )
        await database.close()
        async with self.connected() as connection:
            for name, id in ids.items():
                token = await self._token(connection, id)
                self.workflows[name] = Workflow(id, token, Plan.of(definitions[name], types()))

    async def _token(self, connection: asyncpg.Connection, workflow: UUID) -> str:
        """Waits until the release is held by Execution and its webhook has a URL."""
        query = (
            "select e.id, e.token from webhook.endpoint e join execution.release r using (workflow) where workflow = $1"
        )
        async with asyncio.timeout(30):
            while (row := await connection.fetchrow(query, workflow)) is None:
                await asyncio.sleep(0.02)
        box = SecretBox.from_settings(self.settings)
        return box.open(row["token"], f"webhook.endpoint/{row['id']}/token").decode()

    # -- calls

    async def start(self, workflow: str = "whole", pad: int = 0) -> UUID:
        """One delivery, sent under the same key until some process acknowledges it; the run."""
        key = str(uuid4())
        for turn in range(600):
            workers = [worker for worker in self.workers if worker.alive and worker.pid not in self.paused]
            if workers:
                run = await self.sent(workers[turn % len(workers)], workflow, key, pad=pad)
                if run is not None:
                    return run
            await asyncio.sleep(0.05)
        raise AssertionError(f"nobody took {key}")

    async def sent(self, worker: Worker, workflow: str, key: str, patience: float = 5, pad: int = 0) -> UUID | None:
        """One attempt; None unless it was answered with 2xx."""
        url = f"http://127.0.0.1:{worker.port}/webhook/hooks/{self.workflows[workflow].token}"
        try:
            body = {"key": key, **({"pad": "x" * pad} if pad else {})}
            answer = await self.client.post(url, json=body, headers={"idempotency-key": key}, timeout=patience)
        except httpx.HTTPError as error:
            self.refusal = repr(error)
            return None
        if not answer.is_success:
            self.refusal = f"{answer.status_code} {answer.text[:500]}"
            return None
        run = UUID(answer.headers["x-linkflow-execution"])
        self.acknowledged[run] = (workflow, key)
        if answer.status_code == 201:
            self.replies[run] = answer.json()
        return run

    async def burst(self, workflow: str, count: int, width: int = 8, pause: float = 0.0) -> None:
        """So many starts, `width` at a time."""
        left = count

        async def send() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await self.start(workflow)
                await asyncio.sleep(pause)

        await asyncio.gather(*(send() for _ in range(width)))

    # -- the record

    async def watch(self, count: int, patience: float = 90) -> None:
        """Notes what each run ended as when it was first seen ended, until so many have; I7 is its time limit."""
        async with self.connected() as connection, asyncio.timeout(patience):
            while len(self.ended) < count:
                await self._look(connection)
                await asyncio.sleep(0.05)

    async def _look(self, connection: asyncpg.Connection) -> None:
        for row in await connection.fetch("select id, status, version from execution.run where status >= 4"):
            self.ended.setdefault(row["id"], (row["status"], row["version"]))

    async def live(self) -> None:
        """I12: asks every living process whether it is live, for as long as it runs."""
        while True:
            for worker in list(self.workers):
                if worker.alive and worker.pid not in self.paused:
                    await self._live(worker)
            await asyncio.sleep(0.25)

    async def _live(self, worker: Worker) -> None:
        began = time.monotonic()
        try:
            answer = await self.client.get(f"http://127.0.0.1:{worker.port}/health/live", timeout=5)
            told = "" if answer.status_code == 200 else str(answer.status_code)
        except httpx.ConnectError:
            return  # it does not listen yet, or no more
        except httpx.HTTPError as error:
            told = f"{error!r} after {time.monotonic() - began:.1f} s"
        if told:
            await asyncio.wait([worker.ended], timeout=1)  # its end may not have been told yet
        if told and worker.alive and worker in self.workers and worker.pid not in self.paused:
            self.dead.append(f"{worker.pid}: {told}")
