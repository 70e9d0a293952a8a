"""Looking back into a run of a million events: the state at one of them, folded from snapshots and without any.

Prints `name value unit` lines. The journal is made here: one step, tried again half a million times.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import asyncpg

from subgraphs.engine.run import Event, Made, Started, StepFailed, StepStarted, encode
from subgraphs.engine.step import StepError
from subgraphs.execution import service
from subgraphs.platform.domain import ROLES, Caller, uuid7
from subgraphs.platform.migrate import migrate
from subgraphs.platform.postgres import Postgres
from subgraphs.platform.server import Ground, Incoming, Subgraph, ground_opened
from subgraphs.platform.settings import Settings

EVENTS = 1_000_000
CHUNK = 200  # events a commit
PLACES = (900_000, 900_001, 899_999, 500_000, 1_000_000)
DEFINITION = {
    "nodes": [
        {"id": "begin", "type": "t", "version": "1"},
        {"id": "flaky", "type": "x", "version": "1", "settings": {"retry": {"attempts": 1_000_000}}},
    ],
    "connections": [{"from": "begin", "to": "flaky"}],
}
TYPES = {"t@1": {"effect": "pure", "trigger": True}, "x@1": {"effect": "keyed"}}
AT = """query($id: ID!, $event: Int!) { execution(id: $id) { at(event: $event) { status
  steps(first: 10) { edges { node { key status attempt input } } }
  evaluate(expression: "item.who", node: "flaky") { value } } } }"""


def journal() -> Iterator[Event]:
    began = 1_700_000_000_000_000
    yield Started(
        at=began, workflow=None, name="long", mode="draft", trigger="begin", seed=1, items=[Made({"who": "Ada"})],
        definition=DEFINITION, types=TYPES,
    )  # fmt: skip
    error = StepError("test.no", "Not yet.", "infrastructure")
    for attempt in range(1, EVENTS // 2 + 1):
        at = began + attempt * 1000
        yield StepStarted(at=at, node="flaky", attempt=attempt)
        yield StepFailed(at=at, node="flaky", attempt=attempt, error=error, took=1.0, retry_at=at + 1000)


async def fill(admin: Any, tenant: Any, id: Any) -> None:
    now, rows, chunk = datetime.now(UTC), [], list[Event]()
    for version, event in enumerate(journal(), 1):
        chunk.append(event)
        if len(chunk) == CHUNK or version == EVENTS:
            rows.append((tenant, id, version, 1, encode(chunk)))
            chunk = []
        if version == EVENTS:
            break
    await admin.copy_records_to_table("journal", schema_name="execution", records=rows)
    await admin.execute(
        "insert into execution.run (tenant, id, part, version, epoch, name, mode, status, started_at) "
        "values ($1, $2, 0, $3, 1, 'long', 'draft', 3, $4)",
        tenant, id, EVENTS, now,
    )  # fmt: skip
    await admin.execute("analyze execution.journal")


async def run(folder: Path, server: Postgres) -> None:
    environment = {"LINKFLOW_HOME": str(folder / "home"), "LINKFLOW_DATABASE_URL": server.dsn("postgres")}
    settings = Settings.load(environment | {"LINKFLOW_REPLAY_GATE": "warn"})
    settings.prepare()
    await migrate(settings, ["bus", "execution"])
    caller = Caller(uuid7(), uuid7(), uuid7(), "Bench", frozenset({"owner"}), ROLES["owner"])
    id, admin = uuid7(), await asyncpg.connect(server.dsn("postgres"))

    def build(ground: Ground) -> Subgraph:
        ground.ports["executor"] = None
        return service.build(ground)

    async with ground_opened(settings, [build]) as ground:
        await fill(admin, caller.tenant, id)
        subgraph = ground.subgraphs[0]
        for turn in ("first look, no snapshot", "next look"):
            for event in PLACES:
                began, used = time.perf_counter(), time.process_time()
                result = await subgraph.schema.execute(
                    AT, {"id": str(id), "event": event}, context_value=subgraph.context(caller, Incoming({}, "bench"))
                )
                if result.errors:
                    raise RuntimeError(result.errors)
                took, used = (time.perf_counter() - began) * 1000, (time.process_time() - used) * 1000
                print(f"travel.{event}: {took:.0f} ms, CPU {used:.0f} ms ({turn})", flush=True)
        kept = await admin.fetchval("select pg_size_pretty(sum(octet_length(data))) from execution.snapshot")
        print(f"travel.snapshots: {await admin.fetchval('select count(*) from execution.snapshot')}, {kept}")
    await admin.close()


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="lf-bench-", dir="/tmp"))
    server = Postgres(folder / "postgres")
    try:
        with (folder / "postgres.log").open("ab") as log:
            server.start(log)
            try:
                asyncio.run(run(folder, server))
            finally:
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
