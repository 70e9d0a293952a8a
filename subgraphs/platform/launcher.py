"""`linkflow dev`: starts every part as a child, waits until each answers, keeps them up, stops them in reverse.

Order: gateway packages -> database -> migrations -> subgraphs; sandbox, gateway and edge start beside them. No child
outlives the launcher, however it ends: the kernel tells them, and the next run ends what a killed one left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from subgraphs.platform import ports, probes, programs
from subgraphs.platform.domain import Conflict, Invalid, Problem
from subgraphs.platform.postgres import Postgres
from subgraphs.platform.processes import spawn, stop
from subgraphs.platform.settings import CHECKOUT, Settings

EDGE_GOGC = "400"  # the edge's heap is small: collecting it four times less often costs some MB
READY_SECONDS = 60.0
LOG_BYTES = 10_000_000  # a log that is larger is set aside when its part starts
RESTARTS = 5  # of one part within RESTART_WINDOW before the launcher gives up
RESTART_WINDOW = 60.0
PORT_NAMES = {"serve_port": "LINKFLOW_SERVE_PORT", "gateway_port": "LINKFLOW_GATEWAY_PORT", "port": "LINKFLOW_PORT"}

Say = Callable[[str, Mapping[str, object]], None]


class PartFailed(Invalid):
    """A part did not start or does not stay up."""


class Running(Conflict):
    """LinkFlow already runs on this home."""


@dataclass
class Part:
    """One child: how it is started, how it is asked whether it is ready, how it is stopped."""

    name: str
    words: Sequence[str]
    ready: Callable[[], Awaitable[bool]]
    environment: Mapping[str, str]
    patience: float = 3.0
    url: str | None = None  # asked once more when it does not become ready: the answer says why
    process: subprocess.Popen[bytes] | None = None
    started: list[float] = field(default_factory=list)


class Launcher:
    """Runs all parts on one home. `run` returns when told to stop; raises a Problem when a part cannot be had."""

    def __init__(self, settings: Settings, *, fixed: frozenset[str], say: Say) -> None:
        self.fixed = fixed  # the LINKFLOW_* variables that were set: such ports are not moved
        self.say = say
        self.settings = settings
        self.stopping = asyncio.Event()
        self.parts: list[Part] = []
        self.postgres: Postgres | None = None
        self._lock: IO[str] | None = None
        self._logs: dict[str, IO[bytes]] = {}
        self._began: dict[str, int] = {}  # where in its log a part's output of this run begins

    async def run(self, then: Callable[[Settings], Sequence[str] | None] | None = None) -> None:
        """Start everything, run the command `then` gives (its output is ours), stay up until stopped."""
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(sign, self._stop_asked)
        began = time.monotonic()
        try:
            self._claim_home()
            starting = asyncio.ensure_future(self._start())
            if not await self._unless_stopped(starting):
                return
            self.say("ready", {"seconds": round(time.monotonic() - began, 1), **self.addresses()})
            if then is not None and (words := then(self.settings)) is not None:
                await self._foreground(words)
            await self._keep_up()
        finally:
            await self._stop_all()

    def addresses(self) -> dict[str, object]:
        origin = self.settings.public_url
        return {"api": f"{origin}/graphql", "graphiql": f"{origin}/graphiql", "hooks": f"{origin}/hooks/"}

    # -- before anything starts

    def _claim_home(self) -> None:
        self.settings.prepare()
        path = self.settings.home / "run" / "launcher.lock"
        lock = path.open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            told = lock.read().strip() or "another process"
            lock.close()
            raise Running(
                f"LinkFlow already runs on {self.settings.home} ({told}).",
                code="already_running",
                next_step="Use it, or stop it, or give this one a LINKFLOW_HOME of its own.",
            ) from None
        lock.truncate(0)
        lock.write(f"pid {os.getpid()}")
        lock.flush()
        self._lock = lock
        for told in end_leftovers(self._register):
            self.say("healed", {"what": told})
        self._choose_ports()

    @property
    def _register(self) -> Path:
        return self.settings.home / "run" / "children.json"

    def _choose_ports(self) -> None:
        chosen: dict[str, int] = {}
        for name, variable in PORT_NAMES.items():
            wanted = getattr(self.settings, name)
            port = ports.choose(variable, wanted, fixed=variable in self.fixed, taken=chosen.values())
            if port != wanted:
                self.say("port", {"name": variable, "wanted": wanted, "used": port, "by": ports.who_holds(wanted)})
            chosen[name] = port
        derived = {"public_url": f"http://127.0.0.1:{chosen['port']}"}
        derived["jwks_url"] = f"http://127.0.0.1:{chosen['serve_port']}/auth/jwks"
        kept = {name: value for name, value in derived.items() if f"LINKFLOW_{name.upper()}" not in self.fixed}
        self.settings = dataclasses.replace(self.settings, **chosen, **kept)  # type: ignore[arg-type]

    # -- start

    async def _start(self) -> None:
        settings = self.settings
        if not programs.gateway_packages_present():
            self.say("packages", {"what": "installing the gateway's packages from npm"})
            log = settings.home / "logs" / "npm.log"
            await self._command("npm", [sys.executable, "-m", "subgraphs.platform.cli", "doctor", "--repair"], log)
        failed: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for part in self._standing_parts():
                    group.create_task(self._bring_up(part))
                group.create_task(self._start_serving())
        except* Problem as problems:
            failed = problems.exceptions[0]
        if failed is not None:  # raised in `except*` it would stay wrapped in a group, which nobody reads
            raise failed
        await self._bring_up(self._edge_part())

    async def _start_serving(self) -> None:
        await self._start_database()
        await self._bring_up(self._serve_part())

    async def _start_database(self) -> None:
        settings = self.settings
        if settings.database_url is None:
            self.postgres = Postgres(settings.home / "postgres")
            self.postgres.start(self._log("postgres"))  # in this thread: the child is tied to it
            for told in self.postgres.healed:
                self.say("healed", {"what": told})
            self.say("part", {"name": "database", "state": "ready"})
        migrating = [sys.executable, "-m", "subgraphs.platform.cli", "migrate"]
        await self._command("migrate", migrating, settings.home / "logs" / "migrate.log")

    def _standing_parts(self) -> list[Part]:
        """Parts that need no database to start."""
        settings, python = self.settings, sys.executable
        sandbox = [python, "-m", "sandbox", "--socket", str(settings.sandbox_socket)]
        sandbox += ["--cache", str(settings.home / "cache" / "sandbox"), "--workers", str(settings.sandbox_workers)]
        gateway = [str(programs.node(settings)), str(programs.ROUTER / "server.mjs")]
        gateway_env = self._environment() | programs.node_environment(settings) | {"NODE_ENV": "production"}
        gateway_url = f"http://127.0.0.1:{settings.gateway_port}/readiness"
        return [
            Part("sandbox", sandbox, lambda: probes.accepts(settings.sandbox_socket), self._environment()),
            Part("gateway", gateway, lambda: probes.answers(gateway_url), gateway_env | settings.environment()),
        ]

    def _serve_part(self) -> Part:
        url = f"http://127.0.0.1:{self.settings.serve_port}/health/ready"
        words = [sys.executable, "-m", "subgraphs.platform.cli", "serve"]
        return Part("serve", words, lambda: probes.answers(url), self._environment(), patience=6.0, url=url)

    def _edge_part(self) -> Part:
        home = self.settings.home / "run" / "caddy"
        home.mkdir(mode=0o700, exist_ok=True)
        words = [str(programs.caddy()), "run", "--config", str(programs.ROUTER / "Caddyfile"), "--adapter", "caddyfile"]
        folders = {"XDG_DATA_HOME": str(home), "XDG_CONFIG_HOME": str(home)}
        pool = {"LINKFLOW_QUERY_POOL": self.settings.query_pool or f"127.0.0.1:{self.settings.gateway_port}"}
        url = f"http://127.0.0.1:{self.settings.port}/health/live"
        collector = {"GOGC": os.environ.get("GOGC", EDGE_GOGC)}
        return Part("edge", words, lambda: probes.answers(url), self._environment() | folders | pool | collector)

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LINKFLOW_")}
        path = f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
        return {**kept, "PATH": path, "PYTHONPATH": str(CHECKOUT), **self.settings.environment()}

    async def _bring_up(self, part: Part) -> None:
        self._spawn(part)
        self.parts.append(part)
        deadline = time.monotonic() + READY_SECONDS
        while not await part.ready():
            if part.process is not None and part.process.poll() is not None:
                raise self._failed(part, f"ended with {part.process.returncode} while starting")
            if time.monotonic() > deadline:
                why = f": {await probes.ask(part.url)}" if part.url else ""
                raise self._failed(part, f"was not ready within {READY_SECONDS:.0f} s{why}")
            await asyncio.sleep(0.05)
        self.say("part", {"name": part.name, "state": "ready"})

    def _spawn(self, part: Part) -> None:
        part.process = spawn(part.words, env=part.environment, cwd=CHECKOUT, output=self._log(part.name))
        part.started.append(time.monotonic())
        write_register(self._register, [child.process for child in [*self.parts, part] if child.process])

    async def _command(self, name: str, words: Sequence[str], log: Path) -> None:
        """Run a program to its end; its output goes to `log`. Stopped with us."""
        part = Part(name, words, _always, self._environment())
        self._spawn(part)
        self.parts.append(part)
        while part.process is not None and part.process.poll() is None:  # noqa: ASYNC110 - no event tells of its end
            await asyncio.sleep(0.03)
        self.parts.remove(part)
        if part.process is not None and part.process.returncode:
            raise self._failed(part, f"ended with {part.process.returncode}")

    async def _foreground(self, words: Sequence[str]) -> None:
        """A command whose output is ours, such as the demo; its failure is told, and everything stays up."""
        process = await asyncio.create_subprocess_exec(*words, env=self._environment(), cwd=CHECKOUT, process_group=0)
        ended = asyncio.ensure_future(process.wait())
        if not await self._unless_stopped(ended):
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
        elif process.returncode:
            self.say("demo", {"state": "failed", "code": process.returncode})

    # -- stay up

    async def _keep_up(self) -> None:
        """Restart a part that ends by itself; give up on one that keeps ending."""
        while not self.stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), 0.5)
                return
            database = self.postgres.process if self.postgres else None
            if self.postgres is not None and database is not None and database.poll() is not None:
                self.say("part", {"name": "database", "state": "restarted", "code": database.returncode})
                self.postgres.stop()
                self.postgres.start(self._log("postgres"))
            for part in self.parts:
                if part.process is not None and part.process.poll() is not None:
                    self._restart(part)

    def _restart(self, part: Part) -> None:
        code = part.process.returncode if part.process else None
        recent = [moment for moment in part.started if moment > time.monotonic() - RESTART_WINDOW]
        if len(recent) > RESTARTS:
            raise self._failed(part, f"ended {len(recent)} times within {RESTART_WINDOW:.0f} s, last with {code}")
        part.started = recent
        self.say("part", {"name": part.name, "state": "restarted", "code": code})
        self._spawn(part)

    # -- stop

    def _stop_asked(self) -> None:
        if self.stopping.is_set():  # asked twice: at once
            for part in self.parts:
                if part.process is not None:
                    stop(part.process)
        self.stopping.set()

    async def _unless_stopped(self, task: asyncio.Future[object] | asyncio.Future[None] | asyncio.Future[int]) -> bool:
        """Wait for `task` or the order to stop; False, and the task cancelled, when that came first."""
        waiting = asyncio.ensure_future(self.stopping.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if task.done():
            task.result()
            return True
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return False

    async def _stop_all(self) -> None:
        """Those in front first: no request is accepted that would find the part behind it gone."""
        for names in (("edge",), ("gateway",), ("serve", "npm", "migrate"), ("sandbox",)):
            for part in [part for part in self.parts if part.name in names and part.process is not None]:
                if part.process is not None:
                    await asyncio.to_thread(stop, part.process, (signal.SIGTERM, part.patience))
        if self.postgres is not None:
            await asyncio.to_thread(self.postgres.stop)
        for log in self._logs.values():
            log.close()
        if self._lock is not None:
            self._register.unlink(missing_ok=True)
            self._lock.close()
            self.say("stopped", {})

    # -- logs

    def _log(self, name: str) -> IO[bytes]:
        if name not in self._logs:
            path = self.settings.home / "logs" / f"{name}.log"
            if path.exists() and path.stat().st_size > LOG_BYTES:
                path.replace(path.with_suffix(".log.1"))
            self._logs[name] = path.open("ab")
            self._began[name] = self._logs[name].tell()
        return self._logs[name]

    def _failed(self, part: Part, what: str) -> PartFailed:
        path = self.settings.home / "logs" / f"{part.name}.log"
        written = path.read_bytes()[self._began.get(part.name, 0) :] if path.exists() else b""
        text = written.decode(errors="replace").strip()
        lines = [line for told in text.splitlines()[-12:] for line in _readable(told)][-12:]
        tail = "".join(f"\n    {part.name} | {line[:400]}" for line in lines)
        if part.name == "gateway" and "ERR_MODULE_NOT_FOUND" in text:
            programs.forget_gateway_packages()
            return PartFailed(
                f"{part.name} {what}: router/node_modules is damaged.{tail}",
                code="part_failed",
                field=part.name,
                next_step="Start again: the gateway's packages are then installed anew.",
            )
        return PartFailed(
            f"{part.name} {what}.{tail}", code="part_failed", field=part.name, next_step=f"All of it: {path}"
        )


def _readable(line: str) -> list[str]:
    """A log line as text: of a JSON line what happened, of a traceback in it the end."""
    try:
        event = str(json.loads(line)["event"])
    except (ValueError, KeyError, TypeError):
        return [line]
    return event.rstrip().splitlines()[-4:]


async def _always() -> bool:
    return True


def write_register(path: Path, processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Note our children (pid and start time), so that a later run knows them for ours."""
    found = [{"pid": process.pid, "born": born(process.pid)} for process in processes if process.poll() is None]
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(found))
    fresh.replace(path)


def born(pid: int) -> str | None:
    """When a process started, in ticks since boot: with its pid this names it, also after pids are reused."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def end_leftovers(register: Path) -> list[str]:
    """End the children of a killed run that are provably ours; says what was ended."""
    try:
        noted = json.loads(register.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return []
    told = []
    for child in noted:
        pid = int(child["pid"])
        if child["born"] is not None and born(pid) == child["born"]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
                told.append(f"ended process {pid} of a run that was killed")
    register.unlink(missing_ok=True)
    return told
