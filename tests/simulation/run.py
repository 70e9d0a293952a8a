"""The command: seeds in, failures out. `make simulate SEEDS=10000 [FROM=1] [JOBS=2]`, `make simulate SEED=123`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import structlog

from tests.simulation.plants import PLANTS
from tests.simulation.world import Verdict, World

KEPT = Path(__file__).with_name("seeds.txt")
FOUND = Path(__file__).with_name("found.json")
CHUNK = 20


def kept() -> list[int]:
    """Seeds that once failed, from seeds.txt."""
    lines = (line.partition("#")[0].strip() for line in KEPT.read_text().splitlines())
    return [int(line) for line in lines if line]


def silence() -> None:
    """What the code under test logs is told by `--told` only."""
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    sys.unraisablehook = lambda _: None  # coroutines of dead processes are closed by the garbage collector


def verdicts(seeds: Sequence[int], plant: str | None) -> list[Verdict]:
    silence()
    return [World(seed, plant=plant).run() for seed in seeds]


def spread(seeds: Sequence[int], jobs: int, plant: str | None) -> Iterator[list[Verdict]]:
    """Verdicts in the order of the seeds, some at a time."""
    chunks = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    if jobs == 1:
        for chunk in chunks:
            yield verdicts(chunk, plant)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(verdicts, chunks, [plant] * len(chunks))


def arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300, help="how many")
    parser.add_argument("--from", dest="first", type=int, default=1, help="the first of them")
    parser.add_argument("--seed", type=int, help="one seed, told step by step")
    parser.add_argument("--kept", action="store_true", help="the seeds of seeds.txt")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--plant", choices=sorted(PLANTS), help="run with this fault planted; stops when it is found")
    parser.add_argument("--plants", action="store_true", help="every planted fault: in how many seeds it is found")
    parser.add_argument("--known", action="store_true", help="with --plants: the seeds of found.json first")
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    return parser.parse_args(words)


def main(words: Sequence[str]) -> int:
    asked = arguments(words)
    if asked.seed is not None:
        return replay(asked.seed, asked.plant, as_json=asked.json)
    if asked.plants:
        return prove(asked.jobs, asked.seeds, known=asked.known)
    seeds = kept() if asked.kept else list(range(asked.first, asked.first + asked.seeds))
    began = time.perf_counter()
    failed: list[Verdict] = []
    done = runs = 0
    for part in spread(seeds, asked.jobs, asked.plant):
        done += len(part)
        runs += sum(verdict.runs for verdict in part)
        failed += [verdict for verdict in part if verdict.faults]
        if sys.stderr.isatty() or not asked.json:
            speed = done / (time.perf_counter() - began)
            print(f"\r{done}/{len(seeds)} seeds, {speed:.0f}/s, {len(failed)} failed ", end="", file=sys.stderr)
        if asked.plant and failed:
            break
    _report(asked, done, runs, time.perf_counter() - began, failed)
    return 1 if failed else 0


def _report(asked: argparse.Namespace, done: int, runs: int, seconds: float, failed: Sequence[Verdict]) -> None:
    result: dict[str, Any] = {
        "seeds": done,
        "runs": runs,
        "seconds": round(seconds, 1),
        "failed": [{"seed": verdict.seed, "faults": verdict.faults} for verdict in failed],
    }
    if asked.json:
        print(json.dumps(result))
        return
    print(f"\r{done} seeds, {runs} runs in {seconds:.1f} s ({done / seconds:.0f} seeds/s): {len(failed)} failed")
    for verdict in failed[:20]:
        print(f"seed {verdict.seed} (make simulate SEED={verdict.seed}):")
        for fault in verdict.faults[:5]:
            print(f"  {fault}")


def found(plant: str, first: Sequence[int], most: int) -> int | None:
    """The seed that finds the planted fault, if one of `first` or one up to `most` does."""
    silence()
    seeds = (*first, *range(1, most + 1))
    return next((seed for seed in seeds if World(seed, plant=plant).run().faults), None)


def prove(jobs: int, most: int, *, known: bool) -> int:
    """Says of each planted fault which seed finds it, as JSON; `known` tries first what found it before."""
    before: dict[str, int] = json.loads(FOUND.read_text()) if known else {}
    first = [[before[plant]] if plant in before else [] for plant in PLANTS]
    with ProcessPoolExecutor(jobs) as pool:
        seeds = dict(zip(PLANTS, pool.map(found, PLANTS, first, [most] * len(PLANTS)), strict=True))
    print(json.dumps(seeds))
    return 0 if all(seeds.values()) else 1


def replay(seed: int, plant: str | None, *, as_json: bool) -> int:
    silence()
    verdict = World(seed, told=None if as_json else print, plant=plant).run()
    if as_json:
        print(json.dumps({"seed": seed, "hash": verdict.hash, "faults": verdict.faults, "runs": verdict.runs}))
    else:
        print(f"seed {seed}: {verdict.runs} runs, {verdict.virtual:.1f} virtual seconds, trace {verdict.hash}")
        print("\n".join(verdict.faults) or "nothing wrong")
    return 1 if verdict.faults else 0
