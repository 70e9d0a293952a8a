"""One worker process seen from the server: started, given one job at a time, killed at the deadline."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sandbox import limits
from sandbox.frames import WireError, depth, frame, read_frame
from sandbox.limits import Limits
from sandbox.transcript import Outcome, Transcript, error

ROOT: Final = Path(__file__).resolve().parent.parent
START_SECONDS: Final = 30.0
REFILL_SECONDS: Final = 5.0
BOOT: Final = "import sys; sys.path.insert(0, sys.argv[1]); from sandbox.worker import main; main(*sys.argv[2:])"
ENVIRONMENT: Final = {"RUST_MIN_STACK": "262144", "RUST_BACKTRACE": "0", "MALLOC_ARENA_MAX": "2", "LC_ALL": "C.UTF-8"}
EXHAUSTED: Final = frozenset({-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL, -signal.SIGTRAP})


@dataclass(frozen=True, slots=True)
class Job:
    """One job as it goes to the guest: `body` is the job's JSON, passed on unread."""

    body: bytes
    granted: Limits


class StartFailed(RuntimeError):
    """A worker did not come up; the message carries the end of what it wrote."""


class WorkerProcess:
    """States: starting, idle, busy, gone. Whoever holds it calls `run` once at a time."""

    def __init__(self) -> None:
        self.jobs = 0
        self.busy_since: float | None = None
        self.idle_since = 0.0
        self.healthy = True
        self.gone: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._doomed: str | None = None

    async def start(self, built: Path) -> None:
        """Comes back when the worker is warm and locked. Raises StartFailed."""
        ours, theirs = socket.socketpair()
        self._log = os.memfd_create("sandbox-worker-log")
        with tempfile.TemporaryDirectory(prefix="sandbox-") as nowhere, theirs:
            self._process = subprocess.Popen(  # noqa: ASYNC220  it returns at exec, and pidfd does the waiting
                [sys.executable, "-I", "-B", "-c", BOOT, str(ROOT), str(built), str(os.getpid()), str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._log,
                env=ENVIRONMENT, cwd=nowhere, start_new_session=True, pass_fds=(theirs.fileno(),),
            )  # fmt: skip
        self._watch()
        self._reader, self._writer = await asyncio.open_connection(sock=ours)
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._until_ready()
        except (TimeoutError, EOFError, WireError) as fault:
            self.kill("start")
            await self.gone
            raise StartFailed(f"A sandbox worker did not start: {self._last_words()}") from fault

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        """Whether the process still runs, asked of the system: its end may not have been noticed yet."""
        self.healthy = self.healthy and self._process.poll() is None
        return self.healthy

    @property
    def killed(self) -> bool:
        return self._doomed is not None

    async def run(self, job: Job) -> Outcome:
        """One job to its end, its deadline or its cancellation. Afterwards call `settle`."""
        loop = asyncio.get_running_loop()
        self.jobs += 1
        self.busy_since = loop.time()
        mark = secrets.token_hex(12).encode()
        grant = {"nonce": mark.decode(), "logBytes": limits.LOG_BYTES, "logLines": limits.LOG_LINES}
        lines = json.dumps(grant).encode() + b"\n" + job.body.replace(b"\n", b" ") + b"\n"
        transcript = Transcript(mark, job.granted)
        deadline = loop.call_later(job.granted.wall, self.kill, "timeout")
        try:
            self._writer.write(frame({"op": "job", "cpu": job.granted.wall}, lines))
            await self._hear(transcript)
            return await self._judged(transcript, job.granted)
        except asyncio.CancelledError:
            self.kill("cancelled")
            raise
        finally:
            deadline.cancel()

    async def settle(self) -> None:
        """After a job: waits for the guest's end and the next warm instance; a worker that lingers is killed."""
        try:
            async with asyncio.timeout(REFILL_SECONDS):
                await self._until_ready()
        except (TimeoutError, EOFError, WireError):
            self.kill("lingering")
        self.busy_since = None
        self.idle_since = asyncio.get_running_loop().time()

    def kill(self, why: str) -> None:
        if not self.gone.done():
            self._doomed = self._doomed or why
            self.healthy = False
            self._process.kill()

    def dismiss(self) -> None:
        """Lets an idle worker leave by itself: it does when its channel closes."""
        self.healthy = False
        self._writer.close()

    async def _hear(self, transcript: Transcript) -> None:
        while not transcript.finished:
            said = await self._next()
            if said is None:
                transcript.fail(self._death(await self.gone))
            elif said[0].get("op") == "out":
                transcript.hear(said[1])
            elif said[0].get("op") == "end":
                self._closing(said[0])
                transcript.fail(_silent(str(said[0].get("ending"))))
        if transcript.outcome.error and transcript.outcome.error["code"] == "limit.output":
            self.kill("output")

    async def _judged(self, transcript: Transcript, granted: Limits) -> Outcome:
        outcome = transcript.outcome
        if outcome.error is None and await depth(outcome.result, limits.DEPTH + 2) > limits.DEPTH + 2:
            outcome.result = b""
            outcome.error = error("limit", "limit.depth", f"The result nests deeper than {limits.DEPTH} levels.")
        if outcome.error and outcome.error["kind"] == "timeout":
            outcome.error["message"] = f"The code was stopped after {granted.wall:g} s."
        return outcome

    async def _next(self) -> tuple[dict[str, object], bytes] | None:
        try:
            return await read_frame(self._reader, limits.FRAME_BYTES)
        except WireError:
            self.kill("wire")
            return None

    async def _until_ready(self) -> None:
        while True:
            said = await read_frame(self._reader, limits.FRAME_BYTES)
            if said is None:
                raise EOFError
            if said[0].get("op") == "end":
                self._closing(said[0])
            if said[0].get("op") == "ready":
                return

    def _closing(self, head: dict[str, object]) -> None:
        if head.get("ending") not in {"exit", "reject"}:
            self.healthy = False

    def _death(self, code: int) -> dict[str, object]:
        """Why the worker is gone, in the job's terms."""
        if self._doomed == "timeout" or code == -signal.SIGXCPU:
            return error("timeout", "timeout.wall", "The code ran out of time.")
        if self._doomed is None and code in EXHAUSTED:
            return error("limit", "limit.memory", "The code used up the memory of its sandbox.")
        why = self._doomed or f"exit code {code}"
        return error("infrastructure", "sandbox.worker_lost", f"The sandbox worker ended while the code ran ({why}).")

    def _watch(self) -> None:
        loop, pidfd = asyncio.get_running_loop(), os.pidfd_open(self._process.pid)

        def ended() -> None:
            loop.remove_reader(pidfd)
            os.close(pidfd)
            self.healthy = False
            self.gone.set_result(self._process.wait())

        loop.add_reader(pidfd, ended)

    def _last_words(self) -> str:
        size = os.fstat(self._log).st_size
        return os.pread(self._log, 2000, max(0, size - 2000)).decode("utf-8", "replace").strip() or "it said nothing"

    def close(self) -> None:
        """Frees what the server holds of a worker that is gone."""
        self._writer.close()
        os.close(self._log)


def _silent(ending: str) -> dict[str, object]:
    if ending == "trap":
        return error("limit", "limit.trap", "The code exhausted its stack or memory and its instance was stopped.")
    if ending == "reject":
        message = "A promise was rejected and nobody handled it: await it or add a catch before the next timer."
        return error("user", "code.unhandled_rejection", message)
    return error("user", "code.exited", "The code ended its own instance before it returned.")
