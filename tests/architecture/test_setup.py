"""A machine that lacks something is told what, and how to get it, before anything is made."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in a path with a space, without an environment."""
    folder = tmp_path / "a checkout"
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    for lock in ROOT.glob("requirements*.txt"):
        shutil.copy(lock, folder)
    return folder


def interpreter(folder: Path, script: str) -> Path:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def set_up(checkout: Path, python: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": str(python)}
    environment.pop("VENV", None)
    return subprocess.run(
        [checkout / ".ci" / "setup", "run"], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_an_old_python_is_named(checkout: Path, tmp_path: Path) -> None:
    old = interpreter(tmp_path, 'case "$1" in --version) echo "Python 3.9.2";; *) exit 1;; esac')
    told = set_up(checkout, old)
    assert told.returncode == 1
    assert "needs Python 3.11 or later; found: Python 3.9.2" in told.stderr
    assert not (checkout / ".venv").exists()


def test_a_python_without_venv_is_told_how_to_get_it(checkout: Path, tmp_path: Path) -> None:
    script = 'case "$*" in --version) echo "Python 3.11.2";; *ensurepip*) exit 1;; *) exit 0;; esac'
    told = set_up(checkout, interpreter(tmp_path, script))
    assert told.returncode == 1
    assert "Python 3.11.2 has no venv module. Debian, Ubuntu: apt-get install python3-venv" in told.stderr
    assert not (checkout / ".venv").exists()
