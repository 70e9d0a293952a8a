"""`linkflow dev` starts everything, heals, and leaves nothing behind, however it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from subgraphs.platform.launcher import born, end_leftovers
from subgraphs.platform.programs import absent_packages
from tests.conftest import free_port

ROOT = Path(__file__).resolve().parents[3]


class Dev:
    """A `linkflow dev --json` of a home of its own."""

    def __init__(self, home: Path, **settings: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LINKFLOW_")}
        environment = {**clean, "LINKFLOW_HOME": str(home), **settings}
        words = [sys.executable, "-m", "subgraphs.platform.cli", "dev", "--no-demo", "--json"]
        self.home, self.environment = home, environment
        self.origin = ""
        self.process = subprocess.Popen(
            words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def until(self, kind: str, **facts: Any) -> dict[str, Any]:
        """Read events until one of `kind` with these facts; fails when the output ends first."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        seen = []
        for line in self.process.stdout:
            event: dict[str, Any] = json.loads(line)
            seen.append(event)
            if event["event"] == "ready":
                self.origin = event["api"].removesuffix("/graphql")
            if event["event"] == kind and facts.items() <= event.items():
                return event
        raise AssertionError(f"no {kind} in {seen}: {self.process.stderr.read()}")

    def children(self) -> list[int]:
        """Every process below the launcher."""
        found, open_ends = [], [self.process.pid]
        while open_ends:
            pid = open_ends.pop()
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                below = [int(word) for word in task.read_text().split()]
                found += below
                open_ends += below
        return found

    def end(self, sign: signal.Signals) -> int:
        self.process.send_signal(sign)
        return self.close()

    def close(self) -> int:
        code = self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return code


@pytest.fixture
def home(scratch: Path, request: pytest.FixtureRequest) -> Path:
    return scratch / f"dev home {abs(hash(request.node.name)) % 10_000}"


@pytest.fixture
def started() -> Iterator[list[Dev]]:
    made: list[Dev] = []
    yield made
    for dev in made:
        if dev.process.poll() is None:
            dev.process.terminate()
        dev.close()


def seed(dev: Dev) -> list[dict[str, Any]]:
    """Run the example against a LinkFlow that is up, on the ports it took."""
    words = [sys.executable, "-m", "subgraphs.platform.cli", "seed", "--json"]
    environment = {**dev.environment, "LINKFLOW_PUBLIC_URL": dev.origin}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def alive(pids: list[int]) -> list[int]:
    """Those that still run: neither gone nor zombies."""
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            found.append(pid)
    return found


@pytest.mark.shows("DP-15")
@pytest.mark.timeout(240)
def test_everything_starts_heals_and_leaves_nothing(home: Path, started: list[Dev]) -> None:
    first = Dev(home)
    started.append(first)
    first.until("ready")
    assert httpx.get(f"{first.origin}/health/live", trust_env=False).status_code == 200
    key = (home / "keys" / "gateway.key").read_bytes()
    below = first.children()
    assert len(below) >= 5

    first.end(signal.SIGKILL)
    while alive(below):
        pass  # the kernel tells each of them

    second = Dev(home)
    started.append(second)
    second.until("ready")
    assert (home / "keys" / "gateway.key").read_bytes() == key
    told = seed(second)
    assert "signed up a demo tenant" in {event.get("what") for event in told}
    assert [event["detail"] for event in told if event["event"] == "live"][-1] == "succeeded"
    assert (home / "demo.txt").stat().st_mode & 0o777 == 0o600
    assert "logged in the demo tenant" in {event.get("what") for event in seed(second)}

    (served,) = [pid for pid in second.children() if b"\x00serve" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(served, signal.SIGKILL)
    second.until("part", name="serve", state="restarted")

    below = second.children()
    second.process.terminate()
    second.until("stopped")
    assert second.close() == 0
    assert not alive(below)


def test_a_port_that_was_asked_for_and_is_taken_is_refused(home: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        dev = Dev(home, LINKFLOW_PORT=str(holder.getsockname()[1]))
        assert dev.process.stderr is not None
        problem = json.loads(dev.process.stderr.read())
        assert dev.close() == 1
    assert problem["problem"] == "port_taken"
    assert f"pid {os.getpid()}" in problem["message"]


def test_a_part_that_cannot_start_is_named_with_what_it_said(home: Path, started: list[Dev]) -> None:
    program = home.parent / "broken-node"
    program.write_text("#!/bin/sh\necho 'no gateway today' >&2\nexit 3\n")
    program.chmod(0o755)
    started.append(dev := Dev(home, LINKFLOW_NODE=str(program)))
    said = dev.process.stderr.read() if dev.process.stderr else ""
    assert dev.close() == 1
    problem = json.loads(said)
    assert (problem["problem"], problem["field"]) == ("part_failed", "gateway")
    assert "no gateway today" in problem["message"]


def test_a_database_that_does_not_answer_is_named_without_a_password(home: Path) -> None:
    home.mkdir()
    words = [sys.executable, "-m", "subgraphs.platform.cli", "migrate", "--json"]
    address = f"postgresql://ann:hunter2@127.0.0.1:{free_port()}/none"
    environment = {**os.environ, "LINKFLOW_HOME": str(home), "LINKFLOW_DATABASE_URL": address}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)
    problem = json.loads(done.stderr)
    assert (done.returncode, problem["problem"]) == (1, "database_unreachable")
    assert problem["field"] == "LINKFLOW_DATABASE_URL"
    assert "hunter2" not in done.stderr


def test_a_package_that_has_gone_is_noticed(tmp_path: Path) -> None:
    modules = tmp_path / "node_modules"
    packages = ["node_modules/a", "node_modules/@b/c", "node_modules/a/node_modules/d"]
    for path in packages:
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "package.json").write_text("{}")
    (modules / ".package-lock.json").write_text(json.dumps({"packages": {key: {} for key in packages}}))
    assert absent_packages(tmp_path) == []
    shutil.rmtree(modules / "@b")
    assert absent_packages(tmp_path) == ["node_modules/@b/c"]


def test_leftovers_are_ended_only_when_they_are_provably_ours(tmp_path: Path) -> None:
    register = tmp_path / "children.json"
    ours, other = (subprocess.Popen(["sleep", "600"], start_new_session=True) for _ in range(2))
    noted = [{"pid": ours.pid, "born": born(ours.pid)}, {"pid": other.pid, "born": "1"}]
    register.write_text(json.dumps(noted))
    told = end_leftovers(register)
    assert told == [f"ended process {ours.pid} of a run that was killed"]
    assert ours.wait() == -signal.SIGKILL
    assert other.poll() is None
    other.kill()
    other.wait()
    assert not register.exists()


def test_a_broken_register_is_no_hindrance(tmp_path: Path) -> None:
    register = tmp_path / "children.json"
    register.write_text("{")
    assert end_leftovers(register) == []
