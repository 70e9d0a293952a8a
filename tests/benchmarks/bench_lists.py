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
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
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
BURSTS = 10
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
    "error text": {"errorText": "orders-4"},
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
    query = "select pid from pg_stat_activity where application_name = any($1) and datname = current_database()"
    rows = await connection.fetch(query, names)
    return sum(processor(row["pid"]) for row in rows)


@dataclass
class Served:
    """One side of the comparison. `figures`: milliseconds of each request of the filter that is being measured."""

    subgraph: Subgraph
    caller: Caller
    admin: Any
    figures: list[float] = field(default_factory=list)
    client: float = 0.0
    backend: float = 0.0
    rows: int = 0

    async def page(self, filter: Any, after: str | None = None) -> Any:
        context = self.subgraph.context(self.caller, Incoming({}, "bench"))
        variables = {"filter": filter, "first": 50, "after": after}
        result = await self.subgraph.schema.execute(LIST, variables, context_value=context)
        if result.errors:
            raise RuntimeError(result.errors)
        assert result.data is not None
        return result.data["executions"]

    def told(self, name: str) -> float:
        """Prints a filter's figures; its p95."""
        taken, count = sorted(self.figures), len(self.figures)
        client, backend = self.client / count * 1000, self.backend / count * 1000
        self.figures, self.client, self.backend = [], 0.0, 0.0
        p95 = taken[count * 95 // 100]
        print(
            f"lists.{name.replace(' ', '_')}: rows {self.rows}, p50 {taken[count // 2]:.2f} ms, p95 {p95:.2f} ms, "
            f"CPU {client + backend:.2f} ms (subgraph {client:.2f}, database {backend:.2f})",
            flush=True,
        )
        return p95


async def burst(side: Served, name: str, rounds: int) -> None:
    """Some requests of one filter."""
    client, backend = time.process_time(), await backends(side.admin)
    for _ in range(rounds):
        began = time.perf_counter()
        found = await side.page(FILTERS[name])
        side.figures.append((time.perf_counter() - began) * 1000)
    side.rows = len(found["edges"])
    side.client += time.process_time() - client
    side.backend += await backends(side.admin) - backend


async def walk(side: Served, pages: int) -> None:
    """Follows the whole list by its cursors."""
    after, seen, began = None, 0, time.perf_counter()
    for _ in range(pages):
        found = await side.page(None, after)
        seen, after = seen + len(found["edges"]), found["pageInfo"]["endCursor"]
        if not found["pageInfo"]["hasNextPage"]:
            break
    print(f"lists.walk: {seen} runs by {pages} pages, {(time.perf_counter() - began) / pages * 1000:.2f} ms a page")


async def served(settings: Settings, runs: int, stack: AsyncExitStack) -> Served:
    """Execution on a database with so many runs of one tenant."""
    await migrate(settings, ["bus", "execution"])
    admin = await asyncpg.connect(settings.dsn("lf_admin"))
    stack.push_async_callback(admin.close)
    caller = Caller(uuid7(), uuid7(), uuid7(), "Bench", frozenset({"owner"}), ROLES["owner"])
    assert caller.tenant is not None

    def build(ground: Ground) -> Subgraph:
        ground.ports["executor"] = None
        return service.build(ground)

    ground = await stack.enter_async_context(ground_opened(settings, [build]))
    await ground.ports["invariants"].stop()  # the runs made here have no journals
    began = time.perf_counter()
    await fill(admin, caller.tenant, runs)
    await admin.execute("checkpoint")
    print(f"lists.filled: {runs} runs in {time.perf_counter() - began:.1f} s", flush=True)
    return Served(ground.subgraphs[0], caller, admin)


async def run(folder: Path, server: Postgres, runs: int, only: list[str]) -> None:
    """Both sizes side by side, each filter in alternating bursts, so that whatever else the machine does hits both."""
    async with AsyncExitStack() as stack:
        sides = []
        admin = await asyncpg.connect(server.dsn("postgres"))
        for size in (SMALL, runs):
            await admin.execute(f"create database lists_{size}")
            place = {
                "LINKFLOW_HOME": str(folder / str(size)),
                "LINKFLOW_DATABASE_URL": server.dsn(f"lists_{size}"),
            }
            settings = Settings.load(place)
            settings.prepare()
            sides.append(await served(settings, size, stack))
        await admin.close()
        for name in only:
            for side in sides:
                await burst(side, name, 20)
                side.figures.clear()
            for _ in range(BURSTS):
                for side in sides:
                    await burst(side, name, ROUNDS // BURSTS)
            small, large = (side.told(name) for side in sides)
            print(f"lists.{name.replace(' ', '_')}.p95: x {large / small:.2f}", flush=True)
        for side in sides:
            await walk(side, 100)


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
