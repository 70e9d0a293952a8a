"""The standing check: each kind of violation, planted by hand, is found; a busy system has none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest

from subgraphs.engine.step import StepError
from subgraphs.execution import events
from subgraphs.execution.invariants import INVARIANTS, Invariants, hole
from subgraphs.platform.domain import uuid7
from tests.subgraphs.execution.world import World, definition, eventually, opened, someone

PLAIN = definition("a:manual", "b:set", edges="a>b")
WAITS = definition("a:manual", ("w:wait", {"seconds": 3600}, {}), edges="a>w")
FINDINGS = """query($first: Int = 50, $after: String) { invariantFindings(first: $first, after: $after) {
  edges { node { kind says subject detail execution { id } } } pageInfo { hasNextPage endCursor } } }"""


@pytest.fixture
async def house(fresh_settings: Callable[..., Any]) -> AsyncIterator[World]:
    async with opened(await fresh_settings()) as found:
        yield found


@pytest.fixture
async def admin(house: World) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(house.ground.settings.dsn("lf_admin"))
    yield connection
    await connection.close()


async def look(world: World, times: int = 3) -> None:
    check: Invariants = world.ground.ports["invariants"]
    for _ in range(times):
        await check.look()


async def found(world: World, caller: Any = None) -> dict[str, str]:
    edges = (await world.ask(FINDINGS, caller))["invariantFindings"]["edges"]
    return {edge["node"]["kind"]: edge["node"]["subject"] for edge in edges}


def violations(world: World) -> dict[str, float]:
    registry = world.ground.telemetry.metrics.registry
    counts = {
        kind: registry.get_sample_value("linkflow_invariant_violations", {"invariant": kind}) for kind in INVARIANTS
    }
    return {kind: count for kind, count in counts.items() if count}


async def ended(world: World) -> str:
    run = (await world.start(await world.release(PLAIN)))["id"]
    await world.finished(run)
    return str(run)


@pytest.mark.shows("EX-30", "EV-15")
async def test_a_busy_system_has_no_findings(house: World) -> None:
    """Runs that end well, fail, retry, wait and are under way while the check looks on."""
    plain, waits = await house.release(PLAIN), await house.release(WAITS)
    retry = {"retry": {"attempts": 3, "backoff": "fixed", "delay": "PT0.05S"}}
    calls = await house.release(definition("a:manual", ("c:call", {}, retry), edges="a>c"))
    gate = house.executor.gate("c")
    house.executor.faults["c"] = [StepError("test.no", "No.", "infrastructure") for _ in range(10)]
    house.executor.faults["c"].append(StepError("test.never", "Never."))
    runs: list[str] = []
    for turn in range(8):
        begun = await asyncio.gather(*(house.start(each) for each in (plain, plain, waits, calls)))
        runs += [run["id"] for run in begun if run["__typename"] == "Execution"]
        await look(house, 1)
        if turn == 4:
            gate.set()
    await look(house)
    assert await found(house) == {}
    assert violations(house) == {}
    assert len(runs) == 32


@pytest.mark.shows("EX-30")
async def test_a_trigger_without_a_run_is_found_until_it_has_one(house: World, admin: Any) -> None:
    run = await ended(house)
    await look(house, 1)
    run = await ended(house)
    await admin.execute("create table kept as select * from execution.run where id = $1", run)
    await admin.execute("update bus.pos set snap = pg_current_snapshot()")  # else the start is found, and begun again
    await admin.execute("delete from execution.run where id = $1", run)
    await look(house)
    assert await found(house) == {"start.lost": run}
    assert violations(house) == {"start.lost": 1}
    await admin.execute("insert into execution.run select * from kept")
    await look(house, 1)
    assert await found(house) == {}
    assert violations(house) == {}


@pytest.mark.shows("EX-30")
async def test_a_start_that_is_held_back_for_a_reason_is_none(house: World) -> None:
    await look(house, 1)
    absent = uuid7()
    data = {"workflowId": str(absent), "release": 1, "input": {}}
    await house.publish(events.REQUESTED, absent, data)
    await look(house, 4)
    assert await found(house) == {}


@pytest.mark.shows("EX-30")
async def test_a_run_that_nothing_will_move_is_found(house: World, admin: Any) -> None:
    waiting = (await house.start(await house.release(WAITS)))["id"]
    await eventually(lambda: admin.fetchval("select status from execution.run where id = $1", waiting), 2)
    await look(house)
    assert await found(house) == {}
    await admin.execute("delete from execution.timer")
    await look(house)
    assert await found(house) == {"run.stuck": waiting}
    running = await ended(house)
    await admin.execute("update execution.run set status = 1 where id = any($1::uuid[])", [waiting, running])
    await look(house)
    assert violations(house) == {"run.stuck": 2, "end.unfounded": 1}
    await admin.execute("update execution.run set status = 4 where id = any($1::uuid[])", [waiting, running])
    await look(house, 1)
    assert "run.stuck" not in await found(house)


@pytest.mark.shows("EX-30")
async def test_a_partition_without_an_owner_is_found(house: World, admin: Any) -> None:
    run = await ended(house)
    parts = house.ground.settings.partitions
    await admin.execute("insert into bus.lease (part) values ($1)", parts)
    await admin.execute("update execution.run set status = 1, part = $1 where id = $2", parts, run)
    await look(house)
    assert violations(house) == {"lease.absent": 1}
    assert await found(house) == {}, "it is nobody's in particular"
    await admin.execute("update execution.run set status = 4 where id = $1", run)
    await look(house, 1)


@pytest.mark.shows("EX-30", "EV-15")
async def test_a_journal_with_a_hole_is_found_until_it_is_mended(house: World, admin: Any) -> None:
    whole, run = await ended(house), await ended(house)
    await admin.execute("create table kept as select * from execution.journal where run = $1", run)
    await admin.execute("delete from execution.journal where run = $1", run)
    await look(house, 1)
    assert await found(house) == {"journal.hole": run}
    await admin.execute("insert into execution.journal select * from kept")
    await look(house, 1)
    assert await found(house) == {}
    await admin.execute("update execution.run set version = version + 1 where id = $1", whole)
    await look(house, 1)
    assert await found(house) == {"journal.hole": whole}


@pytest.mark.shows("EV-15")
async def test_ends_that_were_not_told_or_told_twice_are_found(house: World, admin: Any) -> None:
    await look(house, 1)
    silent, twice = await ended(house), await ended(house)
    await admin.execute("delete from bus.log where subject = $1 and type = $2", silent, events.FINISHED)
    (row,) = await admin.fetch("select * from bus.log where subject = $1 and type = $2", twice, events.FINISHED)
    columns = ", ".join(row.keys())
    values = ", ".join({"id": "gen_random_uuid()", "seq": "seq + 1000"}.get(name, name) for name in row.keys())  # noqa: SIM118
    await admin.execute(f"insert into bus.log ({columns}) select {values} from bus.log where id = $1", row["id"])
    await look(house)
    assert await found(house) == {"end.untold": silent, "end.doubled": twice}


@pytest.mark.shows("EV-15")
async def test_an_event_that_a_reader_passed_over_is_found(house: World, admin: Any) -> None:
    await look(house, 1)
    await house.release(PLAIN)
    gone = await admin.fetchval("delete from bus.inbox where consumer = 'execution.releases' returning id")
    await look(house)
    assert await found(house) == {"event.unhandled": f"execution.releases/{gone}"}


@pytest.mark.shows("EX-30")
async def test_findings_are_for_those_who_may_act_and_for_their_own_runs(house: World, admin: Any) -> None:
    run = await ended(house)
    await admin.execute("delete from execution.journal where run = $1", run)
    await look(house, 1)
    edge = (await house.ask(FINDINGS))["invariantFindings"]["edges"][0]["node"]
    assert edge["execution"] == {"id": run}
    assert edge["says"] == INVARIANTS["journal.hole"]
    assert edge["detail"].startswith("It has no journal")
    assert await found(house, someone()) == {}
    viewer = someone("viewer", house.tenant)
    result = await house.subgraph.schema.execute(FINDINGS, {}, context_value=house.context(viewer))
    assert result.errors
    assert getattr(result.errors[0].original_error, "code", None) == "scope_missing"


@pytest.mark.parametrize(
    ("version", "versions", "chunks", "says"),
    [
        (3, [3], [b"[1,2,3]"], None),
        (5, [3, 5], [b"[1,2,3]", b"[4,5]"], None),
        (5, [3, 5], [b"[1,2,3]", b'{"$ref":"x"}'], None),
        (5, [3, 5], None, None),
        (5, [3], None, "Its journal ends at 3, its head is at 5."),
        (5, [2, 5], [b"[1,2]", b"[4,5]"], "2 events stand from version 2 to 5."),
    ],
)
def test_what_a_hole_is(version: int, versions: list[int], chunks: list[bytes] | None, says: str | None) -> None:
    assert hole(version, versions, chunks) == says
