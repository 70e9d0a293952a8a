"""What the runner asks of its store, on PostgreSQL and on what the simulator has in its place."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import insert

from subgraphs.execution import storage
from subgraphs.execution.domain import CODES
from subgraphs.execution.runner.store import PostgresStore, Rows, Store
from subgraphs.platform.bus import Bus
from subgraphs.platform.database import Database
from subgraphs.platform.domain import uuid7
from subgraphs.platform.leases import Lease, Leases
from subgraphs.platform.writer import Ingress, Unit, Writer
from tests.laws.ground import TENANT, Process, running
from tests.simulation.driver import SimDatabase, SimWriter
from tests.simulation.process import TABLES
from tests.simulation.server import Server
from tests.simulation.store import SimStore
from tests.simulation.wire import Wire


@dataclass
class Desk:
    """A store, and the writer that fills it."""

    store: Store
    process: Process

    def unit(self, run: UUID, status: str, version: int, *, expected: int = 0) -> Unit:
        lease = self.lease
        known = {
            "tenant": TENANT,
            "id": run,
            "part": lease.partition,
            "version": version,
            "epoch": lease.epoch,
            "name": "Law",
            "mode": "manual",
            "status": CODES[status],
            "started_at": datetime.now(UTC),
        }
        head = tuple(known.get(name) for name in storage.RUN.names)
        unit = Unit(TENANT, run, lease.partition, lease.epoch, expected, version, storage.RUN.name, head)
        unit.rows.append((storage.JOURNAL.name, (TENANT, run, version, lease.epoch, b"[%d]" % version)))
        return unit

    @property
    def lease(self) -> Lease:
        return self.process.leases.owned[0]

    async def commit(self, *units: Unit, ingress: Ingress | None = None) -> None:
        outcome = await self.process.writer.commit(ingress, units)
        assert (outcome.evicted, outcome.failed) == (frozenset(), {})


@pytest.fixture(params=["postgres", "simulated"])
async def desk(request: pytest.FixtureRequest, fresh_settings: Callable[..., Any]) -> AsyncIterator[Desk]:
    database: Any
    if request.param == "postgres":
        settings = await fresh_settings()
        database, kind = Database(settings), Writer
    else:
        settings = SimpleNamespace(partitions=16, lease_seconds=1, claim_check_bytes=1 << 20)
        server = Server(time.time)
        for table in TABLES:
            server.register(table)
        database, kind = SimDatabase(Wire(server), settings, uuid4().hex), SimWriter
    writer = kind(database, settings)
    for table in storage.WRITTEN:
        writer.register(table)
    leases = Leases(database, writer, settings)
    leases.watch(_nothing, lambda partition: None)
    async with AsyncExitStack() as stack:
        process = Process(settings, database, writer, leases, Bus(database, writer, leases, settings))
        await stack.enter_async_context(running(process))
        simulated = request.param == "simulated"
        store = SimStore(database.engine) if simulated else PostgresStore(cast(Rows, database.engine))
        yield Desk(store, process)


async def _nothing(lease: Lease) -> None:
    return None


async def test_runs_are_found_by_partition_while_somebody_has_to_go_on_with_them(desk: Desk) -> None:
    ids = sorted(uuid7() for _ in range(4))
    runs = dict(zip(("running", "waiting", "succeeded", "queued"), ids, strict=True))
    await desk.commit(*(desk.unit(run, status, 1) for status, run in runs.items()))
    assert await desk.store.open(0) == [(TENANT, runs["running"])]
    assert await desk.store.open(1) == []
    unfinished = await desk.store.unfinished(10)
    assert unfinished == [(TENANT, runs[status]) for status in ("queued", "waiting", "running")]
    assert [await desk.store.final((TENANT, run)) for run in runs.values()] == [False, False, True, False]
    assert not await desk.store.final((TENANT, uuid7()))


async def test_a_run_is_read_back_as_it_was_committed(desk: Desk) -> None:
    run, other, unknown = sorted(uuid7() for _ in range(3))
    await desk.commit(desk.unit(run, "running", 2), desk.unit(other, "running", 1))
    for version in (3, 5):
        unit = desk.unit(run, "running", version, expected=version - 1 if version == 3 else 3)
        unit.rows.append((storage.SNAPSHOT.name, (TENANT, run, version, b"snapshot %d" % version)))
        await desk.commit(unit)
    keys = [(TENANT, run), (TENANT, unknown), (TENANT, other)]
    assert {row["id"]: row["version"] for row in await desk.store.heads(keys)} == {run: 5, other: 1}
    assert {row["id"]: row["version"] for row in await desk.store.versions(keys)} == {run: 5, other: 1}
    assert [(row["run"], row["version"], bytes(row["data"])) for row in await desk.store.snapshots(keys)] == [
        (run, 5, b"snapshot 5")
    ]
    chunks = await desk.store.chunks(keys, [2, 0, 0])
    found = [(row["tenant"], row["run"], row["version"], bytes(row["data"])) for row in chunks]
    assert found == [(TENANT, run, 3, b"[3]"), (TENANT, run, 5, b"[5]"), (TENANT, other, 1, b"[1]")]


async def test_timers_are_due_by_the_clock_of_the_store_and_go_with_their_commit(desk: Desk) -> None:
    run, now = uuid7(), datetime.now(UTC)
    unit = desk.unit(run, "waiting", 1)
    for name, seconds in (("late", -1), ("later", -2), ("far", 3600)):
        unit.rows.append((storage.TIMER.name, (TENANT, run, name, 0, now + timedelta(seconds=seconds))))
    await desk.commit(unit)
    assert [row["name"] for row in await desk.store.due([0])] == ["later", "late"]
    assert list(await desk.store.due([1, 2])) == []
    await desk.store.over((TENANT, run), "late")
    assert [row["name"] for row in await desk.store.due([0])] == ["later", "late"], "the run goes on"
    moved = desk.unit(run, "succeeded", 2, expected=1)
    moved.deletes.append((storage.TIMER.name, (TENANT, run, "later")))
    moved.rows.append((storage.TIMER.name, (TENANT, run, "far", 0, now - timedelta(seconds=5))))
    await desk.commit(moved)
    assert [row["name"] for row in await desk.store.due([0])] == ["far", "late"]
    await desk.store.over((TENANT, run), "late")
    assert [row["name"] for row in await desk.store.due([0])] == ["far"]


async def test_letters_come_as_written_and_go_with_their_effect(desk: Desk) -> None:
    run, letters = uuid7(), [uuid4() for _ in range(3)]
    await desk.commit(desk.unit(run, "running", 1))
    for id in letters:
        async with desk.process.database.write(TENANT) as transaction:
            data = msgspec.json.encode({"reason": str(id)}).decode()
            row = {"tenant": TENANT, "run": run, "id": id, "part": 0, "kind": "cancel", "data": data}
            await transaction.execute(insert(storage.inbox).values(row))
    assert [row["id"] for row in await desk.store.letters([0, 3])] == letters
    assert list(await desk.store.letters([1])) == []
    moved = desk.unit(run, "succeeded", 2, expected=1)
    moved.deletes.append((storage.INBOX.name, (TENANT, run, letters[0])))
    await desk.commit(moved)
    await desk.store.discard((TENANT, run), letters[2])
    (left,) = await desk.store.letters([0])
    assert (left["run"], left["id"], left["kind"]) == (run, letters[1], "cancel")
    assert msgspec.json.decode(left["data"]) == {"reason": str(letters[1])}


async def test_releases_are_found_and_old_keys_go(desk: Desk) -> None:
    workflow = uuid7()
    for number in (1, 2):
        async with desk.process.database.write(TENANT) as transaction:
            row = {"workflow": workflow, "release": number, "name": "Law", "definition": "{}", "types": "{}"}
            await transaction.execute(insert(storage.release).values({"tenant": TENANT, **row}))
    found = await desk.store.release(TENANT, workflow, 1)
    assert found is not None
    assert (found["release"], found["name"]) == (1, "Law")
    assert await desk.store.release(TENANT, workflow, 3) is None
    assert [row["release"] for row in await desk.store.newest_releases(5)] == [2]
    for key, seconds in (("old", -1), ("new", 60)):
        until = datetime.now(UTC) + timedelta(seconds=seconds)
        await desk.commit(ingress=Ingress(claim=(storage.START_KEY.name, (TENANT, key, uuid7(), b"same", until))))
    await desk.store.expire()
    for key, free in (("old", True), ("new", False)):
        until = datetime.now(UTC) + timedelta(seconds=60)
        claim = (storage.START_KEY.name, (TENANT, key, uuid7(), b"same", until))
        assert (await desk.process.writer.commit(Ingress(claim=claim))).claimed is free
