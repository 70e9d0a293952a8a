"""The server as a process: its socket, its pool, its end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from subgraphs.executor.sandbox import Sandbox
from tests.sandbox.conftest import ROOT, Running, children, start, stop
from tests.sandbox.jobs import job, jsons, serves

FOREVER = "for (;;);"


@pytest.fixture
def own(scratch: Path, guest_cache: Path, server: Running) -> Iterator[Running]:
    """A server of this test's own."""
    running = start(scratch / "own.sock", guest_cache, "--workers", "1")
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait()
    running.socket.unlink(missing_ok=True)


@pytest.fixture
async def mine(own: Running) -> AsyncIterator[Sandbox]:
    client = Sandbox(own.socket)
    yield client
    await client.close()


async def until(holds: Callable[[], bool]) -> None:
    """Waits for something another process does; the test's own timeout ends a wait in vain."""
    while not holds():
        await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def busy(box: Sandbox, worker_jobs: int = 1) -> None:
    """Waits until the burning job has a worker."""
    while (await box.state())["waiting"]:
        await asyncio.sleep(0.01)


async def test_the_socket_is_for_its_owner_only(server: Running) -> None:
    assert server.socket.stat().st_mode & 0o777 == 0o600


async def test_idle_means_one_worker(own: Running, mine: Sandbox) -> None:
    assert len(own.workers()) == 1
    assert (await mine.state())["idle"] == 1


@pytest.mark.shows("XR-05")
async def test_cancelling_kills_the_guest(own: Running, mine: Sandbox) -> None:
    (worker,) = own.workers()
    burning = asyncio.create_task(mine.run(job(FOREVER, wall=60)))
    while (await mine.state())["idle"]:
        await asyncio.sleep(0.01)
    burning.cancel()
    await until(lambda: not alive(worker))
    with pytest.raises(asyncio.CancelledError):
        await burning
    await serves(mine)


async def test_a_client_that_goes_away_takes_its_jobs_along(own: Running) -> None:
    (worker,) = own.workers()
    client = Sandbox(own.socket)
    burning = asyncio.create_task(client.run(job(FOREVER, wall=60)))
    while (await client.state())["idle"]:
        await asyncio.sleep(0.01)
    await client.close()
    await until(lambda: not alive(worker))
    answer = await burning
    assert answer.error is not None
    assert answer.error.code == "sandbox.unreachable"


async def test_a_worker_lost_to_the_system_is_our_error_and_replaced(own: Running, mine: Sandbox) -> None:
    (worker,) = own.workers()
    burning = asyncio.create_task(mine.run(job(FOREVER, wall=60)))
    while (await mine.state())["idle"]:
        await asyncio.sleep(0.01)
    os.kill(worker, signal.SIGKILL)
    answer = await burning
    assert answer.error is not None
    assert (answer.error.kind, answer.error.code, answer.error.retryable) == (
        "infrastructure",
        "sandbox.worker_lost",
        True,
    )
    await serves(mine)


async def test_a_worker_that_died_idle_is_replaced(own: Running, mine: Sandbox) -> None:
    (worker,) = own.workers()
    os.kill(worker, signal.SIGKILL)
    await until(lambda: worker not in own.workers())
    await serves(mine)
    await serves(mine)


async def test_a_spare_stands_ready_while_a_job_runs_long(own: Running, mine: Sandbox) -> None:
    burning = asyncio.create_task(mine.run(job(FOREVER, wall=5)))
    while len(own.workers()) < 2 or not (await mine.state())["idle"]:
        await asyncio.sleep(0.01)
    burning.cancel()
    await serves(mine)


async def test_workers_are_replaced_after_their_share(own: Running, mine: Sandbox) -> None:
    first = set(own.workers())
    for _ in range(66):
        await serves(mine)
    await until(lambda: not first & set(own.workers()))
    await serves(mine)


async def test_jobs_wait_their_turn_and_all_are_served(own: Running, mine: Sandbox) -> None:
    answers = await asyncio.gather(*(mine.run(job(f"return {{ n: {n} }}")) for n in range(40)))
    assert [jsons(answer)[0]["n"] for answer in answers] == list(range(40))


async def test_sigterm_lets_running_jobs_end_and_leaves_nothing(own: Running, mine: Sandbox) -> None:
    workers = own.workers()
    slow = asyncio.create_task(mine.run(job("await new Promise((go) => setTimeout(go, 400)); return { done: 1 }")))
    while (await mine.state())["idle"]:
        await asyncio.sleep(0.01)
    own.process.send_signal(signal.SIGTERM)
    assert jsons(await slow) == [{"done": 1}]
    assert await asyncio.to_thread(own.process.wait, 20) == 0
    assert not own.socket.exists()
    assert not [pid for pid in workers if alive(pid)]


async def test_workers_do_not_outlive_a_killed_server(own: Running, mine: Sandbox) -> None:
    burning = asyncio.create_task(mine.run(job(FOREVER, wall=60)))
    while (await mine.state())["idle"]:
        await asyncio.sleep(0.01)
    workers = children(own.process.pid)
    own.process.kill()
    await until(lambda: not any(alive(pid) for pid in workers))
    answer = await burning
    assert answer.error is not None
    assert answer.error.kind == "infrastructure"


async def test_the_client_connects_again_after_a_restart(
    scratch: Path, guest_cache: Path, own: Running, mine: Sandbox
) -> None:
    await serves(mine)
    own.process.kill()
    own.process.wait()
    lost = await mine.run(job("return {}"))
    assert lost.error is not None
    assert lost.error.kind == "infrastructure"
    assert own.socket.exists(), "a killed server leaves its socket, and the next one must cope"
    again = start(own.socket, guest_cache)
    await serves(mine)
    await mine.close()
    assert stop(again) == 0


@pytest.mark.parametrize("obstacle", ["server", "file", "long"])
def test_a_path_that_cannot_be_served_is_told(own: Running, scratch: Path, guest_cache: Path, obstacle: str) -> None:
    path = {"server": own.socket, "file": scratch / "plain", "long": scratch / ("x" * 120)}[obstacle]
    if obstacle == "file":
        path.write_text("mine")
    reason = {"server": "stop it first", "file": "is no socket", "long": "choose a shorter one"}[obstacle]
    with pytest.raises(AssertionError, match=rf"(?s)ended with 1.*{reason}"):
        start(path, guest_cache)
    if obstacle == "file":
        assert path.read_text() == "mine"


def test_the_island_imports_nothing_of_ours() -> None:
    ours = "[n for n in sys.modules if n.startswith(('subgraphs', 'resolvers'))]"
    code = f"import sandbox.__main__, sandbox.worker, sys; print({ours})"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_nobody_else_may_connect_by_network(server: Running) -> None:
    inodes = {os.readlink(f"/proc/{server.process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{server.process.pid}/fd")}
    listening = [
        line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"
    ]
    assert not [inode for inode in listening if f"socket:[{inode}]" in inodes]
