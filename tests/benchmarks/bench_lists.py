"""What a list of 50 runs costs at the subgraph, with 10,000 runs and with 1,000,000 (`--runs N` for another number).

For each filter: p50 and p95 in ms at both sizes, their ratio, processor time of a request (this process and the
database's backends). Prints `name value unit` lines. The runs are made by the database (generated.py).
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import asyncpg

from subgraphs.execution import service
from subgraphs.platform.domain import ROLES, Caller, uuid7
from subgraphs.platform.migrate import migrate
from subgraphs.platform.postgres import Postgres
from subgraphs.platform.server import Ground, Incoming, Subgraph, ground_opened
from subgraphs.platform.settings import Settings
from tests.benchmarks.generated import fill, workflow

SMALL = 10_000
ROUNDS = 300
LIST = """query($filter: ExecutionFilter, $first: Int!, $after: String) {
  executions(filter: $filter, first: $first, after: $after) {
    edges { cursor node { id status mode workflowName release startedAt finishedAt durationMs error { code message }
                          workflow { id } startedBy { id } } }
    pageInfo { hasNextPage endCursor } } }"""
BUSY, QUIET = str(workflow(0)), str(workflow(39))
FILTERS: dict[str, dict[str, Any] | None] = {
    "all": None,
    "workflow": {"workflowId": BUSY},
    "quiet workflow": {"workflowId": QUIET},
    "failed": {"status": ["FAILED"]},
    "ended badly": {"status": ["FAILED", "CANCELLED", "TIMED_OUT"]},
    "open": {"status": ["QUEUED", "RUNNING", "WAITING", "PAUSED"]},
    "failed of workflow": {"workflowId": BUSY, "status": ["FAILED"]},
    "old release": {"workflowId": BUSY, "release": 1},
    "drafts": {"mode": "DRAFT"},
    "drafts of workflow": {"workflowId": BUSY, "mode": "DRAFT"},
    "error code": {"errorCode": "http.status.503"},
    "error text": {"errorText": "orders-42 answered"},
    "business key": {"keys": [{"name": "order", "value": "A-1230"}]},
    "customer": {"keys": [{"name": "customer", "value": "c-10"}]},
    "failed of customer": {"keys": [{"name": "customer", "value": "c-10"}], "status": ["FAILED"]},
}


def processor(pid: int) -> float:
    """Seconds of processor time a process has used."""
    words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


async def backends(connection: Any) -> float:
    """Seconds of processor time of the sessions that answer queries."""
    names = ["linkflow api", "linkflow engine"]
    rows = await connection.fetch("select pid from pg_stat_activity where application_name = any($1)", names)
    return sum(processor(row["pid"]) for row in rows)


async def page(subgraph: Subgraph, caller: Caller, filter: Any, after: str | None = None) -> Any:
    context = subgraph.context(caller, Incoming({}, "bench"))
    result = await subgraph.schema.execute(LIST, {"filter": filter, "first": 50, "after": after}, context_value=context)
    if result.errors:
        raise RuntimeError(result.errors)
    assert result.data is not None
    return result.data["executions"]


async def measure(subgraph: Subgraph, caller: Caller, admin: Any, name: str, rounds: int) -> tuple[float, float]:
    """(p50, p95) in ms of one filter."""
    taken: list[float] = []
    for _ in range(10):
        found = await page(subgraph, caller, FILTERS[name])
    client, backend = time.process_time(), await backends(admin)
    for _ in range(rounds):
        began = time.perf_counter()
        await page(subgraph, caller, FILTERS[name])
        taken.append((time.perf_counter() - began) * 1000)
    client, backend = time.process_time() - client, await backends(admin) - backend
    taken.sort()
    print(
        f"lists.{name.replace(' ', '_')}: rows {len(found['edges'])}, p50 {taken[rounds // 2]:.2f} ms, "
        f"p95 {taken[rounds * 95 // 100]:.2f} ms, CPU {(client + backend) / rounds * 1000:.2f} ms "
        f"(subgraph {client / rounds * 1000:.2f}, database {backend / rounds * 1000:.2f})",
        flush=True,
    )
    return taken[rounds // 2], taken[rounds * 95 // 100]


async def walk(subgraph: Subgraph, caller: Caller, pages: int) -> None:
    """Follows the whole list by its cursors."""
    after, seen, began = None, 0, time.perf_counter()
    for _ in range(pages):
        found = await page(subgraph, caller, None, after)
        seen, after = seen + len(found["edges"]), found["pageInfo"]["endCursor"]
        if not found["pageInfo"]["hasNextPage"]:
            break
    print(f"lists.walk: {seen} runs by {pages} pages, {(time.perf_counter() - began) / pages * 1000:.2f} ms a page")


async def sizes(settings: Settings, admin: Any, runs: int, only: list[str]) -> None:
    caller = Caller(uuid7(), uuid7(), uuid7(), "Bench", frozenset({"owner"}), ROLES["owner"])
    assert caller.tenant is not None

    def build(ground: Ground) -> Subgraph:
        ground.ports["executor"] = None
        return service.build(ground)

    async with ground_opened(settings, [build]) as ground:
        await ground.ports["invariants"].stop()  # the runs made here have no journals
        subgraph, figures = ground.subgraphs[0], []
        for size in (SMALL, runs):
            await admin.execute("truncate execution.run, execution.run_key")
            began = time.perf_counter()
            await fill(admin, caller.tenant, size)
            print(f"lists.filled: {size} runs in {time.perf_counter() - began:.1f} s", flush=True)
            figures.append({name: await measure(subgraph, caller, admin, name, ROUNDS) for name in only})
            await walk(subgraph, caller, 100)
        for name, (_, small) in figures[0].items():
            large = figures[1][name][1]
            print(f"lists.{name.replace(' ', '_')}.p95: {small:.2f} -> {large:.2f} ms, x {large / small:.2f}")


async def run(folder: Path, server: Postgres, runs: int, only: list[str]) -> None:
    environment = {"LINKFLOW_HOME": str(folder / "home"), "LINKFLOW_DATABASE_URL": server.dsn("postgres")}
    settings = Settings.load(environment)
    settings.prepare()
    await migrate(settings, ["bus", "execution"])
    admin = await asyncpg.connect(server.dsn("postgres"))
    try:
        await sizes(settings, admin, runs, only)
    finally:
        await admin.close()


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--runs", type=int, default=1_000_000)
    options.add_argument("--only", action="append", choices=list(FILTERS))
    chosen = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="lf-bench-", dir="/tmp"))
    server = Postgres(folder / "postgres")
    try:
        with (folder / "postgres.log").open("ab") as log:
            server.start(log)
            try:
                import uvloop

                uvloop.run(run(folder, server, chosen.runs, chosen.only or list(FILTERS)))
            finally:
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
