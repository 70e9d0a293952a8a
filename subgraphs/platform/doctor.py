"""`linkflow doctor`: what this machine has, what is missing, how to get it."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from subgraphs.platform import ports, postgres, probes, programs
from subgraphs.platform.domain import Problem
from subgraphs.platform.launcher import PORT_NAMES
from subgraphs.platform.settings import CHECKOUT, Settings

NEEDED_DISK = 1_000_000_000
OLDEST_PYTHON = (3, 11)
OLDEST_GLIBC = (2, 28)
MARKS = {"ok": "✓", "note": "·", "missing": "✗"}


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `missing` is needed and absent; `note` is worth knowing or optional."""

    name: str
    state: str
    found: str
    advice: str = ""

    def row(self) -> dict[str, str]:
        return asdict(self)

    def line(self) -> str:
        advice = f"\n      {self.advice}" if self.advice else ""
        return f"{MARKS[self.state]} {self.name:<18} {self.found}{advice}"


def repair(settings: Settings) -> None:
    """Install what can be installed from here: the gateway's packages."""
    settings.prepare()
    programs.install_gateway_packages(settings, settings.home / "logs" / "npm.log")


async def examine(settings: Settings) -> list[Finding]:
    """Look at everything `linkflow dev` needs; nothing is changed."""
    looked = [*_machine(settings), *_programs(settings), _sandbox(), _router()]
    for name, variable in PORT_NAMES.items():
        looked.append(await _port(variable, getattr(settings, name), settings))
    return looked


def _machine(settings: Settings) -> Iterator[Finding]:
    version = platform.python_version()
    old = sys.version_info < OLDEST_PYTHON
    yield Finding("python", "missing" if old else "ok", version, "Python 3.11 or later is needed." if old else "")
    inside = sys.prefix != sys.base_prefix
    yield Finding("environment", "ok" if inside else "note", sys.prefix, "" if inside else "Not a virtual environment.")
    library, number = platform.libc_ver()
    parts = tuple(int(part) for part in number.split(".")[:2]) if number else (0, 0)
    good = library == "glibc" and parts >= OLDEST_GLIBC
    advice = "" if good else "The bundled programs need glibc 2.28 or later (Debian 10, Ubuntu 20.04, RHEL 8)."
    yield Finding("libc", "ok" if good else "missing", f"{library or 'unknown'} {number}", advice)
    yield Finding("user", "ok", _user())
    yield _disk(settings.home)


def _user() -> str:
    if os.geteuid() != 0:
        return f"uid {os.geteuid()}"
    try:
        return f"root (the database runs as {postgres.service_user().pw_name})"
    except Problem as problem:
        return f"root: {problem.message}"


def _disk(home: Path) -> Finding:
    folder = next(step for step in (home, *home.parents) if step.exists())
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return Finding(
            "disk", "missing", f"{folder} is not ours to write", "Give it to this user, or set LINKFLOW_HOME."
        )
    free = shutil.disk_usage(folder).free
    state = "ok" if free > NEEDED_DISK else "missing"
    return Finding("disk", state, f"{free / 1e9:.1f} GB free at {folder}", "" if state == "ok" else "1 GB is needed.")


def _programs(settings: Settings) -> Iterator[Finding]:
    yield _program("node", lambda: _node(settings))
    yield _program("caddy", lambda: str(programs.caddy()))
    if settings.database_url is None:
        yield _program("postgres", lambda: str(postgres.wheel() / "postgres"))
        yield Finding("database", "ok", f"embedded, in {settings.postgres_place.base}")
    else:
        yield Finding("database", "ok", f"configured: {settings.database_url.rpartition('@')[2]}")
    present = programs.gateway_packages_present()
    advice = "" if present else "`linkflow doctor --repair` installs them (npm ci in router/)."
    found = "match the lock" if present else "not installed, incomplete, or older than router/package-lock.json"
    yield Finding("gateway packages", "ok" if present else "missing", found, advice)
    composed = (CHECKOUT / "supergraph" / "supergraph.graphql").exists()
    yield Finding(
        "supergraph", *(("ok", "composed") if composed else ("missing", "none", "`make generate` composes it."))
    )


def _program(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, "ok", look())
    except Problem as problem:
        return Finding(name, "missing", problem.message, problem.next_step or "")


def _node(settings: Settings) -> str:
    program = programs.node(settings)
    version = programs.node_version(program)
    if version[:2] < programs.OLDEST_NODE:
        raise programs.ProgramMissing(
            f"{program} is too old: {'.'.join(map(str, version))}.",
            next_step="Unset LINKFLOW_NODE, or name 22.15 or later.",
        )
    return f"{'.'.join(map(str, version))} {program}"


def _sandbox() -> Finding:
    for module in ("wasmer_sdk", "wasmer"):
        if find_spec(module) is not None:
            return Finding("sandbox engine", "ok", module)
    return Finding("sandbox engine", "missing", "wasmer-sdk is not installed", "Run `make`: requirements-sandbox.txt.")


def _router() -> Finding:
    program = os.environ.get("APOLLO_ROUTER_BIN")
    if program and os.access(program, os.X_OK):
        return Finding("apollo router", "ok", program)
    said = f"APOLLO_ROUTER_BIN={program} is no program" if program else "APOLLO_ROUTER_BIN is not set"
    return Finding("apollo router", "note", said, "Optional: the journeys run against it as well when it is named.")


async def _port(variable: str, port: int, settings: Settings) -> Finding:
    if await asyncio.to_thread(ports.free, port):
        return Finding(f"port {port}", "ok", f"free ({variable})")
    mine = await probes.answers(f"http://127.0.0.1:{settings.port}/health/live")
    holder = ports.who_holds(port) or "another process"
    advice = "LinkFlow seems to run here." if mine else "`linkflow dev` takes the next free one."
    return Finding(f"port {port}", "note", f"held by {holder} ({variable})", advice)
