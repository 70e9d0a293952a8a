"""Prints what the sandbox costs on this machine: `python -m tests.sandbox.figures`. Asserts nothing."""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

from subgraphs.executor.sandbox import Sandbox
from tests.sandbox.conftest import Running, start, stop
from tests.sandbox.jobs import job

CODE = "return items.filter((i) => i.n % 2 === 0).map((i) => ({ ...i, name: i.name.toUpperCase() }))"
ITEMS = [{"n": n, "name": f"item {n}", "pad": "x" * 20} for n in range(20)]
TICK = os.sysconf("SC_CLK_TCK")


def pss(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def cpu(running: Running) -> float:
    """Milliseconds of processor time of the server, its workers, and the workers that have gone."""
    total = 0
    for pid, fields in ((running.process.pid, 4), *((worker, 2) for worker in running.workers())):
        words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += sum(int(word) for word in words[11 : 11 + fields])
    return total / TICK * 1000


def spread(name: str, milliseconds: list[float]) -> None:
    found = sorted(milliseconds)
    middle, late = statistics.median(found), found[int(len(found) * 0.95)]
    print(f"{name}: min {found[0]:.2f}  p50 {middle:.2f}  p95 {late:.2f}  max {found[-1]:.2f} ms  (n={len(found)})")


async def timed(box: Sandbox) -> float:
    began = time.perf_counter()
    answer = await box.run(job(CODE, ITEMS))
    assert answer.error is None, answer.error
    return (time.perf_counter() - began) * 1000


async def latency(running: Running, box: Sandbox) -> None:
    for gap in (0.02, 0.0):
        taken = []
        for _ in range(200):
            await asyncio.sleep(gap)
            taken.append(await timed(box))
        spread(f"one run through the socket, {gap * 1000:g} ms apart", taken)
    before = cpu(running)
    for _ in range(200):
        await timed(box)
    print(f"CPU per run: {(cpu(running) - before) / 200:.2f} ms, server and workers and their replacement included")


async def throughput(box: Sandbox) -> None:
    gate = asyncio.Semaphore(8)

    async def one() -> None:
        async with gate:
            await timed(box)

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(1000)))
    print(f"8 in flight, 2 workers: {1000 / (time.perf_counter() - began):.0f} runs/s, replacing workers included")


async def kills(box: Sandbox) -> None:
    late, after, lag = [], [], []
    for _ in range(15):
        began = time.perf_counter()
        burning = asyncio.create_task(box.run(job("for (;;);", wall=0.5)))
        while not burning.done():
            asked = time.perf_counter()
            await box.state()
            lag.append((time.perf_counter() - asked) * 1000)
            await asyncio.sleep(0.005)
        late.append((time.perf_counter() - began - 0.5) * 1000)
        after.append(await timed(box))
    spread("kill of an endless loop, past its deadline", late)
    spread("next good run after a kill", after)
    spread("server answers `state` while a loop burns", lag)


async def measured(running: Running) -> None:
    box = Sandbox(running.socket)
    sizes = {pid: pss(pid) for pid in [running.process.pid, *running.workers()]}
    print(f"idle PSS: {sum(sizes.values()):.1f} MB = " + " + ".join(f"{size:.1f}" for size in sizes.values()))
    await timed(box)
    await latency(running, box)
    await throughput(box)
    await kills(box)
    print(f"load average {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores")
    await box.close()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="lf-") as folder:
        path, cache = Path(folder) / "s.sock", Path(folder) / "guests"
        began = time.perf_counter()
        stop(start(path, cache))
        cold = time.perf_counter() - began
        began = time.perf_counter()
        running = start(path, cache)
        try:
            print(f"start to ready: compiling {cold:.2f} s, compiled {time.perf_counter() - began:.2f} s")
            asyncio.run(measured(running))
        finally:
            stop(running)


if __name__ == "__main__":
    main()
