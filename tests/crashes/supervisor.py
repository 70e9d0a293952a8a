"""Real processes of the product, started from a zygote, known by the pids it holds; and the ledger beside them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
SERVED = ("execution", "executor", "webhook")


@dataclass
class Worker:
    """One process: where it listens and logs, and how it ended (negative: the signal)."""

    pid: int
    port: int
    log: Path
    ended: asyncio.Future[int]

    @property
    def alive(self) -> bool:
        return not self.ended.done()

    def signal(self, number: signal.Signals) -> None:
        if self.alive:
            os.kill(self.pid, number)

    async def kill(self) -> int:
        self.signal(signal.SIGKILL)
        return await asyncio.shield(self.ended)

    def lines(self) -> list[dict[str, Any]]:
        """What it logged."""
        found = []
        for line in self.log.read_bytes().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                found.append(json.loads(line))
        return found


@dataclass
class Zygote:
    """The process that forks the others."""

    process: asyncio.subprocess.Process
    ends: dict[int, asyncio.Future[int]] = field(default_factory=dict)
    born: dict[int, asyncio.Future[int]] = field(default_factory=dict)
    orders: int = 0

    async def listen(self) -> None:
        assert self.process.stdout is not None
        loop = asyncio.get_running_loop()
        while line := await self.process.stdout.readline():
            told = json.loads(line)
            if "status" in told:
                future = self.ends.setdefault(told["pid"], loop.create_future())
                future.set_result(told["status"])
            elif "id" in told:
                self.born.pop(told["id"]).set_result(told["pid"])

    async def fork(
        self, words: list[str], environment: Mapping[str, str], log: Path, port: int, faults: Mapping[str, Any] | None
    ) -> Worker:
        assert self.process.stdin is not None
        self.orders += 1
        loop = asyncio.get_running_loop()
        born = self.born[self.orders] = loop.create_future()
        order = {"id": self.orders, "words": words, "environment": dict(environment), "log": str(log)}
        self.process.stdin.write(json.dumps({**order, "faults": faults}).encode() + b"\n")
        await self.process.stdin.drain()
        pid = await asyncio.wait_for(born, 20)
        return Worker(pid, port, log, self.ends.setdefault(pid, loop.create_future()))


@asynccontextmanager
async def zygote_running() -> AsyncIterator[Zygote]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT), "PYTHONNOUSERSITE": "1"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.crashes.zygote"),
        env=environment,
        cwd=CHECKOUT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    await asyncio.wait_for(process.stdout.readline(), 60)
    zygote = Zygote(process)
    listening = asyncio.create_task(zygote.listen())
    try:
        yield zygote
    finally:
        process.stdin.close()
        await process.wait()
        await listening


@dataclass
class Ledger:
    """What the outside world was asked (`calls`) and did (`done`), by (door, key)."""

    path: Path
    port: int

    def read(self) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
        calls: Counter[tuple[str, str]] = Counter()
        done: Counter[tuple[str, str]] = Counter()
        for line in self.path.read_bytes().splitlines():
            entry = json.loads(line)
            (done if entry.get("done") else calls)[entry["door"], entry["key"]] += 1
        return calls, done

    def url(self, door: str, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{door}/{name}"


@asynccontextmanager
async def ledger_running(path: Path, pause: float) -> AsyncIterator[Ledger]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.crashes.ledger", str(path), str(pause)),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)},
        cwd=CHECKOUT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield Ledger(path, int(await asyncio.wait_for(process.stdout.readline(), 20)))
    finally:
        process.stdin.close()
        await process.wait()
