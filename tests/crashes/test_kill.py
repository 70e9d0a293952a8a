"""Real processes, killed, paused, drained and doubled without warning, while runs with effects are under way."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from uuid import UUID

import asyncpg
import pytest

from subgraphs.engine.run import decode, encode
from tests.crashes.checker import judge, last_calls
from tests.crashes.conftest import Rigs, sized
from tests.crashes.recovery import Recovery
from tests.crashes.rig import Rig
from tests.crashes.supervisor import Worker


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.shows("EX-01", "EX-02", "EX-04", "EX-21", "WH-04")
async def test_r01_killed_workers_lose_and_double_nothing(rigs: Rigs) -> None:
    """Kills at random moments; every third takes every process at once."""
    runs, kills = sized(500, 10_000), sized(10, 50)
    rig = await rigs(workers=3, pause=0.05)
    watching = asyncio.create_task(rig.watch(runs, 700))
    sending = asyncio.create_task(rig.burst("whole", runs, 24, 0.02))
    taken = Recovery(rig)
    for turn in range(kills):
        await asyncio.sleep(rig.chance.uniform(0.1, 0.5))
        victims = list(rig.workers) if turn % 3 == 2 else [rig.chance.choice(rig.workers)]
        await taken.of(victims)
    await sending
    await watching
    await last_calls(rig)
    verdict = await judge(rig)
    assert not verdict.wrong
    assert verdict.recovered.total() > 0, "no kill hit a running body: the test proved nothing"
    print(
        f"\nR01: {verdict.runs} runs, {kills} kills: lost 0, double commits 0, repeated at `idem` 0, "
        f"attempts recovered {verdict.recovered.total()}, effects again at other doors {verdict.again}; {taken.told()}"
    )
    await _seen_when_broken(rig)


async def _seen_when_broken(rig: Rig) -> None:
    """The checker is worth trusting: it sees a lost run, a gap, a doubled step, an end undone and a stale commit."""
    for worker in list(rig.workers):
        await rig.remove(worker)
    one, two, three, four, five, six = list(rig.acknowledged)[:6]
    async with rig.connected() as connection:
        await connection.execute("delete from execution.run where id = $1", one)
        await connection.execute("update execution.journal set version = version + 1000 where run = $1", two)
        await connection.execute("update execution.run set status = 5 where id = $1", three)
        await connection.execute("update execution.journal set epoch = -version where run = $1", four)
        await _double(connection, five)
        await connection.execute(
            "insert into execution.timer select tenant, id, 'x', part, now() from execution.run where id = $1", six
        )
    with rig.ledger.path.open("ab") as ledger:
        ledger.write(f'{{"door": "idem", "key": "{six}:first", "done": true}}\n'.encode())
    seen = await judge(rig, left=False)
    assert [line[:36] for line in seen.lost] == [str(one)]
    assert str(two) in seen.gapped
    assert str(three) in seen.undone
    assert str(four) in seen.stale
    assert any(line.startswith(str(five)) for line in seen.doubled)
    assert any(str(six) in line for line in seen.effects)


async def _double(connection: asyncpg.Connection, run: UUID) -> None:
    row = await connection.fetchrow(
        "select version, data from execution.journal where run = $1 order by version desc limit 1", run
    )
    assert row is not None
    again = [*decode(bytes(row["data"])), *decode(bytes(row["data"]))]
    await connection.execute(
        "update execution.journal set data = $1 where run = $2 and version = $3", encode(again), run, row["version"]
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.shows("EX-01", "EX-02", "XR-18")
async def test_r07_a_paused_owner_that_wakes_late_commits_nothing(rigs: Rigs) -> None:
    pauses, each = sized(4, 200), 20
    rig = await rigs(workers=2, pause=0.3)
    watching = asyncio.create_task(rig.watch(pauses * each, 600))
    for turn in range(pauses):
        sleeper = rig.workers[turn % 2]
        await owners(rig, 2)
        await asyncio.gather(*(rig.start() for _ in range(each)))
        rig.paused.add(sleeper.pid)
        sleeper.signal(signal.SIGSTOP)
        await owners(rig, 1, without=sleeper)
        await asyncio.sleep(rig.settings.lease_seconds)  # the pause is twice the lease, not a wait for something
        sleeper.signal(signal.SIGCONT)
        rig.paused.discard(sleeper.pid)
    await watching
    await last_calls(rig)
    verdict = await judge(rig)
    assert not verdict.wrong
    assert verdict.recovered.total() > 0, "nothing was under way at the pause: the test proved nothing"
    assert all(worker.alive for worker in rig.workers)
    noticed = sum(worker.log.read_bytes().count(b"leases.declared_dead") for worker in rig.workers)
    refused = sum(worker.log.read_bytes().count(b"run_evicted") for worker in rig.workers)
    assert noticed > 0, "no pause outlasted a lease: the test proved nothing"
    print(
        f"\nR07: {verdict.runs} runs, {pauses} pauses: stale commits accepted 0, late commits refused {refused}, "
        f"attempts recovered {verdict.recovered.total()}"
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.shows("EX-29")
async def test_r08_old_and_new_overlap_and_sigterm_drains(rigs: Rigs) -> None:
    """Every process is replaced while runs go on: the new one first, then the old one is told to go."""
    turns, runs = sized(3, 50), sized(150, 3000)
    rig = await rigs(workers=2, lease_seconds=10)  # nobody may be taken for dead because the machine is busy
    watching = asyncio.create_task(rig.watch(runs, 700))
    sending = asyncio.create_task(rig.burst("whole", runs, 8, 0.05))
    slowest = 0.0
    for _ in range(turns):
        old = rig.workers[0]
        await rig.spawn()
        await asyncio.sleep(rig.chance.uniform(0, sized(1, 5)))
        began = time.monotonic()
        assert await rig.remove(old, signal.SIGTERM) in (0, -signal.SIGTERM), old.log.read_text()[-2000:]
        assert b"Finished server process" in old.log.read_bytes(), "it went without closing"
        slowest = max(slowest, time.monotonic() - began)
    await sending
    await watching
    await last_calls(rig)
    verdict = await judge(rig)
    assert not verdict.wrong
    assert verdict.statuses == {"succeeded": verdict.runs}
    told = Counter(line.get("event") for worker in [*rig.workers, *rig.former] for line in worker.lines())
    assert verdict.again <= verdict.recovered.total(), told
    print(
        f"\nR08: {verdict.runs} runs over {turns} replacements: stranded 0, failed 0, "
        f"repeated effects {verdict.again}, attempts begun again {verdict.recovered.total()}, "
        f"slowest exit {slowest:.1f} s"
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.shows("EX-01")
async def test_r09_many_who_recover_at_once_start_no_body_twice(rigs: Rigs) -> None:
    """Runs of a dead process are taken over by four at once, which also take partitions from each other."""
    runs = sized(60, 500)
    rig = await rigs(workers=1, pause=0.3)
    await rig.burst("whole", runs, 20)
    (owner,) = rig.workers
    await rig.remove(owner)
    calls, _ = rig.ledger.read()
    await asyncio.gather(*(rig.spawn() for _ in range(4)))
    await rig.watch(runs, 120)
    await last_calls(rig)
    verdict = await judge(rig)
    assert not verdict.wrong
    most = max(verdict.recovered.values(), default=0)
    print(
        f"\nR09: {runs} runs taken over by 4 at once: {verdict.recovered.total()} attempts begun again, "
        f"none more often than {most} times, calls before the kill {calls.total()}"
    )
    assert verdict.recovered.total() > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.shows("EX-01")
async def test_r11_recovery_changes_no_run_that_has_ended(rigs: Rigs) -> None:
    runs = sized(200, 1000)
    rig = await rigs(workers=2, pause=0.0)
    await rig.burst("whole", runs, 24)
    await rig.watch(runs, 120)
    async with rig.connected() as connection:
        before = await connection.fetch("select * from execution.run order by id")
        await rig.replace(*rig.workers)
        await owners(rig, 2)
        await last_calls(rig)
        after = await connection.fetch(
            "select * from execution.run where id = any($1) order by id", [row["id"] for row in before]
        )
    assert before == after
    verdict = await judge(rig)
    assert not verdict.wrong
    print(f"\nR11: {len(before)} finished runs, all processes restarted: changed 0")


async def owners(rig: Rig, count: int, without: Worker | None = None) -> None:
    """Until so many living workers own all partitions between them, one process not among them."""
    async with rig.connected() as connection, asyncio.timeout(40):
        while True:
            rows = await connection.fetch(
                "select w.name, count(*) as parts from bus.lease l join bus.worker w on w.id = l.owner and w.alive "
                "group by w.name"
            )
            pids = {int(row["name"].rpartition(":")[2]) for row in rows}
            parts = sum(row["parts"] for row in rows)
            if len(pids) == count and (without is None or without.pid not in pids) and parts == rig.settings.partitions:
                return
            await asyncio.sleep(0.05)
