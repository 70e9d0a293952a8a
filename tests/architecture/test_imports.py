"""Import contracts hold; nothing connects, reads the environment or starts anything at import."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("subgraphs", "resolvers", "sandbox")
SHARED = {"platform", "engine"}

IMPORT_ALL = """
import importlib, os, socket, subprocess, sys, threading
sys.path.insert(0, {root!r})

def refuse(*words, **named):
    raise AssertionError(f"something happens at import: {{words[:2]}}")

class NoSocket(socket.socket):
    def connect(self, *words): refuse("connect", *words)
    def bind(self, *words): refuse("bind", *words)

socket.socket = NoSocket
socket.create_connection = refuse
subprocess.Popen = refuse
for name in {modules!r}:
    importlib.import_module(name)
threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
assert not threads, f"threads started at import: {{threads}}"
"""


def modules() -> Iterator[str]:
    for top in OURS:
        for path in sorted((ROOT / top).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            if not name.endswith("__main__") and "guests" not in path.parts:
                yield name.removesuffix(".__init__")


@pytest.mark.shows("DX-07")
def test_the_import_contracts_are_kept() -> None:
    program = Path(sys.prefix) / "bin" / "lint-imports"
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_happens_at_import() -> None:
    program = IMPORT_ALL.format(root=str(ROOT), modules=list(modules()))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr


def test_our_top_level_names_are_nobody_elses() -> None:
    shipped = packages_distributions()
    others = {name: set(shipped.get(name, [])) - {"linkflow"} for name in (*OURS, "migrations", "router", "supergraph")}
    assert not {name for name, found in others.items() if found}, others


def test_no_subgraph_names_another_in_a_string() -> None:
    """Dynamic imports are the command line's business alone."""
    found = []
    for path in sorted((ROOT / "subgraphs").rglob("*.py")):
        owner = path.relative_to(ROOT / "subgraphs").parts[0]
        if path.name == "cli.py" and owner == "platform":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named = set(re.findall(r"\bsubgraphs\.([a-z_]+)\.", node.value)) - SHARED - {owner}
                found += [f"{path.relative_to(ROOT)}:{node.lineno}: subgraphs.{name}" for name in named]
    assert not found, "\n".join(found)


def test_settings_are_read_in_one_place() -> None:
    """`LINKFLOW_*` is read by Settings.load; who needs a setting is given a Settings."""
    allowed = {"settings.py", "cli.py"}
    found = []
    for top in ("subgraphs", "resolvers"):
        for path in sorted((ROOT / top).rglob("*.py")):
            if path.name in allowed:
                continue
            for number, line in enumerate(path.read_text().splitlines(), 1):
                if re.search(r"environ(\.get\(|\[)f?[\"']LINKFLOW_|getenv\(f?[\"']LINKFLOW_", line):
                    found.append(f"{path.relative_to(ROOT)}:{number}")
    assert not found, "\n".join(found)


def imported(top: str) -> dict[str, str]:
    """Top-level modules a folder imports, each with one place that does."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / top).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            else:
                continue
            for name in names:
                found.setdefault(name.partition(".")[0], f"{path.relative_to(ROOT)}:{node.lineno}")
    return found


@pytest.mark.parametrize("top", ["subgraphs", "resolvers", "sandbox"])
def test_what_is_imported_is_asked_for_by_name(top: str) -> None:
    """Nothing is used that only comes along with something else."""
    lock = "requirements-sandbox.in" if top == "sandbox" else "requirements.in"
    wanted = {_plain(line) for line in (ROOT / lock).read_text().splitlines() if line and line[0] not in "#-"}
    shipped = packages_distributions()
    known = set(sys.stdlib_module_names) | set(OURS)
    missing = {
        name: place
        for name, place in imported(top).items()
        if name not in known and not wanted & {_plain(found) for found in shipped.get(name, [])}
    }
    assert not missing


def _plain(requirement: str) -> str:
    return re.split(r"[\[=<>~! ]", requirement)[0].lower().replace("_", "-").replace(".", "-")
