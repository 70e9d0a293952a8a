"""Real processes, killed and paused without warning, while runs with effects, retries and waits are under way."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest

from subgraphs.engine.run import Plan
from subgraphs.platform.domain import uuid7
from tests.crashes.checker import Verdict, judge
from tests.crashes.rig import Rig, receiving
from tests.subgraphs.execution.world import TYPES, definition

GRAPH = definition(
    "a:manual",
    "mark:set",
    "first:call",
    ("flaky:call", {}, {"retry": {"attempts": 100, "delay": "PT0.1S", "maxDelay": "PT0.1S"}}),
    ("pause:wait", {"seconds": 0.4}, {}),
    "join:set",
    "last:call",
    "end:set",
    edges="a>mark mark>first mark>flaky mark>pause first>join flaky>join pause>join join>last last>end",
)
PLAN = Plan.of(GRAPH, TYPES)
CALLS = ("first", "flaky", "last")


@pytest.fixture
async def rig(fresh_settings: Callable[..., Any]) -> AsyncIterator[Rig]:
    settings = await fresh_settings(lease_seconds=1)
    async with receiving(0.02) as receiver:
        found = Rig(settings, receiver, uuid7(), uuid7())
        await _hold(found)
        try:
            yield found
        finally:
            await found.close()


async def _connection(rig: Rig) -> asyncpg.Connection:
    return await asyncpg.connect(rig.settings.dsn("lf_admin"))


async def _hold(rig: Rig) -> None:
    connection = await _connection(rig)
    await connection.execute(
        "insert into execution.release values ($1, $2, 1, 'Crash', $3, $4)",
        rig.tenant,
        rig.workflow,
        msgspec.json.encode(GRAPH).decode(),
        msgspec.json.encode(TYPES).decode(),
    )
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
    verdict = await judge(connection, rig.acknowledged, PLAN, ended)
    await connection.close()
    return verdict


def _effects(rig: Rig, verdict: Verdict) -> None:
    """Every effect arrived; one that arrived again belongs to an attempt the journal shows as recovered."""
    wanted = {f"{run}:{node}" for run in rig.acknowledged for node in CALLS}
    assert set(rig.receiver.done) == wanted
    for key, calls in rig.receiver.calls.items():
        assert calls <= 1 + key.endswith(":flaky") + verdict.recovered[key], key


def _outputs(verdict: Verdict) -> None:
    for run, outputs in verdict.outputs.items():
        item = {"run": str(run), "mark": True}
        told = {node: f"done {node[-5:] if len(node) >= 5 else ':' + node}" for node in CALLS}
        assert outputs["join"] == [
            {**item, "first": told["first"], "join": True},
            {**item, "flaky": told["flaky"], "join": True},
            {**item, "join": True},
        ]
        assert [each["end"] for each in outputs["end"]] == [True] * 3


@pytest.mark.slow
@pytest.mark.shows("EX-01", "EX-02", "EX-21", "WH-04")
async def test_two_hundred_runs_survive_five_kills(rig: Rig) -> None:
    chance = random.Random(20261124)
    for _ in range(2):
        await rig.spawn()
    ended: dict[UUID, tuple[int, int]] = {}
    watching = asyncio.create_task(_watch(rig, 200, ended))

    async def send(count: int) -> None:
        for _ in range(count):
            await rig.start(uuid7())
            await asyncio.sleep(0.02)

    senders = [asyncio.create_task(send(50)) for _ in range(4)]
    for _ in range(5):
        await asyncio.sleep(chance.uniform(0.2, 0.6))
        await rig.replace(chance.choice(rig.workers))
    await asyncio.gather(*senders)
    await asyncio.wait_for(watching, 90)
    verdict = await _verdict(rig, ended)
    assert (len(rig.acknowledged), verdict.runs) == (200, 200)
    assert verdict.clean, verdict
    assert verdict.statuses == {"succeeded": 200}
    assert verdict.recovered.total() > 0, "no kill hit a running body: the test proved nothing"
    _effects(rig, verdict)
    _outputs(verdict)
    extra = rig.receiver.calls.total() - 200 * (len(CALLS) + 1)
    print(
        f"\n200 runs, 5 kills: lost 0, doubled 0, attempts recovered {verdict.recovered.total()}, effects again {extra}"
    )


@pytest.mark.slow
@pytest.mark.shows("EX-01", "EX-02")
async def test_a_paused_owner_that_wakes_late_commits_nothing(rig: Rig) -> None:
    rig.receiver.pause = 0.3
    await rig.spawn()
    await rig.spawn()
    ended: dict[UUID, tuple[int, int]] = {}
    watching = asyncio.create_task(_watch(rig, 80, ended))
    for turn in range(4):
        sleeper = rig.workers[turn % 2]
        await _owners(rig, 2)
        await asyncio.gather(*(rig.start(uuid7()) for _ in range(20)))
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
    assert refused > 0, "no late commit was tried: the test proved nothing"
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
