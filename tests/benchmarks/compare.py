"""LinkFlow beside its peers, in one sitting: runs a comparison harness alternately and prints medians and ratios.

    python tests/benchmarks/compare.py HARNESS [--cases A,B,D,G] [--rounds 2] [--peers dbos,n8n-sqlite]

HARNESS is a folder with `run.py` (see tests/benchmarks/README.md). Rates of one sitting may be compared, of two not.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

ROWS = (
    # case, path, connections, what is compared, more is better
    ("A", "a", 1, "p50", False),
    ("A", "a", 16, "rps", True),
    ("A", "a", 16, "cpu", False),
    ("B", "b", 16, "rps", True),
    ("B", "b", 16, "cpu", False),
    ("C", "c-js", 8, "rps", True),
    ("D", "d", None, "p50", False),
    ("E", "e", None, "p50", False),
    ("E", "e", None, "peak_mb", False),
    ("F", "f", None, "done_rps", True),
    ("G", None, None, "cold_start_s", False),
    ("G", None, None, "idle_pss_mb", False),
    ("H", "list-50", 8, "rps", True),
)


def sit(harness: Path, peers: list[str], cases: str, rounds: int, results: Path) -> None:
    environment = {**os.environ, "BENCH_RESULTS": str(results), "LINKFLOW_PEER": str(HERE / "peer.py")}
    for turn in range(rounds):
        for name in peers:
            words = [sys.executable, "run.py", name, "--cases", cases, "--runs", "1"]
            print(f"== round {turn + 1} of {rounds}: {name}", flush=True)
            command = [*words, "--fresh"] if turn == 0 else words
            subprocess.run(command, cwd=harness, env=environment, check=True)


def value(row: dict[str, Any], what: str) -> float | None:
    if what == "cpu":
        own, database = row.get("cpu_ms"), row.get("db_cpu_ms")
        return None if own is None else own + (database or 0)
    found = row.get(what)
    return float(found) if found is not None else None


def table(results: Path, peers: list[str]) -> None:
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    print("\n| case | figure | " + " | ".join(peers) + " | linkflow against the others |")
    print("|---|---|" + "---|" * (len(peers) + 1))
    for case, path, connections, what, more in ROWS:
        found: dict[str, float] = {}
        for name in peers:
            values = [
                number
                for row in rows
                if row.get("peer") == name
                and row.get("case") == case
                and (path is None or row.get("path") == path)
                and (connections is None or row.get("conc") == connections)
                and (number := value(row, what)) is not None
            ]
            if values:
                found[name] = statistics.median(values)
        if "linkflow" not in found:
            continue
        ours = found["linkflow"]
        ratios = [
            f"{(ours / other if more else other / ours):.1f} x {name}"
            for name, other in found.items()
            if name != "linkflow" and other and ours
        ]
        at = f" at {connections}" if connections else ""
        cells = " | ".join(f"{found[name]:.1f}" if name in found else "-" for name in peers)
        print(f"| {case} {path or ''}{at} | {what} | {cells} | {', '.join(ratios)} |")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("harness", type=Path)
    words.add_argument("--cases", default="G,A,B,D")
    words.add_argument("--rounds", type=int, default=2)
    words.add_argument("--peers", default="dbos,n8n-sqlite")
    asked = words.parse_args()
    peers = ["linkflow", *asked.peers.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.jsonl"
        sit(asked.harness.resolve(), peers, asked.cases, asked.rounds, results)
        table(results, peers)


if __name__ == "__main__":
    main()
