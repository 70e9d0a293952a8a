"""Partitions have one owner, whatever happens to processes and connections."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from subgraphs.platform.domain import uuid7
from subgraphs.platform.leases import Lease
from subgraphs.platform.settings import Settings
from tests.laws.adapters import Adapter
from tests.laws.ground import TENANT, Process, make, process_on, running

EVERY = list(range(16))
WORKER = Path(__file__).with_name("worker.py")


async def settled(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


class Worker:
    """A real process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def ask(self, word: str) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())
        await self.process.stdin.drain()
        return await self.answer()

    async def answer(self) -> Any:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            try:
                return json.loads(line)
            except ValueError:
                continue  # a log line
        raise EOFError


@asynccontextmanager
async def worker_on(settings: Settings) -> AsyncIterator[Worker]:
    environment = os.environ | {
        "LINKFLOW_HOME": str(settings.home),
        "LINKFLOW_DATABASE_URL": str(settings.database_url),
        "LINKFLOW_LEASE_SECONDS": str(settings.lease_seconds),
    }
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(WORKER), stdin=pipe, stdout=pipe, env=environment
    )
    worker = Worker(process)
    try:
        assert await worker.answer() == "ready"
        yield worker
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def half(process: Process, worker: Worker) -> None:
    """Until both own their share, and all of it is theirs."""
    while sorted([*process.leases.owned, *(await worker.ask("owned"))]) != EVERY or len(process.leases.owned) != 8:
        await asyncio.sleep(0.02)


async def test_a_process_alone_owns_everything_and_two_share(adapter: Adapter) -> None:
    async with running(adapter.make()) as one:
        assert sorted(one.leases.owned) == EVERY
        async with running(adapter.make()) as two:
            await settled(lambda: len(one.leases.owned) == len(two.leases.owned) == 8)
            assert sorted([*one.leases.owned, *two.leases.owned]) == EVERY
            assert sorted(one.lost) == sorted(two.leases.owned)
            async with running(adapter.make()) as three:
                everybody = (one, two, three)
                await settled(lambda: sorted(len(process.leases.owned) for process in everybody) == [5, 5, 6])
        await settled(lambda: sorted(one.leases.owned) == EVERY)


async def test_a_process_that_only_asks_leaves_partitions_to_those_that_work(adapter: Adapter) -> None:
    async with running(adapter.make(works=False)) as asking, running(adapter.make()) as working:
        await settled(lambda: working.leases.peers == asking.leases.peers == 1)
        await settled(lambda: sorted(working.leases.owned) == EVERY)
        assert not asking.leases.owned
        assert asking.leases.lease_for(uuid7()) is None


@pytest.mark.shows("EX-01")
async def test_what_a_process_owns_is_what_the_database_says(adapter: Adapter) -> None:
    """The answer to a claim or to a release may be lost: the database did it, and the process does not know."""
    async with running(adapter.make()) as one, running(adapter.make()) as two:
        await settled(lambda: len(one.leases.owned) == len(two.leases.owned) == 8)
        left, right = min(one.leases.owned), min(two.leases.owned)
        epochs = {part: lease.epoch for process in (one, two) for part, lease in process.leases.owned.items()}
        await one.hand_over(left, None)
        await one.hand_over(right, one.leases.id, 1)

        def agreed() -> bool:
            owned = {**one.leases.owned, **two.leases.owned}
            fresh = all(part in owned and owned[part].epoch > epochs[part] for part in (left, right))
            return fresh and len(one.leases.owned) == len(two.leases.owned) == 8 and sorted(owned) == EVERY

        await settled(agreed)
        owners = await one.owners()
        assert {part for part, owner in owners.items() if owner == one.leases.id} == set(one.leases.owned)


async def test_an_id_keeps_its_partition_and_its_lease(either: Process) -> None:
    ids = [uuid7() for _ in range(64)]
    assert [either.leases.partition_of(id) for id in ids] == [id.int % 16 for id in ids]
    assert [either.leases.lease_for(id) for id in ids] == [either.leases.lease_for(id) for id in ids]
    assert len({lease.partition for id in ids if (lease := either.leases.lease_for(id))}) > 8


@pytest.mark.parametrize("how", ["killed", "cut", "stopped"])
async def test_the_partitions_of_a_worker_that_dies_or_stalls_are_taken_over(law_settings: Settings, how: str) -> None:
    """A kill and a cut connection show at once by the lock, a stopped process after its lease; epochs rise."""
    async with process_on(law_settings) as one, worker_on(law_settings) as worker:
        await half(one, worker)
        begun = await worker.ask("begin")
        partition, run = begun["partition"], UUID(begun["run"])
        before = await one.database.engine.fetchval("select epoch from bus.lease where part = $1", partition)
        own = set(one.leases.owned)
        if how == "killed":
            worker.process.kill()
            await settled(lambda: sorted(one.leases.owned) == EVERY)
        elif how == "stopped":
            worker.process.send_signal(signal.SIGSTOP)
            await settled(lambda: sorted(one.leases.owned) == EVERY)
        else:
            admin = await asyncpg.connect(law_settings.dsn("lf_admin"))
            await admin.execute(
                "select pg_terminate_backend(l.pid) from pg_locks l join bus.worker w "
                "on l.objid = (w.lock & 4294967295)::oid and l.classid = (w.lock >> 32)::oid "
                "where w.id <> $1 and l.granted and l.locktype = 'advisory'",
                one.leases.id,
            )
            await admin.close()
            while (await worker.ask("lives"))["incarnations"] < 2:
                await asyncio.sleep(0.01)
        if how == "cut":
            assert set((await worker.ask("lives"))["lost"]) >= set(EVERY) - own
            assert (await worker.ask("commit")) == {"evicted": True}
            await half(one, worker)
            return
        lease = one.leases.owned[partition]
        assert lease.epoch > before
        mine = one.unit(run, UUID(begun["tenant"]), lease, 1, "decided by the successor")
        assert not (await one.writer.commit(units=[mine])).evicted
        if how == "stopped":
            worker.process.send_signal(signal.SIGCONT)
            assert (await worker.ask("commit")) == {"evicted": True}
            await half(one, worker)
            assert (await worker.ask("lives"))["incarnations"] == 2
        words = await one.database.engine.fetch("select word from law.journal where run = $1 order by version", run)
        assert [row["word"] for row in words] == ["begun", "decided by the successor"]


async def test_a_stopped_worker_cannot_write_what_it_decided_before(law_settings: Settings) -> None:
    """Nobody else writes the stream: the lease alone keeps the sleeper out."""
    async with process_on(law_settings) as one, worker_on(law_settings) as worker:
        await half(one, worker)
        begun = await worker.ask("begin")
        worker.process.send_signal(signal.SIGSTOP)
        await settled(lambda: sorted(one.leases.owned) == EVERY)
        worker.process.send_signal(signal.SIGCONT)
        assert (await worker.ask("commit")) == {"evicted": True}
        count = await one.database.engine.fetchval(
            "select count(*) from law.journal where run = $1", UUID(begun["run"])
        )
        assert count == 1


async def test_who_is_declared_dead_forgets_and_returns_as_another(process: Process) -> None:
    await settled(lambda: sorted(process.leases.owned) == EVERY)
    former, lease = process.leases.id, process.leases.lease_for(uuid7())
    assert lease is not None
    await process.database.engine.execute("update bus.worker set alive = false where id = $1", former)
    await settled(lambda: process.leases.id != former and sorted(process.leases.owned) == EVERY)
    assert sorted(process.lost) == EVERY
    stale = process.unit(uuid7(), TENANT, lease, 0, "decided in a former life")
    assert (await process.writer.commit(units=[stale])).evicted == {stale.id}
    fresh = process.leases.owned[lease.partition]
    assert fresh.epoch > lease.epoch
    assert not (await process.writer.commit(units=[process.unit(uuid7(), TENANT, fresh, 0, "anew")])).evicted


async def test_a_listener_that_fails_costs_nobody_a_partition(law_settings: Settings) -> None:
    process, heard = make(law_settings), []

    async def broken(lease: Lease) -> None:
        raise RuntimeError("cannot load")

    async def works(lease: Lease) -> None:
        heard.append(lease.partition)

    process.leases.watch(broken, lambda partition: None)
    process.leases.watch(works, lambda partition: None)
    async with running(process):
        await settled(lambda: sorted(heard) == EVERY)
