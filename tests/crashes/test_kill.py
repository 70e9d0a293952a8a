"""Real processes, killed and paused without warning, while runs with effects, retries and waits are under way."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from subgraphs.engine.run import Plan, decode, encode
from subgraphs.executor.nodes import catalogue
from subgraphs.platform.database import Database
from subgraphs.platform.domain import Event, uuid7
from tests.crashes.checker import Verdict, judge
from tests.crashes.rig import Rig, receiving

VERSION = "1.0.0"


def types() -> dict[str, dict[str, Any]]:
    """What a published release says of its node types."""
    kept = ("effect", "trigger", "timeout")
    manifests = {f"{name}@{version}": node.manifest.json() for (name, version), node in catalogue().items()}
    return {key: {name: manifest[name] for name in kept if name in manifest} for key, manifest in manifests.items()}


def graph(port: int) -> dict[str, Any]:
    """A webhook, three branches (a call, a call that fails at first, a wait), a join, three calls more."""

    def call(id: str, **settings: Any) -> dict[str, Any]:
        parameters = {"method": "POST", "url": f"http://127.0.0.1:{port}/{id}", "response": "text"}
        return {"id": id, "type": "core.http", "version": VERSION, "parameters": parameters, "settings": settings}

    def plain(id: str, type: str, **parameters: Any) -> dict[str, Any]:
        return {"id": id, "type": type, "version": VERSION, "parameters": parameters}

    nodes = [
        plain("hook", "core.webhook"),
        plain("mark", "core.set", fields=[{"name": "marked", "value": "{{ item.body.key }}"}], others="drop"),
        call("first"),
        call("flaky", retry={"attempts": 100, "delay": "PT0.1S", "maxDelay": "PT0.1S"}),
        plain("pause", "core.wait", duration="PT0.4S"),
        plain("join", "core.merge"),
        call("last"),
        plain("end", "core.set", fields=[{"name": "key", "value": "{{ nodes.mark.item.marked }}"}]),
    ]
    edges = "hook>mark mark>first mark>flaky mark>pause first>join flaky>join pause>join join>last last>end"
    connections = [
        {"from": edge.split(">")[0], "output": "main", "to": edge.split(">")[1], "input": "main"}
        for edge in edges.split()
    ]
    return {"format": "linkflow/1", "nodes": nodes, "connections": connections}


EFFECTS = ("first", "flaky", "last-0", "last-1", "last-2")


@pytest.fixture
async def rig(fresh_settings: Callable[..., Any]) -> AsyncIterator[Rig]:
    settings = await fresh_settings(lease_seconds=1)
    async with receiving(0.02) as receiver, httpx.AsyncClient() as client:
        found = Rig(settings, receiver, client)
        try:
            for _ in range(2):
                await found.spawn()
            await _publish(found)
            yield found
        finally:
            await found.close()


async def _connection(rig: Rig) -> asyncpg.Connection:
    return await asyncpg.connect(rig.settings.dsn("lf_admin"))


async def _publish(rig: Rig) -> None:
    """Publishes the release as Workflow does, and waits until both who need it have it."""
    tenant, workflow = uuid7(), uuid7()
    data = {
        "workflowId": str(workflow),
        "name": "Crash",
        "release": 1,
        "definition": graph(rig.receiver.port),
        "nodeTypes": types(),
    }
    database = Database(rig.settings)
    await database.open()
    async with database.write(tenant) as transaction:
        type = "workflow.release.published.v1"
        transaction.publish(Event(type=type, subject=str(workflow), tenant=tenant, partition=0, data=data))
    await database.close()
    connection = await _connection(rig)
    await rig.open_endpoint(connection)
    await connection.close()


async def _watch(rig: Rig, count: int, ended: dict[UUID, tuple[int, int]]) -> None:
    """Notes what each run ended as when it was first seen ended, until all have."""
    connection = await _connection(rig)
    while len(ended) < count:
        rows = await connection.fetch("select id, status, version from execution.run where status >= 4")
        for row in rows:
            ended.setdefault(row["id"], (row["status"], row["version"]))
        await asyncio.sleep(0.05)
    await connection.close()


async def _verdict(rig: Rig, ended: dict[UUID, tuple[int, int]]) -> Verdict:
    connection = await _connection(rig)
    verdict = await judge(connection, rig.acknowledged, Plan.of(graph(rig.receiver.port), types()), ended)
    await connection.close()
    return verdict


def _effects(rig: Rig, verdict: Verdict) -> None:
    """Every effect arrived; one that arrived again belongs to an attempt the journal shows as recovered."""
    assert set(rig.receiver.done) == {f"{run}:{name}" for run in rig.acknowledged for name in EFFECTS}
    for key, calls in rig.receiver.calls.items():
        run, _, name = key.rpartition(":")
        again = verdict.recovered[f"{run}:{name.partition('-')[0]}"]
        assert calls <= 1 + (name == "flaky") + again, key


def _outputs(verdict: Verdict) -> None:
    """Each run ends with what its own call brought, through both joins."""
    for outputs in verdict.outputs.values():
        key = outputs["mark"][0]["marked"]
        assert outputs["join"] == [{"body": "done"}, {"body": "done"}, {"marked": key}]
        assert outputs["end"] == [{"body": "done", "key": key}] * 3
    assert len({outputs["mark"][0]["marked"] for outputs in verdict.outputs.values()}) == len(verdict.outputs)


@pytest.mark.slow
@pytest.mark.shows("EX-01", "EX-02", "EX-04", "EX-21", "WH-04")
async def test_two_hundred_runs_survive_five_kills(rig: Rig) -> None:
    """The third kill takes every process at once."""
    chance = random.Random(20261124)
    rig.receiver.pause = 0.08
    ended: dict[UUID, tuple[int, int]] = {}
    watching = asyncio.create_task(_watch(rig, 200, ended))

    async def send(count: int) -> None:
        for _ in range(count):
            await rig.start()
            await asyncio.sleep(0.1)

    senders = [asyncio.create_task(send(50)) for _ in range(4)]
    for turn in range(5):
        await asyncio.sleep(chance.uniform(0.2, 0.6))
        await rig.replace(*(rig.workers if turn == 2 else [chance.choice(rig.workers)]))
    await asyncio.gather(*senders)
    await asyncio.wait_for(watching, 90)
    verdict = await _verdict(rig, ended)
    assert (len(rig.acknowledged), verdict.runs) == (200, 200)
    assert verdict.clean, verdict
    assert verdict.statuses == {"succeeded": 200}
    assert verdict.recovered.total() > 0, "no kill hit a running body: the test proved nothing"
    _effects(rig, verdict)
    _outputs(verdict)
    extra = rig.receiver.calls.total() - 200 * (len(EFFECTS) + 1)
    print(
        f"\n200 runs, 5 kills: lost 0, doubled 0, attempts recovered {verdict.recovered.total()}, effects again {extra}"
    )


async def _seen_when_broken(rig: Rig, ended: dict[UUID, tuple[int, int]]) -> None:
    """The checker is worth trusting: it sees a lost run, a gap, a doubled step, an end undone and a stale commit."""
    for worker in rig.workers:
        await worker.kill()
    one, two, three, four, five = list(rig.acknowledged)[:5]
    connection = await _connection(rig)
    await connection.execute("delete from execution.run where id = $1", one)
    await connection.execute("update execution.journal set version = version + 1 where run = $1", two)
    await connection.execute("update execution.run set status = 5 where id = $1", three)
    await connection.execute("update execution.journal set epoch = -version where run = $1", four)
    row = await connection.fetchrow(
        "select version, data from execution.journal where run = $1 order by version desc limit 1", five
    )
    assert row is not None
    again = [*decode(bytes(row["data"])), *decode(bytes(row["data"]))]
    await connection.execute(
        "update execution.journal set data = $1 where run = $2 and version = $3", encode(again), five, row["version"]
    )
    await connection.close()
    seen = await _verdict(rig, ended)
    assert seen.lost == [str(one)]
    assert str(two) in seen.gapped
    assert str(three) in seen.undone
    assert str(four) in seen.stale
    assert str(five) in seen.doubled


@pytest.mark.slow
@pytest.mark.shows("EX-01", "EX-02")
async def test_a_paused_owner_that_wakes_late_commits_nothing(rig: Rig) -> None:
    rig.receiver.pause = 0.3
    ended: dict[UUID, tuple[int, int]] = {}
    watching = asyncio.create_task(_watch(rig, 80, ended))
    for turn in range(4):
        sleeper = rig.workers[turn % 2]
        await _owners(rig, 2)
        await asyncio.gather(*(rig.start() for _ in range(20)))
        sleeper.signal(signal.SIGSTOP)
        await _owners(rig, 1, without=sleeper.process.pid)
        sleeper.signal(signal.SIGCONT)
    await asyncio.wait_for(watching, 90)
    verdict = await _verdict(rig, ended)
    assert verdict.clean, verdict
    assert verdict.statuses == {"succeeded": 80}
    assert verdict.recovered.total() > 0, "nothing was under way at the pause: the test proved nothing"
    _effects(rig, verdict)
    assert all(worker.process.returncode is None for worker in rig.workers)
    refused = sum(worker.log.read_bytes().count(b"run_evicted") for worker in rig.workers)
    noticed = sum(worker.log.read_bytes().count(b"leases.declared_dead") for worker in rig.workers)
    assert noticed > 0, "no pause outlasted a lease: the test proved nothing"
    again = verdict.recovered.total()
    print(f"\n80 runs, 4 pauses: stale commits 0, late commits refused {refused}, attempts recovered {again}")


async def _owners(rig: Rig, count: int, without: int | None = None) -> None:
    """Until so many living workers own all partitions between them, one process not among them."""
    connection = await _connection(rig)
    async with asyncio.timeout(20):
        while True:
            rows = await connection.fetch(
                "select w.name, count(*) as parts from bus.lease l join bus.worker w on w.id = l.owner and w.alive "
                "group by w.name"
            )
            pids = {int(row["name"].rpartition(":")[2]) for row in rows}
            parts = sum(row["parts"] for row in rows)
            if len(pids) == count and without not in pids and parts == rig.settings.partitions:
                break
            await asyncio.sleep(0.05)
    await connection.close()
