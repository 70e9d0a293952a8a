"""Several processes on one database: runs go on elsewhere, are watched and cancelled from anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from subgraphs.engine.run import Cancel
from subgraphs.execution.runner import live
from subgraphs.execution.runner.live import Live, cut
from subgraphs.platform.settings import Settings
from tests.subgraphs.execution.world import World, definition, eventually, opened

STAIRS = definition("a:manual", "b:call", "c:call", "d:set", edges="a>b b>c c>d")


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies that tests hold are not waited for when a process closes."""
    monkeypatch.setattr("subgraphs.execution.service.GRACE", 0.1)


@pytest.fixture
async def pair(fresh_settings: Callable[..., Any]) -> AsyncIterator[tuple[World, Callable[[], Any], AsyncExitStack]]:
    """A first process that owns everything, and what opens a second."""
    settings: Settings = await fresh_settings(lease_seconds=1)
    async with AsyncExitStack() as stack:
        first_stack = await stack.enter_async_context(AsyncExitStack())
        first = await first_stack.enter_async_context(opened(settings))
        await eventually(lambda: len(first.ground.leases.owned), settings.partitions)

        async def second() -> World:
            found = await stack.enter_async_context(opened(settings))
            found.caller = first.caller
            return found

        yield first, second, first_stack


def elsewhere(first: World, second: World) -> Callable[[], bool]:
    total = first.ground.settings.partitions
    return lambda: (
        len(first.ground.leases.owned) + len(second.ground.leases.owned) == total and bool(second.ground.leases.owned)
    )


@pytest.mark.shows("EX-01", "ES-02", "ES-03")
async def test_the_next_owner_goes_on_exactly_where_the_journal_ends(
    pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SNAPSHOT_EVERY", 2)
    first, open_second, first_stack = pair
    first.executor.gate("c")
    begun = await first.start(await first.release(STAIRS))
    async for event in first.stream(begun["id"]):
        if event["node"] == "c":
            break
    kept = await first.ground.database.engine.fetchval(
        "select count(*) from execution.snapshot where run = $1", UUID(begun["id"])
    )
    assert kept > 0
    await first_stack.aclose()
    assert first.executor.stopped == ["c"]
    second = await open_second()
    run = await second.finished(begun["id"])
    assert run["status"] == "SUCCEEDED"
    attempts = {step["node"]: [(a["number"], a["recovered"]) for a in step["attempts"]] for step in run["steps"]}
    assert attempts == {"a": [(1, False)], "b": [(1, False)], "c": [(1, False), (2, True)], "d": [(1, False)]}
    assert [request.node for request in second.executor.requests] == ["c"]
    (again,) = second.executor.requests
    (former,) = [request for request in first.executor.requests if request.node == "c"]
    assert (again.idempotency_key, again.now, again.seed) == (former.idempotency_key, former.now, former.seed)


@pytest.mark.shows("EX-21")
async def test_a_timer_fires_in_the_next_process(pair: Any) -> None:
    first, open_second, first_stack = pair
    graph = definition("a:manual", ("pause:wait", {"seconds": 3}, {}), "c:set", edges="a>pause pause>c")
    begun = await first.start(await first.release(graph))
    await first_stack.aclose()
    second = await open_second()
    run = await second.finished(begun["id"])
    assert run["status"] == "SUCCEEDED"
    assert 3000 <= run["steps"][1]["durationMs"] < 4000


@pytest.mark.shows("RT-03", "EX-08")
async def test_a_run_is_watched_and_cancelled_through_a_process_that_does_not_own_it(pair: Any) -> None:
    first, open_second, _ = pair
    second = await open_second()
    await eventually(elsewhere(first, second))
    for world in (first, second):
        world.executor.gate("c")
    workflow = await first.release(STAIRS)
    begun = await first.start(workflow)
    owner, other = first, second
    assert UUID(begun["id"]) in owner.ground.ports["execution"].runs
    seen = []
    async for event in other.stream(begun["id"]):
        seen.append(event)
        if event["node"] == "c":
            cancel = "mutation($id: ID!) { cancelExecution(input: {executionId: $id}) { __typename } }"
            assert (await other.ask(cancel, id=begun["id"]))["cancelExecution"]["__typename"] == "Execution"
    assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))
    assert seen[-1]["status"] == "CANCELLED"
    assert seen == await owner.events(begun["id"])
    await eventually(lambda: owner.executor.stopped, ["c"])


@pytest.mark.shows("ES-01")
async def test_two_appends_to_one_version_have_one_winner(pair: Any) -> None:
    """Two holders of the same state decide differently; the second commit is refused whole."""
    first, _, _ = pair
    first.executor.gate("b")
    begun = await first.start(await first.release(STAIRS))
    runner = first.ground.ports["execution"]
    mine = runner.runs[UUID(begun["id"])]
    await eventually(lambda: mine.pump is None)
    units = []
    for reason in ("one", "two"):
        (stored,) = await runner._loading().runs([(first.tenant, mine.run.id)])
        loaded = stored.run
        rival = Live(loaded, mine.lease, committed=loaded.version, timers=dict(loaded.timers))
        rival.apply(Cancel(at=1, reason=reason))
        units.append(await live.complete(rival, cut(rival), first.ground.objects, 1_000_000))
    outcomes = await asyncio.gather(*(first.ground.writer.commit(units=[unit]) for unit in units))
    assert sorted(len(outcome.evicted) for outcome in outcomes) == [0, 1]
    rows = await first.ground.database.engine.fetch(
        "select version, data from execution.journal where run = $1 order by version", mine.run.id
    )
    assert [row["version"] for row in rows] == sorted({row["version"] for row in rows})
    assert sum(b"finished.v1" in bytes(row["data"]) for row in rows) == 1


@pytest.mark.shows("EX-01")
async def test_what_was_decided_under_a_lost_lease_is_refused_though_the_lease_was_won_back(pair: Any) -> None:
    first, _, _ = pair
    first.executor.gate("b")
    begun = await first.start(await first.release(STAIRS))
    run = UUID(begun["id"])
    engine = first.ground.database.engine
    await eventually(lambda: [request.node for request in first.executor.requests], ["b"])
    before = await engine.fetchrow("select version, epoch, part from execution.run where id = $1", run)
    assert before is not None
    await engine.execute("update bus.lease set epoch = epoch + 1 where part = $1", before["part"])
    first.executor.gate("b").set()
    await eventually(lambda: len(first.executor.stopped) or run not in first.ground.ports["execution"].runs)
    after = await engine.fetchrow("select version, epoch, part from execution.run where id = $1", run)
    assert after == before
    await engine.execute("update bus.lease set epoch = epoch - 1 where part = $1", before["part"])
    opened_run = await first.finished(run)
    assert opened_run["status"] == "SUCCEEDED"
    rows = await engine.fetch("select version from execution.journal where run = $1 order by version", run)
    assert [row["version"] for row in rows] == sorted({row["version"] for row in rows})


@pytest.mark.shows("EX-02")
async def test_a_run_that_cannot_be_read_back_fails_typed_and_holds_nobody_up(pair: Any) -> None:
    first, open_second, first_stack = pair
    for name in ("b", "c"):
        first.executor.gate(name)
    workflow = await first.release(STAIRS)
    broken, sound = [(await first.start(workflow))["id"] for _ in range(2)]
    await eventually(lambda: len(first.executor.requests), 2)
    deep = b'[{"e":"step.succeeded.v1","at":1,"node":"b","attempt":1,"outputs":{"main":[[' + b'{"n":' * 5000
    admin = await asyncpg.connect(first.ground.settings.dsn("lf_admin"))
    await admin.execute("update execution.journal set data = $1 where run = $2", deep, UUID(broken))
    await admin.close()
    await first_stack.aclose()
    second = await open_second()
    assert (await second.finished(sound))["status"] == "SUCCEEDED"
    query = "query($id: ID!) { execution(id: $id) { status error { code } } }"

    async def seen() -> Any:
        return (await second.ask(query, id=broken))["execution"]

    await eventually(seen, {"status": "FAILED", "error": {"code": "execution.unreadable"}})


@pytest.mark.shows("EX-01")
async def test_a_process_told_to_stop_lets_running_bodies_end(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subgraphs.execution.service.GRACE", 10.0)
    first, open_second, first_stack = pair
    first.executor.gate("b")
    begun = await first.start(await first.release(STAIRS))
    await eventually(lambda: len(first.executor.requests), 1)
    closing = asyncio.create_task(first_stack.aclose())
    await eventually(lambda: first.ground.ports["execution"].draining)
    first.executor.gate("b").set()
    await closing
    assert first.executor.stopped == []
    second = await open_second()
    run = await second.finished(begun["id"])
    attempts = {step["node"]: len(step["attempts"]) for step in run["steps"]}
    assert attempts["b"] == 1
    assert [request.node for request in second.executor.requests] == ["c"]


@pytest.mark.shows("EX-01")
async def test_a_fault_of_ours_while_a_run_moves_does_not_strand_it(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subgraphs.execution.runner.runner.STUMBLED", 0.05)
    first, _, _ = pair
    runner = first.ground.ports["execution"]
    gate = first.executor.gate("b")
    begun = await first.start(await first.release(STAIRS))
    await eventually(lambda: len(first.executor.requests), 1)
    sound, stumbled = runner.advance, list[UUID]()

    def advance(live: Any, *words: Any) -> None:
        if not stumbled:
            stumbled.append(live.run.id)
            raise KeyError("a fault of ours")
        sound(live, *words)

    monkeypatch.setattr(runner, "advance", advance)
    gate.set()
    assert (await first.finished(begun["id"]))["status"] == "SUCCEEDED"
    assert stumbled == [UUID(begun["id"])]
