"""One thing done to many runs: counted first, a few at first, stopped when it goes wrong, whole after a crash."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from subgraphs.engine.step import StepError
from subgraphs.execution import events
from subgraphs.execution.bulk import Bulk
from subgraphs.platform.domain import uuid7
from tests.subgraphs.execution.world import World, definition, eventually, opened, someone

PLAIN = definition("a:manual", "b:set", edges="a>b")
WAITS = definition("a:manual", ("w:wait", {"seconds": 3600}, {}), edges="a>w")
CALLS = definition("a:manual", "c:call", edges="a>c")
BEGIN = """mutation($input: BulkExecutionsInput!) { bulkExecutions(input: $input) { __typename
  ... on BulkOperation { id action state matched done failed } ... on Problem { code field } } }"""
LIST = """{ bulkOperations(first: 10) { edges { node {
  id action state matched done failed reason finishedAt by { id } } } } }"""
STOP = """mutation($id: ID!) { stopBulk(input: {bulkId: $id}) { __typename ... on BulkOperation { state }
  ... on Problem { code } } }"""


@pytest.fixture
async def house(fresh_settings: Callable[..., Any]) -> AsyncIterator[World]:
    async with opened(await fresh_settings()) as found:
        yield found


@pytest.fixture
async def admin(house: World) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(house.ground.settings.dsn("lf_admin"))
    yield connection
    await connection.close()


async def begun(world: World, caller: Any = None, **words: Any) -> Any:
    return (await world.ask(BEGIN, caller, input=words))["bulkExecutions"]


async def ended(world: World) -> Any:
    """The newest operation once it has ended."""

    async def state() -> str:
        return str((await world.ask(LIST))["bulkOperations"]["edges"][0]["node"]["state"])

    await eventually(lambda: _is_not(state, "RUNNING"), seconds=60)
    return (await world.ask(LIST))["bulkOperations"]["edges"][0]["node"]


async def _is_not(look: Callable[[], Any], value: str) -> bool:
    return bool(await look() != value)


async def waiting(world: World, admin: Any, workflow: UUID, count: int) -> list[str]:
    runs = [(await world.start(workflow))["id"] for _ in range(count)]
    query = "select count(*) from execution.run where id = any($1::uuid[]) and status = 2"
    await eventually(lambda: admin.fetchval(query, runs), count)
    return runs


@pytest.mark.shows("EX-24")
async def test_all_that_match_are_cancelled_and_no_others(house: World, admin: Any) -> None:
    workflow, other = await house.release(WAITS), await house.release(WAITS)
    runs, spared = await waiting(house, admin, workflow, 25), await waiting(house, admin, other, 2)
    chosen = {"workflowId": str(workflow), "status": ["WAITING"]}
    dry = await begun(house, action="CANCEL", filter=chosen, dryRun=True)
    assert (dry["id"], dry["state"], dry["matched"], dry["done"]) == (None, "DRY_RUN", 25, 0)
    made = await begun(house, action="CANCEL", filter=chosen, canary=3)
    assert made["matched"] == 25
    done = await ended(house)
    assert (done["state"], done["done"], done["failed"], done["reason"]) == ("DONE", 25, 0, None)
    assert done["by"] == {"id": str(house.caller.subject)}
    states = {str(row["id"]): row["status"] for row in await admin.fetch("select id, status from execution.run")}
    assert {states[run] for run in runs} == {6}
    assert {states[run] for run in spared} == {2}


@pytest.mark.shows("EX-24")
async def test_runs_are_run_again_each_once(house: World, admin: Any) -> None:
    workflow = await house.release(PLAIN)
    runs = [(await house.start(workflow, input={"n": n}))["id"] for n in range(15)]
    for run in runs:
        await house.finished(run)
    await begun(house, action="RERUN", filter={"workflowId": str(workflow)}, canary=4)
    done = await ended(house)
    assert (done["state"], done["matched"], done["done"], done["failed"]) == ("DONE", 15, 15, 0)
    again = await admin.fetch("select rerun_of, status from execution.run where rerun_of is not null")
    assert sorted(str(row["rerun_of"]) for row in again) == sorted(runs)


@pytest.mark.shows("EX-24")
async def test_it_stops_where_too_many_fail(house: World, admin: Any) -> None:
    workflow = await house.release(CALLS)
    runs = [(await house.start(workflow))["id"] for _ in range(12)]
    for run in runs:
        await house.finished(run)
    house.executor.faults["c"] = [StepError("test.no", "No.") for _ in range(100)]
    await begun(house, action="RERUN", filter={"workflowId": str(workflow)}, canary=5, tolerated=0.2)
    done = await ended(house)
    assert (done["state"], done["done"], done["failed"], done["reason"]) == ("STOPPED", 5, 5, "5 of 5 failed.")
    assert await admin.fetchval("select count(*) from execution.run where rerun_of is not null") == 5


@pytest.mark.shows("EX-24", "EX-25")
async def test_old_runs_are_deleted_and_young_ones_count_as_failed(house: World, admin: Any) -> None:
    workflow = await house.release(PLAIN)
    data = {"workflowId": str(workflow), "release": 1, "input": {}}
    old = [UUID(int=uuid7().int - (20 * 86_400_000 << 80)) for _ in range(6)]
    for id in old:
        await house.publish(events.REQUESTED, id, data, id)
        await house.finished(id)
    await admin.execute("update execution.run set finished_at = now() - interval '20 days'")
    young = (await house.start(workflow))["id"]
    await house.finished(young)
    await begun(house, action="DELETE", filter={"workflowId": str(workflow)}, tolerated=0.5)
    done = await ended(house)
    assert (done["state"], done["done"], done["failed"]) == ("DONE", 7, 1)
    assert [str(row["id"]) for row in await admin.fetch("select id from execution.run")] == [young]
    assert await admin.fetchval("select count(*) from execution.journal where run = any($1::uuid[])", old) == 0


async def _raises(work: Callable[[], Any]) -> bool:
    try:
        await work()
    except ZeroDivisionError:
        return True
    return False


@pytest.mark.shows("EX-24")
async def test_it_goes_on_after_a_crash_without_doing_a_run_twice(fresh_settings: Callable[..., Any]) -> None:
    """The process ends in the middle of a page, whose transaction is lost; the next one does it."""
    settings = await fresh_settings()
    async with opened(settings) as first:
        caller, workflow = first.caller, await first.release(PLAIN)
        runs = [(await first.start(workflow))["id"] for _ in range(8)]
        for run in runs:
            await first.finished(run)
        carrier: Bulk = first.ground.ports["bulk"]
        await carrier.stop()
        await begun(first, action="RERUN", filter={"workflowId": str(workflow)}, canary=2)
        await carrier.turn()
        again = carrier._rerun

        async def crash(*words: Any) -> Any:
            await again(*words)
            raise ZeroDivisionError

        setattr(carrier, "_rerun", crash)  # noqa: B010 - the transaction ends between the starts and their commit
        await eventually(lambda: _raises(carrier.turn))
    async with opened(settings) as second:
        second.caller = caller
        done = await ended(second)
        assert (done["state"], done["done"], done["failed"]) == ("DONE", 8, 0)
        query = "select rerun_of from execution.run where rerun_of is not null"
        repeated = [str(row["rerun_of"]) for row in await second.ground.database.engine.fetch(query)]
        assert sorted(repeated) == sorted(runs)


@pytest.mark.shows("EX-24")
async def test_it_can_be_stopped_and_is_for_those_who_may(house: World, admin: Any) -> None:
    workflow = await house.release(WAITS)
    await waiting(house, admin, workflow, 2)
    carrier: Bulk = house.ground.ports["bulk"]
    await carrier.stop()
    made = await begun(house, action="CANCEL", filter={"workflowId": str(workflow)})
    assert (await house.ask(STOP, someone(), id=made["id"]))["stopBulk"]["__typename"] == "Missing"
    assert (await house.ask(STOP, id=made["id"]))["stopBulk"] == {"__typename": "BulkOperation", "state": "STOPPED"}
    assert await carrier.turn() == 0
    assert (await house.ask(LIST, someone()))["bulkOperations"]["edges"] == []
    operator = someone("operator", house.tenant)
    refused = await begun(house, operator, action="DELETE", filter={})
    assert (refused["__typename"], refused["code"]) == ("Forbidden", "scope_missing")
    before = {"startedBefore": datetime.now(UTC).isoformat()}
    allowed = await begun(house, operator, action="CANCEL", filter=before, dryRun=True)
    assert allowed["matched"] == 2
    for words, code in (
        ({"canary": 0}, "canary_out_of_range"),
        ({"tolerated": 2.0}, "share_out_of_range"),
        ({"filter": {"errorText": "boom"}}, "filter_unsupported"),
    ):
        assert (await begun(house, **{"action": "CANCEL", "filter": {}, **words}))["code"] == code
