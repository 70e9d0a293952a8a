"""Seeds of the simulator: none fails, each replays exactly, and planted faults are found."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.plants import PLANTS

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(600)  # seeds are counted, not seconds: a busy machine may take its time


async def simulate(*words: str, hash_seed: str = "0") -> Any:
    """What the command says, as JSON."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hash_seed, "PYTHONWARNINGS": "ignore"}
    command = (sys.executable, "-m", "tests.simulation", "--json", *words)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    assert out, err.decode()[-2000:]
    return json.loads(out)


@pytest.mark.shows("TS-07", "EX-01", "EV-03", "EV-04")
async def test_nothing_is_lost_or_doubled_in_300_seeds() -> None:
    result = await simulate("--seeds", "300", "--jobs", "2")
    assert result["failed"] == []
    assert (result["seeds"], result["runs"] > 1000) == (300, True)


@pytest.mark.shows("TS-07")
async def test_seeds_that_once_failed_do_not_again() -> None:
    result = await simulate("--kept", "--jobs", "2")
    assert result["failed"] == []
    assert result["seeds"] > 0


@pytest.mark.shows("TS-07")
@pytest.mark.parametrize("seed", ["6", "13", "84"])
async def test_a_seed_replays_exactly_in_any_process(seed: str) -> None:
    first, second = [await simulate("--seed", seed, hash_seed=hash) for hash in ("1", "2")]
    assert first == second
    assert first["runs"] > 0
    assert (await simulate("--seed", "7"))["hash"] != first["hash"]


@pytest.mark.shows("TS-07")
async def test_every_planted_fault_is_found() -> None:
    """By the seed that found it before, else by one of the first 1,000."""
    found = await simulate("--plants", "--known", "--seeds", "1000", "--jobs", "2")
    assert found.keys() == PLANTS.keys()
    assert len(PLANTS) >= 20
    assert [name for name, seed in found.items() if seed is None] == []
