"""The pool: as few warm workers as idleness allows, one spare as soon as a running job looks like ending in a kill."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

from sandbox import limits
from sandbox.process import Job, StartFailed, WorkerProcess
from sandbox.transcript import Outcome, error

log = logging.getLogger("sandbox")
SUSPICIOUS: Final = 0.15
"""Seconds after which a running job makes the pool start a spare: most jobs take milliseconds."""
RETIRING: Final = 8
"""Jobs before a worker's last at which its successor is started."""
IDLE_SECONDS: Final = 30.0
WORN_IDLE_SECONDS: Final = 1.0


class Pool:
    """Runs at most `size` jobs at once, each in a worker that nobody else uses meanwhile."""

    def __init__(self, built: Path, size: int) -> None:
        self.size, self._built = size, built
        self._workers: set[WorkerProcess] = set()
        self._idle: deque[WorkerProcess] = deque()
        self._held: set[WorkerProcess] = set()
        self._waiting: deque[asyncio.Future[WorkerProcess]] = deque()
        self._starting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.served = self.killed = 0

    def state(self) -> dict[str, int]:
        return {
            "workers": len(self._workers), "idle": len(self._idle), "starting": self._starting,
            "waiting": len(self._waiting), "served": self.served, "killed": self.killed, "size": self.size,
        }  # fmt: skip

    async def warm(self) -> None:
        """Starts the first worker; raises StartFailed."""
        await self._launch()

    async def run(self, job: Job) -> Outcome:
        """One job. Never raises for what the job does; waits for a free worker at most `QUEUE_WAIT` seconds."""
        try:
            worker = await self._take()
        except StartFailed:
            message = "No sandbox worker starts; the sandbox's log says why."
            return Outcome(error=error("infrastructure", "sandbox.start_failed", message))
        except TimeoutError:
            message = f"All {self.size} sandbox workers were busy for {limits.QUEUE_WAIT:g} s."
            return Outcome(error=error("infrastructure", "sandbox.busy", message))
        suspicion = asyncio.get_running_loop().call_later(SUSPICIOUS, self._balance)
        try:
            return await worker.run(job)
        finally:
            suspicion.cancel()
            self.served += 1
            self._spawn(self._release(worker))

    async def close(self) -> None:
        """Kills every worker and waits for their ends."""
        self._closed = True
        for worker in self._workers:
            worker.kill("closing")
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def trim(self) -> None:
        """Lets idle workers go: those that have served their share, and down to one those that nobody needs."""
        now = asyncio.get_running_loop().time()
        for worker in list(self._idle):
            if worker.jobs >= limits.JOBS_PER_WORKER and now - worker.idle_since > WORN_IDLE_SECONDS:
                self._idle.remove(worker)
                worker.dismiss()
        while len(self._workers) > 1 and self._idle and now - self._idle[0].idle_since > IDLE_SECONDS:
            self._idle.popleft().dismiss()

    async def _take(self) -> WorkerProcess:
        waiting: asyncio.Future[WorkerProcess] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._move()
        try:
            async with asyncio.timeout(limits.QUEUE_WAIT):
                return await waiting
        except BaseException:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                self._held.discard(waiting.result())
                self._offer(waiting.result())
            raise

    def _offer(self, worker: WorkerProcess) -> None:
        """A worker is free: it idles until a job takes it."""
        if worker.healthy and not self._closed:
            self._idle.append(worker)
        self._move()

    def _move(self) -> None:
        """Hands idle workers to whoever has waited longest, then starts what is missing."""
        while self._waiting and self._idle and len(self._held) < self.size:
            if not self._idle[-1].alive():
                self._idle.pop()
                continue
            waiting = self._waiting.popleft()
            if not waiting.done():
                worker = self._idle.pop()
                self._held.add(worker)
                waiting.set_result(worker)
        self._balance()

    async def _release(self, worker: WorkerProcess) -> None:
        await worker.settle()
        if worker.jobs >= limits.JOBS_PER_WORKER_BUSY or not worker.healthy:
            worker.dismiss()
        self._held.discard(worker)
        self._offer(worker)

    def _balance(self) -> None:
        """Starts what is missing: a worker per running or waiting job up to `size`, and a spare where one will die."""
        if self._closed:
            return
        now = asyncio.get_running_loop().time()
        alive = [worker for worker in self._workers if worker.healthy]
        held = sum(worker.healthy for worker in self._held)
        wanted = max(1, min(self.size, held + len(self._waiting)))
        if any(self._ending(worker, now) for worker in alive):
            wanted += 1
        for _ in range(wanted - len(alive) - self._starting):
            self._spawn(self._launch_quietly())

    def _ending(self, worker: WorkerProcess, now: float) -> bool:
        slow = worker.busy_since is not None and now - worker.busy_since >= SUSPICIOUS * 0.9
        return slow or worker.jobs >= limits.JOBS_PER_WORKER_BUSY - RETIRING

    async def _launch(self) -> None:
        self._starting += 1
        worker = WorkerProcess()
        try:
            await worker.start(self._built)
        finally:
            self._starting -= 1
        self._workers.add(worker)
        self._spawn(self._bury(worker))
        if self._closed:
            worker.kill("closing")
        self._offer(worker)

    async def _launch_quietly(self) -> None:
        try:
            await self._launch()
        except (StartFailed, OSError) as fault:
            log.error("%s", fault)
            failed = StartFailed(str(fault))
            if not self._workers:
                for waiting in self._waiting:
                    if not waiting.done():
                        waiting.set_exception(failed)
                self._waiting.clear()

    async def _bury(self, worker: WorkerProcess) -> None:
        await asyncio.shield(worker.gone)
        self._workers.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if worker.killed:
            self.killed += 1
        worker.close()
        self._move()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
