"""A real sandbox server for the whole run, a canary beside it, and the adapter of Executor as the way in."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from subgraphs.executor.sandbox import Sandbox

ROOT = Path(__file__).resolve().parents[2]
SECRET = "canary-5d1f0c7e-never-inside"


@dataclass
class Canary:
    """What a guest must not reach: a file, an environment variable, a listening port."""

    file: Path
    port: int
    visits: list[str]
    secret: str = SECRET


@pytest.fixture(scope="session")
def canary(scratch: Path) -> Iterator[Canary]:
    file = scratch / "canary.txt"
    file.write_text(SECRET)
    listener = socket.create_server(("127.0.0.1", 0))
    kept = Canary(file, listener.getsockname()[1], [])

    def accept() -> None:
        while True:
            try:
                caller, address = listener.accept()
            except OSError:
                return
            kept.visits.append(str(address))
            caller.close()

    threading.Thread(target=accept, daemon=True).start()
    yield kept
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@dataclass
class Running:
    """A sandbox server process."""

    process: subprocess.Popen[str]
    socket: Path

    def workers(self) -> list[int]:
        """Process ids of its workers."""
        return children(self.process.pid)


def children(parent: int) -> list[int]:
    text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(word) for word in text.split()]


def start(path: Path, cache: Path, *words: str) -> Running:
    """Starts a server and comes back when it says that it is ready."""
    environment = os.environ | {"LINKFLOW_CANARY": SECRET, "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-m", "sandbox", "--socket", str(path), "--cache", str(cache), *words]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if " ready at " in line:
            threading.Thread(target=_drain, args=(process.stderr,), daemon=True).start()
            return Running(process, path)
    process.stderr.close()
    raise AssertionError(f"the sandbox server ended with {process.wait()}: {said}")


def _drain(log: IO[str]) -> None:
    with log:
        while log.read(4096):
            pass


def stop(running: Running) -> int:
    running.process.send_signal(signal.SIGTERM)
    return running.process.wait(30)


@pytest.fixture(scope="session")
def guest_cache(scratch: Path) -> Path:
    return scratch / "guests"


@pytest.fixture(scope="session")
def server(scratch: Path, guest_cache: Path, canary: Canary) -> Iterator[Running]:
    running = start(scratch / "box.sock", guest_cache)
    yield running
    stop(running)


@pytest.fixture
async def box(server: Running) -> AsyncIterator[Sandbox]:
    client = Sandbox(server.socket)
    yield client
    await client.close()
