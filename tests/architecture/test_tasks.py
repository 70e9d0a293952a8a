"""The tasks of the Makefile and the commands of the command line are there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TASKS = "help dev test test-all test-coverage lint build generate migrate seed clean bench behaviours".split()
COMMANDS = "dev serve work migrate schema compose seed doctor".split()


@pytest.mark.shows("DX-01")
def test_make_knows_its_tasks_and_help_lists_them() -> None:
    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split()[1] for line in told.splitlines()} >= set(TASKS)
    for task in TASKS:
        subprocess.run(["make", "--dry-run", task], cwd=ROOT, capture_output=True, check=True)


@pytest.mark.shows("DX-08")
def test_the_command_line_knows_its_commands() -> None:
    words = [sys.executable, "-m", "subgraphs.platform.cli", "--help"]
    told = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split()[0] for line in told.splitlines() if line.startswith("  ")} >= set(COMMANDS)
