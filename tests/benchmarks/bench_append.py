"""How many events a second the log takes and gives back: publishers of a group commit, then consumers that catch up.

Run by `make bench`. A server with fsync in a folder of its own; prints one line a figure: name, value, unit.
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

from subgraphs.platform.bus import Bus
from subgraphs.platform.database import Database, Transaction
from subgraphs.platform.domain import Event, uuid7
from subgraphs.platform.leases import Leases
from subgraphs.platform.migrate import migrate
from subgraphs.platform.postgres import Postgres
from subgraphs.platform.settings import Settings
from subgraphs.platform.writer import Writer

EVENTS = int(os.environ.get("EVENTS") or 20_000)
WIDTH = 256
KIND = "bench.thing.happened.v1"


def say(name: str, value: float, unit: str) -> None:
    print(f"{name:48} {value:>10.0f} {unit}", flush=True)


async def publish(bus: Bus, at: int, many: int) -> None:
    """One publisher: one event a call, the next when that is on disk."""
    tenant = uuid7()
    for _ in range(many):
        subject = uuid7()
        event = Event(type=KIND, subject=str(subject), tenant=tenant, partition=subject.int % 16, data={"at": at})
        await bus.publish(event)


def made(settings: Settings) -> tuple[Database, Writer, Leases, Bus]:
    database = Database(settings)
    writer = Writer(database, settings)
    leases = Leases(database, writer, settings)
    return database, writer, leases, Bus(database, writer, leases, settings)


async def main(settings: Settings) -> None:
    await migrate(settings, ["bus"])
    database, writer, leases, bus = made(settings)
    handled, done = [0], asyncio.Event()

    async def handle(event: Event, transaction: Transaction) -> None:
        handled[0] += 1
        if handled[0] == EVENTS:
            done.set()

    bus.consume("bench", [KIND], handle)
    for part in (database, writer, leases):
        await part.open()
    began = time.perf_counter()
    await asyncio.gather(*(publish(bus, at, EVENTS // WIDTH) for at in range(WIDTH)))
    await publish(bus, 0, EVENTS % WIDTH)
    say("events appended, 256 publishers, one a call", EVENTS / (time.perf_counter() - began), "/s")
    began = time.perf_counter()
    await bus.open()
    await done.wait()
    say("events a consumer catches up with", EVENTS / (time.perf_counter() - began), "/s")
    for closed in (bus, leases, writer, database):
        await closed.close()


if __name__ == "__main__":
    scratch = Path(tempfile.mkdtemp(prefix="lf-append-", dir="/tmp"))
    scratch.chmod(0o711)
    server = Postgres(scratch / "postgres")
    try:
        server.start()
        home = {"LINKFLOW_HOME": str(scratch / "home"), "LINKFLOW_DATABASE_URL": server.dsn("postgres")}
        found = Settings.load(home)
        found.prepare()
        asyncio.run(main(found))
    finally:
        server.stop()
        shutil.rmtree(scratch, ignore_errors=True)
