"""A noisy neighbour: tenant A keeps a worker's queue full at 100 times its share, tenant B calls as it always does.

Prints how long B's runs take from the call to their first body, alone and beside A, as `name value unit` lines; and for
comparison the same with tenants ignored (the places are then those of the Executor, first come, first served). One
worker, real webhooks, fsync on. Phases alternate.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import asyncpg
import httpx

from subgraphs.platform.database import Database
from subgraphs.platform.domain import Event, uuid7
from subgraphs.platform.migrate import migrate
from subgraphs.platform.postgres import Postgres
from subgraphs.platform.security import SecretBox
from subgraphs.platform.settings import Settings
from tests.crashes.graphs import types
from tests.subgraphs.execution.limits.rig import Outside, Rig

PLACES = 16
BRANCHES = 100
FLOOD = 100 * PLACES // 2 // BRANCHES
"""Runs of A under way, of BRANCHES bodies each: bodies that want a place are 100 times A's half of the places."""
BODY = 0.5  # seconds
EVERY = 0.3  # seconds between B's calls
SECONDS = 15.0
ROUNDS = 2


@dataclass
class Arrivals(Outside):
    """When a run's first body began, and how many bodies of it have ended."""

    began: dict[str, float] = field(default_factory=dict)
    ended: Counter[str] = field(default_factory=Counter)

    async def _answered(self, run: str) -> None:
        self.began.setdefault(run, time.monotonic())
        await asyncio.sleep(self.pause)
        self.ended[run] += 1


def graph(port: int, branches: int) -> dict[str, Any]:
    url = f"http://127.0.0.1:{port}/"
    hook = {"id": "hook", "type": "core.webhook", "version": "1.0.0", "parameters": {}}
    call = {"type": "core.http", "version": "1.0.0", "parameters": {"method": "POST", "url": url, "response": "text"}}
    calls = [{"id": f"c{number}", **call, "settings": {"timeout": "PT10M"}} for number in range(branches)]
    edges = [{"from": "hook", "output": "main", "to": each["id"], "input": "main"} for each in calls]
    return {"format": "linkflow/1", "nodes": [hook, *calls], "connections": edges}


async def opened(rig: Rig, branches: int) -> str:
    """A workflow of a tenant of its own; the token of its webhook."""
    tenant, workflow = uuid7(), uuid7()
    data = {
        "workflowId": str(workflow),
        "name": "Fair",
        "release": 1,
        "definition": graph(rig.outside.port, branches),
        "nodeTypes": types(),
    }
    database = Database(rig.settings)
    await database.open()
    type = "workflow.release.published.v1"
    async with database.write(tenant) as transaction:
        transaction.publish(Event(type=type, subject=str(workflow), tenant=tenant, partition=0, data=data))
    await database.close()
    admin = await asyncpg.connect(rig.settings.dsn("lf_admin"))
    found = (
        "select e.id, e.token from webhook.endpoint e join execution.release r on r.workflow = e.workflow "
        "where e.workflow = $1"
    )
    while (row := await admin.fetchrow(found, workflow)) is None:
        await asyncio.sleep(0.1)
    await admin.close()
    return SecretBox.from_settings(rig.settings).open(row["token"], f"webhook.endpoint/{row['id']}/token").decode()


@dataclass
class Sitting:
    """One worker and both tenants."""

    rig: Rig
    outside: Arrivals
    noisy: str
    quiet: str

    async def start(self, token: str) -> str:
        url = f"http://127.0.0.1:{self.rig.workers[0].port}/webhook/hooks/{token}"
        answer = await self.rig.client.post(url, json={}, timeout=60)
        answer.raise_for_status()
        return str(UUID(answer.json()["executionId"]))

    async def flood(self) -> None:
        """Keeps FLOOD runs of A under way."""
        runs = [await self.start(self.noisy) for _ in range(FLOOD)]
        while True:
            await asyncio.sleep(0.05)
            runs = [run for run in runs if self.outside.ended[run] < BRANCHES]
            runs += [await self.start(self.noisy) for _ in range(FLOOD - len(runs))]

    async def delays(self) -> list[float]:
        """Milliseconds from each of B's calls to its first body."""
        sent: dict[str, float] = {}

        async def call() -> None:
            at = time.monotonic()
            sent[await self.start(self.quiet)] = at

        calls = []
        for _ in range(int(SECONDS / EVERY)):
            calls.append(asyncio.create_task(call()))
            await asyncio.sleep(EVERY)
        await asyncio.gather(*calls)
        while any(run not in self.outside.began for run in sent):
            await asyncio.sleep(0.05)
        return [(self.outside.began[run] - at) * 1000 for run, at in sent.items()]

    async def emptied(self) -> None:
        while self.rig.outside.talks and any(not talk.done() for talk in self.rig.outside.talks):
            busy = sum(self.outside.ended.values())
            await asyncio.sleep(2 * BODY)
            if busy == sum(self.outside.ended.values()):
                return


async def sit(settings: Settings, name: str, environment: dict[str, str]) -> None:
    outside = Arrivals(BODY)
    server = await asyncio.start_server(outside.serve, "127.0.0.1", 0)
    outside.port = server.sockets[0].getsockname()[1]
    async with server, httpx.AsyncClient(limits=httpx.Limits(max_connections=50)) as client:
        rig = Rig(settings, outside, client, environment=environment)
        try:
            await rig.spawn()
            sitting = Sitting(rig, outside, await opened(rig, BRANCHES), await opened(rig, 1))
            alone: list[float] = []
            beside: list[float] = []
            for _ in range(ROUNDS):
                alone += await sitting.delays()
                flood = asyncio.create_task(sitting.flood())
                await asyncio.sleep(1)
                beside += await sitting.delays()
                flood.cancel()
                await asyncio.gather(flood, return_exceptions=True)
                await sitting.emptied()
        finally:
            await rig.close()
            for talk in list(outside.talks):
                talk.cancel()
            await asyncio.gather(*outside.talks, return_exceptions=True)
    for word, found in (("alone", alone), ("beside", beside)):
        found.sort()
        print(f"fairness.{name}.{word}.p50 {found[len(found) // 2]:.1f} ms")
        print(f"fairness.{name}.{word}.p95 {found[len(found) * 95 // 100]:.1f} ms")
    growth = beside[len(beside) * 95 // 100] / alone[len(alone) * 95 // 100] - 1
    print(f"fairness.{name}.growth_p95 {growth * 100:.0f} %")


async def run(folder: Path, server: Postgres) -> None:
    url = server.dsn("postgres")
    settings = Settings.load({"LINKFLOW_HOME": str(folder / "home"), "LINKFLOW_DATABASE_URL": url})
    settings.prepare()
    await migrate(settings)
    places = str(PLACES)
    await sit(settings, "shared", {"LINKFLOW_WORKER_BODIES": places, "LINKFLOW_EXECUTOR_WORKERS": places})
    if "--ignored" in sys.argv:
        ignored = {"LINKFLOW_WORKER_BODIES": "100000", "LINKFLOW_EXECUTOR_WORKERS": places}
        await sit(settings, "ignored", ignored)


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="lf-bench-", dir="/tmp"))
    server = Postgres(folder / "postgres")
    try:
        with (folder / "postgres.log").open("ab") as log:
            server.start(log)
            try:
                asyncio.run(run(folder, server))
            finally:
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
