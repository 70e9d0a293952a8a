"""What a flush stores, and what it keeps out."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from subgraphs.platform.domain import uuid7
from subgraphs.platform.leases import Lease
from subgraphs.platform.writer import Ingress, Table
from tests.laws.adapters import Adapter
from tests.laws.ground import CALL, OTHER, SEEN, STARTED, TENANT, Process, Starts, running


def lease_of(process: Process) -> Lease:
    lease = process.leases.lease_for(uuid7())
    assert lease is not None
    return lease


@pytest.mark.shows("ES-01")
async def test_a_stream_moves_only_from_the_version_it_is_at(either: Process) -> None:
    run, lease = uuid7(), lease_of(either)
    assert not (await either.writer.commit(units=[either.unit(run, TENANT, lease, 0, "begun")])).evicted
    racing = [either.unit(run, TENANT, lease, 1, word) for word in ("left", "right")]
    outcomes = await asyncio.gather(*(either.writer.commit(units=[unit]) for unit in racing))
    assert sorted(bool(outcome.evicted) for outcome in outcomes) == [False, True]
    assert len(await either.words(run)) == 2
    again = await either.writer.commit(units=[either.unit(run, TENANT, lease, 0, "begun twice")])
    assert again.evicted == {run}


async def test_an_evicted_unit_does_not_hold_up_those_that_share_its_flush(either: Process) -> None:
    lease, good, stale = lease_of(either), [uuid7() for _ in range(8)], uuid7()
    units = [either.unit(run, TENANT, lease, 0, "begun") for run in good]
    old = either.unit(stale, TENANT, Lease(lease.partition, lease.epoch - 1), 0, "stale")
    call = uuid7()
    outcome = await either.writer.commit(
        Ingress(rows=[(CALL.name, (TENANT, call, "x"))]), [*units[:4], old, *units[4:]]
    )
    assert outcome.evicted == {stale}
    assert outcome.failed == {}
    assert [await either.state(run) for run in good] == ["begun"] * 8
    assert await either.state(stale) is None
    assert await either.words(stale) == []
    assert await either.calls(call) == 1


async def test_the_epoch_of_the_decision_counts_though_the_partition_was_won_back(either: Process) -> None:
    lease, run = lease_of(either), uuid7()
    await either.writer.commit(units=[either.unit(run, TENANT, lease, 0, "begun")])
    decided = either.unit(run, TENANT, lease, 1, "decided under the old epoch")
    decided.events.append(either.event("law.run.moved.v1", TENANT, run))
    await either.hand_over(lease.partition, either.leases.id, 2)
    assert (await either.writer.commit(units=[decided])).evicted == {run}
    assert await either.words(run) == ["begun"]
    assert await either.logged(run) == 0
    back = Lease(lease.partition, lease.epoch + 2)
    assert not (await either.writer.commit(units=[either.unit(run, TENANT, back, 1, "decided anew")])).evicted


async def test_a_flush_waits_for_a_takeover_and_then_keeps_out(process: Process) -> None:
    lease, run = lease_of(process), uuid7()
    async with process.database.engine.acquire() as thief, thief.transaction():
        await thief.execute("update bus.lease set epoch = epoch + 1 where part = $1", lease.partition)
        pending = asyncio.create_task(process.writer.commit(units=[process.unit(run, TENANT, lease, 0, "late")]))
        blocked = "select count(*) from pg_locks where not granted and locktype = 'transactionid'"
        while not await process.database.engine.fetchval(blocked):
            await asyncio.sleep(0)
    assert (await pending).evicted == {run}
    assert await process.state(run) is None


async def test_a_poisonous_unit_fails_alone_and_says_why(either: Process) -> None:
    lease, good, bad, call = lease_of(either), uuid7(), uuid7(), uuid7()
    poison = either.unit(bad, TENANT, lease, 0, "overflow", small=99_999)
    good_unit = either.unit(good, TENANT, lease, 0, "begun")
    ingress = Ingress(rows=[(CALL.name, (TENANT, call, "x"))])
    outcomes = await asyncio.gather(
        either.writer.commit(units=[poison]), either.writer.commit(units=[good_unit]), either.writer.commit(ingress)
    )
    assert isinstance(outcomes[0].failed[bad], (OverflowError, asyncpg.DataError))
    assert (await either.state(bad), await either.state(good), await either.calls(call)) == (None, "begun", 1)


STALLED = """
select pid, query_start from pg_stat_activity where application_name = 'linkflow writer'
and datname = current_database() and wait_event_type = 'Lock'
"""


async def test_what_the_database_cannot_store_now_is_not_held_against_its_rows(process: Process) -> None:
    """Somebody cancels the flush again and again; it is sent again, and nothing of it is called poison."""
    lease, run = lease_of(process), uuid7()
    admin = await asyncpg.connect(process.settings.dsn("lf_admin"))
    try:
        async with process.database.engine.acquire() as holder, holder.transaction():
            await holder.execute("select 1 from bus.lease where part = $1 for update", lease.partition)
            pending = asyncio.create_task(process.writer.commit(units=[process.unit(run, TENANT, lease, 0, "begun")]))
            seen: set[Any] = set()
            while len(seen) < 4 and not pending.done():
                for row in await admin.fetch(STALLED):
                    if row["query_start"] not in seen:
                        seen.add(row["query_start"])
                        await admin.execute("select pg_cancel_backend($1)", row["pid"])
        outcome = await pending
    finally:
        await admin.close()
    assert (outcome.failed, outcome.evicted) == ({}, frozenset())
    assert await process.words(run) == ["begun"]


async def test_a_broken_promise_of_the_journal_is_poison_too(either: Process) -> None:
    lease, run = lease_of(either), uuid7()
    await either.writer.commit(units=[either.unit(run, TENANT, lease, 0, "begun")])
    twice = either.unit(run, TENANT, lease, 1, "moved")
    twice.rows.append(twice.rows[0])
    outcome = await either.writer.commit(units=[twice])
    assert isinstance(outcome.failed[run], asyncpg.UniqueViolationError)
    assert await either.words(run) == ["begun"]


async def test_an_ingress_that_fails_raises_at_its_caller_only(either: Process) -> None:
    fine, wrong = uuid7(), uuid7()
    results = await asyncio.gather(
        either.writer.commit(Ingress(rows=[(CALL.name, (TENANT, wrong, 7))])),
        either.writer.commit(Ingress(rows=[(CALL.name, (TENANT, fine, "x"))])),
        return_exceptions=True,
    )
    assert isinstance(results[0], asyncpg.DataError)
    assert await either.calls(fine) == 1


async def test_a_flush_serves_many_tenants_at_once(either: Process) -> None:
    ids = [uuid7() for _ in range(16)]
    before = either.writer.flushes
    await asyncio.gather(
        *(
            either.writer.commit(Ingress(rows=[(CALL.name, (TENANT if at % 2 else OTHER, call, "x"))]))
            for at, call in enumerate(ids)
        )
    )
    assert either.writer.flushes - before <= 2
    assert sum([await either.calls(call) for call in ids]) == 16


@pytest.mark.shows("WH-15")
async def test_a_claim_is_won_once_until_it_runs_out(either: Process) -> None:
    def claim(key: str, id: UUID, seconds: float) -> Ingress:
        until = datetime.now(UTC) + timedelta(seconds=seconds)
        event = either.event("law.call.received.v1", TENANT, id)
        return Ingress([(CALL.name, (TENANT, id, key))], [event], (SEEN.name, (TENANT, key, id, until)))

    ids = [uuid7() for _ in range(10)]
    together = await asyncio.gather(*(either.writer.commit(claim("same", id, 60)) for id in ids))
    assert [outcome.claimed for outcome in together].count(True) == 1
    later = await either.writer.commit(claim("same", uuid7(), 60))
    assert not later.claimed
    assert sum([await either.calls(id) for id in ids]) == 1
    assert await either.logged(*ids) == 1
    assert (await either.writer.commit(claim("short", uuid7(), -1))).claimed
    assert (await either.writer.commit(claim("short", uuid7(), 60))).claimed
    assert not (await either.writer.commit(claim("short", uuid7(), 60))).claimed


async def test_a_lost_claim_starts_nothing(adapter: Adapter) -> None:
    process, starts = adapter.make(), Starts()
    process.bus.prepare(starts)
    async with running(process):
        lease = lease_of(process)

        async def call(key: str) -> tuple[bool, UUID]:
            event = process.event(STARTED, TENANT)
            object.__setattr__(event, "partition", lease.partition)
            until = datetime.now(UTC) + timedelta(minutes=1)
            claim = (SEEN.name, (TENANT, key, event.id, until))
            return (await process.writer.commit(Ingress(events=[event], claim=claim))).claimed, event.id

        outcomes = await asyncio.gather(*(call("one key") for _ in range(6)))
        for claimed, run in outcomes:
            assert (await process.state(run) == "begun") is claimed
        assert [claimed for claimed, _ in outcomes].count(True) == 1


@pytest.mark.shows("EV-03")
async def test_an_event_and_the_stream_it_begins_share_one_flush(adapter: Adapter) -> None:
    process, starts = adapter.make(), Starts()
    process.bus.prepare(starts)
    async with running(process):
        event = process.event(STARTED, TENANT)
        before = process.writer.flushes
        await process.writer.commit(Ingress(rows=[(CALL.name, (TENANT, event.id, "x"))], events=[event]))
        assert process.writer.flushes == before + 1
        assert starts.settled_as == {event.id: [True]}
        assert await process.state(event.id) == "begun"


async def cut_writers(process: Process, stop: asyncio.Event) -> None:
    """Ends the writer's session again and again."""
    admin = await asyncpg.connect(process.settings.dsn("lf_admin"))
    try:
        while process.leases.incarnations < 5:
            await admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where application_name = 'linkflow writer' and datname = current_database()"
            )
            await asyncio.sleep(0.05)
    finally:
        stop.set()
        await admin.close()


async def publish_until(process: Process, stop: asyncio.Event) -> list[UUID]:
    sent = []
    while not stop.is_set():
        event = process.event("law.call.received.v1", TENANT)
        row = (CALL.name, (TENANT, event.id, "x"))
        await process.writer.commit(Ingress(rows=[row], events=[event]))
        sent.append(event.id)
    return sent


async def begin_until(process: Process, stop: asyncio.Event) -> tuple[int, list[UUID]]:
    """Begins runs; how many were said to be evicted and are there, and which were said to be written."""
    lies, written = 0, []
    while not stop.is_set():
        lease = process.leases.lease_for(uuid7())
        if lease is None:
            await asyncio.sleep(0.01)
            continue
        run = uuid7()
        outcome = await process.writer.commit(units=[process.unit(run, TENANT, lease, 0, "begun")])
        if outcome.evicted:
            lies += await process.state(run) is not None
        else:
            written.append(run)
    return lies, written


@pytest.mark.shows("WH-04")
async def test_a_cut_connection_loses_and_doubles_nothing(process: Process) -> None:
    """The writer's session is ended while callers commit; each caller learns the truth."""
    stop = asyncio.Event()
    publishing = [asyncio.create_task(publish_until(process, stop)) for _ in range(4)]
    beginning = [asyncio.create_task(begin_until(process, stop)) for _ in range(2)]
    await cut_writers(process, stop)
    sent = [id for task in publishing for id in await task]
    logged = await process.database.engine.fetch(
        "select id, count(*) as n from bus.log where type = 'law.call.received.v1' and id = any($1) group by id", sent
    )
    assert {row["n"] for row in logged} == {1}
    assert len(logged) == len(sent) > 0
    for task in beginning:
        lies, written = await task
        assert lies == 0
        assert [await process.state(run) for run in written] == ["begun"] * len(written)


def test_a_table_is_declared_once_and_whole() -> None:
    with pytest.raises(ValueError, match="columns of a head"):
        Table("x.y", (("id", "uuid"),), "head", ("id",))
    with pytest.raises(ValueError, match="none of"):
        Table("x.y", (("id", "uuid"),), "heap", ("id",))
    with pytest.raises(ValueError, match="key"):
        Table("x.y", (("id", "uuid"),), "insert", ("nothing",))
