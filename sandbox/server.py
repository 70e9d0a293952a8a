"""The socket server: many requests in flight per connection, one answer each, in whatever order they finish."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import stat
import time
from pathlib import Path
from typing import Any, Final

from sandbox import limits
from sandbox.frames import WireError, depth, frame, read_frame
from sandbox.limits import Limits
from sandbox.pool import Pool
from sandbox.process import Job
from sandbox.transcript import Outcome, error

DRAIN_SECONDS: Final = 10.0
TRIM_SECONDS: Final = 1.0
log = logging.getLogger("sandbox")


class SocketTaken(RuntimeError):
    """Another server answers at this path, or something there is no socket."""


def bound(path: Path) -> socket.socket:
    """A listening socket at `path`, mode 0600. A socket file nobody answers at is replaced."""
    if len(os.fsencode(path)) > 104:
        raise SocketTaken(f"{path} is longer than a unix socket path may be (104 bytes): choose a shorter one.")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if path.exists():
        _remove_stale(path)
    mask = os.umask(0o177)
    try:
        listener.bind(os.fspath(path))
    finally:
        os.umask(mask)
    listener.setblocking(False)
    return listener


def _remove_stale(path: Path) -> None:
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise SocketTaken(f"{path} exists and is no socket: move it away.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise SocketTaken(f"Another sandbox server answers at {path}: stop it first.")


class Server:
    """Owns the pool and the connections."""

    def __init__(self, path: Path, pool: Pool) -> None:
        self._path, self._pool = path, pool
        self._stopping = asyncio.Event()
        self._jobs: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Until SIGTERM or SIGINT; then refuses new jobs, lets running ones end and leaves nothing behind."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        listener = bound(self._path)
        trimming = asyncio.create_task(self._trim())
        try:
            await self._pool.warm()
            server = await asyncio.start_unix_server(self._connected, sock=listener, backlog=128)
            log.info("ready at %s, %d workers", self._path, self._pool.size)
            await self._stopping.wait()
            server.close()
            if self._jobs:
                await asyncio.wait(self._jobs, timeout=DRAIN_SECONDS)
        finally:
            trimming.cancel()
            await self._pool.close()
            listener.close()
            self._path.unlink(missing_ok=True)
        log.info("stopped")

    async def _trim(self) -> None:
        while True:
            await asyncio.sleep(TRIM_SECONDS)
            self._pool.trim()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running: dict[str, asyncio.Task[None]] = {}
        try:
            while (said := await read_frame(reader, limits.FRAME_BYTES)) is not None:
                self._asked(said[0], said[1], running, writer)
        except WireError as fault:
            log.warning("connection dropped: %s", fault)
        finally:
            for task in running.values():
                task.cancel()
            writer.close()

    def _asked(
        self, head: dict[str, Any], body: bytes, running: dict[str, asyncio.Task[None]], writer: asyncio.StreamWriter
    ) -> None:
        name, op = head.get("id"), head.get("op")
        if not isinstance(name, str) or not 0 < len(name) <= 64:
            raise WireError("A request carries an id of 1 to 64 characters.")
        if op == "cancel":
            if name in running:
                running[name].cancel()
        elif op == "state":
            writer.write(frame({"id": name, "ok": True, "state": self._pool.state()}))
        elif op == "run" and name not in running:
            task = asyncio.create_task(self._job(name, head, body, writer))
            running[name] = task
            self._jobs.add(task)
            task.add_done_callback(lambda _: running.pop(name, None))
            task.add_done_callback(self._jobs.discard)
        else:
            raise WireError(f"{op!r} is no request, or its id is in use.")

    async def _job(self, name: str, head: dict[str, Any], body: bytes, writer: asyncio.StreamWriter) -> None:
        began = time.perf_counter()
        outcome = await self._outcome(head, body)
        took = round((time.perf_counter() - began) * 1000, 3)
        answer: dict[str, Any] = {"id": name, "ok": outcome.error is None, "took": took}
        answer |= {"lines": outcome.lines, "dropped": outcome.dropped}
        if outcome.error:
            answer["error"] = outcome.error
        writer.write(frame(answer, outcome.result))
        await writer.drain()

    async def _outcome(self, head: dict[str, Any], body: bytes) -> Outcome:
        asked = head.get("limits")
        granted = Limits.of(asked if isinstance(asked, dict) else {})
        if self._stopping.is_set():
            return Outcome(error=error("infrastructure", "sandbox.stopping", "The sandbox is shutting down."))
        if len(body) > limits.JOB_BYTES:
            message = f"The job is {len(body)} bytes of JSON; {limits.JOB_BYTES} are allowed."
            return Outcome(error=error("limit", "limit.job", message))
        if await depth(body, limits.DEPTH + 8) > limits.DEPTH + 8:
            message = f"The job's input nests deeper than {limits.DEPTH} levels."
            return Outcome(error=error("limit", "limit.job_depth", message))
        return await self._pool.run(Job(body, granted))
