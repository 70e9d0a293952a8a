"""The database goes away in every way it can: stopped at once, unreachable, out of room, failing at random."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.crashes.checker import judge, last_calls
from tests.crashes.conftest import Rigs, sized
from tests.crashes.database import Server, server_running
from tests.crashes.recovery import percentile
from tests.crashes.rig import Rig

STORED = "select coalesce(sum(version), 0) from execution.run"


async def first_commit(rig: Rig) -> float:
    """Seconds until the database holds one committed step more."""
    began = time.monotonic()
    async with rig.connected() as connection:
        before = await connection.fetchval(STORED)
        while await connection.fetchval(STORED) == before:
            await asyncio.sleep(0.01)
    return time.monotonic() - began


async def steadily(rig: Rig, least: int, over: asyncio.Event) -> int:
    """Starts runs until it is over, however fast they go, and at least so many; how many it started."""
    sent = 0
    while sent < least or not over.is_set():
        await rig.burst("whole", 25, 8, 0.05)
        sent += 25
    return sent


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.shows("EX-01", "WH-04")
async def test_r20_immediate_stops_of_the_database_lose_nothing(rigs: Rigs, server: Server) -> None:
    runs, stops = sized(150, 5000), sized(3, 20)
    rig = await rigs(workers=2, server=server)
    over = asyncio.Event()
    sending = asyncio.create_task(steadily(rig, runs, over))
    times: list[float] = []
    for _ in range(stops):
        await asyncio.sleep(rig.chance.uniform(0.5, sized(1, 20)))
        await server.stop_at_once()
        await asyncio.sleep(rig.chance.uniform(0, 2))
        await server.start()
        times.append(await asyncio.wait_for(first_commit(rig), 30))
    over.set()
    await rig.watch(await sending, 400)
    await last_calls(rig)
    verdict = await judge(rig)
    assert not verdict.wrong
    assert all(worker.alive for worker in rig.workers)
    times.sort()
    print(
        f"\nR20: {verdict.runs} runs, {stops} immediate stops: lost 0, acknowledged writes lost 0, "
        f"first commit after the server accepts p50 {percentile(times, 50):.2f} s, max {times[-1]:.2f} s"
    )


async def probes(rig: Rig) -> tuple[Counter[str], dict[str, float]]:
    """Asks for readiness until it is false; the answers to liveness meanwhile."""
    began, seen, live = time.monotonic(), dict[str, float](), Counter[str]()
    while len(seen) < len(rig.workers) and time.monotonic() - began < 20:
        for worker in rig.workers:
            base = f"http://127.0.0.1:{worker.port}/health"
            live[str((await rig.client.get(f"{base}/live", timeout=5)).status_code)] += 1
            if (await rig.client.get(f"{base}/ready", timeout=5)).status_code == 503:
                seen.setdefault(str(worker.port), time.monotonic() - began)
        await asyncio.sleep(0.1)
    return live, seen


def _traceback(rig: Rig) -> str:
    """What the processes say of an answer without a type."""
    lines = [line for worker in rig.workers for line in worker.lines() if line.get("level") in {"error", "critical"}]
    return "\n".join(str(line.get("exception") or line)[-1500:] for line in lines[-3:])


async def refused(rig: Rig, seconds: float) -> tuple[list[float], Counter[int], set[str]]:
    """Calls while the database is away: how long each took, its status and its code."""
    took, statuses, codes = list[float](), Counter[int](), set[str]()
    until, token = time.monotonic() + seconds, rig.workflows["whole"].token

    async def caller(port: int) -> None:
        while time.monotonic() < until:
            began = time.monotonic()
            url = f"http://127.0.0.1:{port}/webhook/hooks/{token}"
            answer = await rig.client.post(url, json={"key": str(uuid4())}, timeout=15)
            took.append(time.monotonic() - began)
            statuses[answer.status_code] += 1
            assert answer.headers["content-type"].startswith("application/"), _traceback(rig)
            codes.add(str(answer.json().get("code")))
            await asyncio.sleep(0.1)

    await asyncio.gather(*(caller(worker.port) for worker in rig.workers for _ in range(2)))
    return sorted(took), statuses, codes


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.shows("EX-01", "WH-04")
async def test_r21_an_unreachable_database_is_told_and_healed(rigs: Rigs, server: Server) -> None:
    """Packets vanish, nothing is refused: the worst of absences."""
    away = sized(12, 60)
    rig = await rigs(workers=2, server=server)
    await rig.burst("whole", 20, 8)
    server.proxy.turn("blackhole")
    (live, unready), (took, statuses, codes) = await asyncio.gather(probes(rig), refused(rig, away))
    server.proxy.turn("pass")
    healed = time.monotonic()
    await asyncio.gather(*(rig.ready(worker) for worker in rig.workers))
    ready = time.monotonic() - healed
    known = set(rig.acknowledged)
    await rig.burst("whole", 20, 8)
    await rig.watch(len(known) + 20, 60)
    await last_calls(rig)
    verdict = await judge(rig)
    assert not verdict.wrong
    assert set(live) == {"200"}
    assert len(unready) == len(rig.workers)
    assert set(statuses) == {503}
    assert codes == {"not_stored"}
    print(
        f"\nR21: unreachable for {away} s: readiness false after {max(unready.values()):.1f} s, liveness always true, "
        f"{len(took)} calls refused typed, p99 {percentile(took, 99):.2f} s, max {took[-1]:.2f} s; ready again after "
        f"{ready:.1f} s; lost 0"
    )
    assert max(unready.values()) < 5, "readiness"
    assert percentile(took, 99) < 2.5, "typed refusals"


@pytest.fixture
def small_disk(scratch: Path) -> Iterator[Path | None]:
    """A file system of 160 MB; None where nobody may mount one."""
    folder = scratch / f"small-{uuid4().hex[:6]}"
    folder.mkdir(mode=0o711)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160m,mode=711", "tmpfs", str(folder)], check=False, capture_output=True
    )
    yield folder if mounted.returncode == 0 else None
    if mounted.returncode == 0:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.shows("EX-01", "WH-04")
async def test_r24_a_full_disk_refuses_typed_and_resumes_by_itself(
    rigs: Rigs, scratch: Path, small_disk: Path | None
) -> None:
    if small_disk is None:
        print(f"\nR24: not run: user {os.geteuid()} may not mount a small file system")
        pytest.skip("only root may mount a small file system")
    async with server_running(scratch, small_disk / "home" / "postgres") as server:
        rig = await rigs(workers=1, server=server)
        await rig.burst("whole", 20, 8)
        ballast = small_disk / "ballast"
        _fill(ballast)
        statuses = await _until_refused(rig)
        ballast.unlink()
        freed = time.monotonic()
        await rig.start()
        resumed = time.monotonic() - freed
        await rig.watch(len(rig.acknowledged), 90)
        await last_calls(rig)
        verdict = await judge(rig)
        assert not verdict.wrong
        print(f"\nR24: full disk: answers {dict(statuses)}, stored again {resumed:.1f} s after room came back, lost 0")
        for worker in rig.workers:
            await rig.remove(worker)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65_536)
        except OSError:
            pass


async def _until_refused(rig: Rig) -> Counter[int]:
    """Sends large calls until some are refused, typed; more acknowledged ones may slip in before."""
    statuses, (worker,) = Counter[int](), rig.workers
    url = f"http://127.0.0.1:{worker.port}/webhook/hooks/{rig.workflows['whole'].token}"
    while statuses[503] < 3:
        key = str(uuid4())
        body = {"key": key, "pad": os.urandom(60_000).hex()}
        try:
            answer = await rig.client.post(url, json=body, headers={"idempotency-key": key}, timeout=30)
        except httpx.HTTPError as error:
            raise AssertionError(f"no answer at all: {error!r}") from error
        statuses[answer.status_code] += 1
        assert answer.status_code in {200, 503}, answer.text
        if answer.status_code == 503:
            assert answer.json()["code"] == "not_stored"
        else:
            from uuid import UUID

            rig.acknowledged[UUID(answer.headers["x-linkflow-execution"])] = ("whole", key)
    return statuses


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.shows("EX-01")
@pytest.mark.parametrize("percent", [0.5, 5])
async def test_r25_storage_that_fails_at_random_loses_and_strands_nothing(rigs: Rigs, percent: float) -> None:
    """Half of the failing calls had their effect; a fifth of the failures take the connection with them."""
    runs = sized(120, 1000)
    rig = await rigs(workers=1)
    (calm,) = rig.workers
    for nth in range(2):
        await rig.spawn(faults={"rate": percent / 100, "seed": rig.chance.randrange(1 << 30), "spared": 120 + nth})
    await rig.remove(calm)
    rig.dead.clear()
    await rig.burst("whole", runs, 8)
    await rig.watch(runs, 300)
    stormy = list(rig.workers)
    await rig.spawn()
    await asyncio.gather(*(rig.remove(worker) for worker in stormy))
    await rig.watch(len(rig.acknowledged), 60)
    await last_calls(rig)
    verdict = await judge(rig)
    assert not verdict.wrong
    failures = sum(worker.log.read_bytes().count(b'"event": "storm"') for worker in stormy)
    print(f"\nR25: {percent} % of storage calls fail, {failures} did: {verdict.runs} runs, lost 0, stranded 0")
    assert failures > 0


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.shows("EX-01")
async def test_r10_a_database_that_restarts_during_recovery_strands_nothing(rigs: Rigs, server: Server) -> None:
    runs = sized(100, 250)
    rig = await rigs(workers=1, pause=0.2, server=server)
    await rig.burst("whole", runs, 25)
    (owner,) = rig.workers
    await rig.remove(owner)
    heir = await rig.spawn(ready=False)
    await asyncio.sleep(rig.chance.uniform(0.1, 0.6))
    await server.stop_at_once()
    await server.start()
    await rig.ready(heir)
    if not heir.alive:  # it was still on its way up: whoever runs it starts it again
        await rig.remove(heir)
        await rig.spawn()
    await rig.watch(runs, 60)
    await last_calls(rig)
    verdict = await judge(rig)
    assert not verdict.wrong
    print(
        f"\nR10: {runs} runs recovered over a restart of the database: stranded 0, begun again {len(verdict.recovered)}"
    )
