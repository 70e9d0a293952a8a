"""What a group commit costs: a webhook call, its event, the run it begins and its journal row, 16 callers at once.

Prints `name value unit` lines. CPU is that of this process (client) and of the writer's backend, fsync on.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from subgraphs.platform.domain import Event, uuid7
from subgraphs.platform.migrate import migrate
from subgraphs.platform.postgres import Postgres
from subgraphs.platform.settings import Settings
from subgraphs.platform.writer import Ingress
from tests.laws.ground import CALL, STARTED, TENANT, Process, Starts, make, make_tables, running

CALLERS = (1, 16, 64)
SECONDS = 4.0


def backend_cpu(pid: int) -> float:
    """Seconds of CPU a process has used, user and system."""
    words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


async def call(process: Process) -> None:
    id = uuid7()
    lease = process.leases.lease_for(id)
    partition = lease.partition if lease else 0
    data = {"item": {"body": {"name": "x" * 90}}}
    event = Event(type=STARTED, id=id, subject=str(id), data=data, tenant=TENANT, partition=partition)
    await process.writer.commit(Ingress([(CALL.name, (TENANT, id, "x" * 90))], [event]))


async def measure(process: Process, callers: int, pid: int) -> None:
    stop = time.monotonic() + SECONDS
    latencies: list[float] = []

    async def caller() -> None:
        while (began := time.monotonic()) < stop:
            await call(process)
            latencies.append(time.monotonic() - began)

    flushes, client, backend = process.writer.flushes, time.process_time(), backend_cpu(pid)
    await asyncio.gather(*(caller() for _ in range(callers)))
    client, backend, flushes = (
        time.process_time() - client,
        backend_cpu(pid) - backend,
        process.writer.flushes - flushes,
    )
    done = len(latencies)
    latencies.sort()
    for name, value, unit in (
        ("units_per_flush", done / flushes, "units"),
        ("rate", done / SECONDS, "units/s"),
        ("p50", latencies[done // 2] * 1000, "ms"),
        ("p95", latencies[done * 95 // 100] * 1000, "ms"),
        ("cpu_per_flush_client", client / flushes * 1000, "ms"),
        ("cpu_per_flush_backend", backend / flushes * 1000, "ms"),
        ("cpu_per_unit", (client + backend) / done * 1000, "ms"),
    ):
        print(f"data.flush.c{callers}.{name} {value:.3f} {unit}")


async def run(folder: Path, server: Postgres) -> None:
    environment = {"LINKFLOW_HOME": str(folder / "home"), "LINKFLOW_DATABASE_URL": server.dsn("postgres")}
    settings = Settings.load(environment)
    settings.prepare()
    await migrate(settings, ["bus"])
    await make_tables(settings)
    process = make(settings)
    process.bus.prepare(Starts())
    async with running(process):
        admin = process.database.engine
        pid = await admin.fetchval("select pid from pg_stat_activity where application_name = 'linkflow writer'")
        for callers in CALLERS:
            await measure(process, callers, pid)


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="lf-bench-", dir="/tmp"))
    server = Postgres(folder / "postgres")
    try:
        with (folder / "postgres.log").open("ab") as log:
            server.start(log)
            try:
                import uvloop

                uvloop.run(run(folder, server))
            finally:
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
