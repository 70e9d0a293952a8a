"""How long runs are kept: payload goes first, then the run, by outcome and workflow; objects are released."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from subgraphs.engine.run import decode
from subgraphs.engine.step import StepError
from subgraphs.execution import events
from subgraphs.execution.retention import OF_A_RUN, REMOVED, Retention, stripped
from subgraphs.platform.domain import uuid7
from tests.subgraphs.execution.world import World, definition, opened, someone

HISTORIES = Path(__file__).resolve().parents[1] / "engine" / "run" / "histories"
GRAPH = definition("a:manual", ("put:set", {"total": 7}, {}), "ask:call", edges="a>put put>ask")
SECRET = "canary-of-the-payload"
SET = """mutation($input: SetRetentionInput!) { setRetention(input: $input) { __typename
  ... on RetentionRule { outcome payloadDays keepDays workflow { id } by { id } }
  ... on Problem { code field } } }"""
RULES = "{ retentionRules { outcome payloadDays keepDays workflow { id } } }"


@pytest.fixture
async def house(fresh_settings: Callable[..., Any]) -> AsyncIterator[World]:
    async with opened(await fresh_settings()) as found:
        yield found


@pytest.fixture
async def admin(house: World) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(house.ground.settings.dsn("lf_admin"))
    yield connection
    await connection.close()


async def ran(world: World, admin: Any, workflow: UUID, days: int, **input: Any) -> str:
    """A run that was begun and ended so many days ago."""
    id = UUID(int=uuid7().int - (days * 86_400_000 << 80))
    data = {"workflowId": str(workflow), "release": 1, "input": input or {"note": SECRET}}
    await world.publish(events.REQUESTED, id, data, id)
    await world.finished(id)
    await admin.execute("update execution.run set finished_at = now() - $1 * interval '1 day' where id = $2", days, id)
    return str(id)


async def rule(world: World, **words: Any) -> Any:
    return (await world.ask(SET, input=words))["setRetention"]


async def apply(world: World) -> int:
    retention: Retention = world.ground.ports["retention"]
    done = 0
    while count := await retention.apply():
        done += count
    return done


async def kept(admin: Any) -> set[str]:
    return {str(row["id"]) for row in await admin.fetch("select id from execution.run")}


async def whole(admin: Any, run: str) -> bool:
    data = await admin.fetchval("select string_agg(data, '') from execution.journal where run = $1", run)
    return SECRET.encode() in data


@pytest.mark.shows("EX-25")
async def test_payload_goes_first_and_the_run_stays_readable(house: World, admin: Any) -> None:
    workflow = await house.release(GRAPH)
    old, young = await ran(house, admin, workflow, 40), await ran(house, admin, workflow, 3)
    before = await house.events(old)
    await rule(house, payloadDays=30, keepDays=400)
    assert await apply(house) == 1
    assert (await whole(admin, old), await whole(admin, young)) == (False, True)
    assert await kept(admin) == {old, young}
    found = await house.finished(old)
    assert found["status"] == "SUCCEEDED"
    assert found["trigger"]["items"] == [REMOVED]
    assert [step["status"] for step in found["steps"]] == ["SUCCEEDED"] * 3
    assert all(step["output"] == {"main": [REMOVED]} for step in found["steps"])
    after = await house.events(old)
    assert [(event["seq"], event["type"], event["status"]) for event in after] == [
        (event["seq"], event["type"], event["status"]) for event in before
    ]
    assert SECRET not in str(after)
    assert await apply(house) == 0
    for _ in range(3):
        await house.ground.ports["invariants"].look()
    assert await admin.fetch("select * from execution.finding") == []


@pytest.mark.shows("EX-25")
async def test_the_most_particular_rule_holds(house: World, admin: Any) -> None:
    """By workflow and outcome; a run without a rule of its own falls under the general one."""
    first, second = await house.release(GRAPH), await house.release(GRAPH)
    house.executor.faults["ask"] = [StepError("test.no", "No."), StepError("test.no", "No.")]
    failed = [await ran(house, admin, workflow, 60) for workflow in (first, second)]
    well = [await ran(house, admin, workflow, 60) for workflow in (first, second)]
    await rule(house, keepDays=30)
    await rule(house, outcome="FAILED", keepDays=90)
    await rule(house, workflowId=str(first), keepDays=365)
    await rule(house, workflowId=str(first), outcome="FAILED", keepDays=50)
    assert await apply(house) == 2
    assert await kept(admin) == {well[0], failed[1]}
    await rule(house, outcome="FAILED")
    assert await apply(house) == 1
    assert await kept(admin) == {well[0]}


@pytest.mark.shows("EX-25", "CC-05")
async def test_with_a_run_goes_everything_of_it(house: World, admin: Any) -> None:
    """Rows of every table, and the objects it held, which the sweep then takes."""
    workflow = await house.release(GRAPH)
    house.executor.outputs["put"] = {"large": SECRET * 100_000}
    run = await ran(house, admin, workflow, 20)
    other = await ran(house, admin, workflow, 9)
    assert await admin.fetchval("select count(*) from bus.blob where holder = $1", UUID(run)) > 0
    await rule(house, keepDays=10)
    assert await apply(house) == 1
    assert await kept(admin) == {other}
    for table in OF_A_RUN:
        assert await admin.fetchval(f"select count(*) from execution.{table} where run = $1", UUID(run)) == 0
    assert await admin.fetchval("select count(*) from bus.blob where holder = $1", UUID(run)) == 0
    assert (await house.ask("query($id: ID!) { execution(id: $id) { id } }", id=run))["execution"] is None
    assert (await house.finished(other))["status"] == "SUCCEEDED"
    named = await admin.fetch(
        "select table_name from information_schema.columns where table_schema = 'execution' and column_name = 'run'"
    )
    assert set(OF_A_RUN) == {row["table_name"] for row in named}, "a table of runs that deletion does not know"


@pytest.mark.shows("EX-25")
async def test_runs_that_are_open_are_never_touched(house: World, admin: Any) -> None:
    waits = await house.release(definition("a:manual", ("w:wait", {"seconds": 3600}, {}), edges="a>w"))
    id = UUID(int=uuid7().int - (500 * 86_400_000 << 80))
    await house.publish(events.REQUESTED, id, {"workflowId": str(waits), "release": 1, "input": {}}, id)
    await house.ask("query($id: ID!) { execution(id: $id) { status } }", id=str(id))
    await rule(house, payloadDays=1, keepDays=8)
    assert await apply(house) == 0
    retention: Retention = house.ground.ports["retention"]
    assert await retention.remove(house.tenant, [id]) == 0
    assert await kept(admin) == {str(id)}


@pytest.mark.shows("EX-25")
async def test_rules_are_for_admins_and_have_to_make_sense(house: World) -> None:
    workflow = await house.release(GRAPH)
    made = await rule(house, workflowId=str(workflow), outcome="FAILED", payloadDays=30)
    assert made["by"] == {"id": str(house.caller.subject)}
    assert (await house.ask(RULES))["retentionRules"] == [
        {"outcome": "FAILED", "payloadDays": 30, "keepDays": None, "workflow": {"id": str(workflow)}}
    ]
    assert (await house.ask(RULES, someone()))["retentionRules"] == []
    for words, code in (
        ({"keepDays": 7}, "days_out_of_range"),
        ({"payloadDays": 0}, "days_out_of_range"),
        ({"outcome": "WAITING", "keepDays": 30}, "outcome_open"),
        ({"workflowId": str(uuid7()), "keepDays": 30}, "missing"),
    ):
        assert (await rule(house, **words))["code"] == code
    editor = (await house.ask(SET, someone("editor", house.tenant), input={"keepDays": 30}))["setRetention"]
    assert editor == {"__typename": "Forbidden", "code": "scope_missing", "field": None}


@pytest.mark.shows("EX-25")
def test_every_recorded_event_folds_without_its_payload() -> None:
    """All histories the engine recorded: stripped they are events still, the same items at the same places."""
    count = 0
    for path in sorted(HISTORIES.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            for event in decode(line.encode()) if line.startswith("[") else ():
                light = stripped(event)
                assert type(light) is type(event)
                assert light.at == event.at
                assert shape(light) == shape(event), path.name
                count += 1
    assert count > 1000


def shape(event: Any) -> Any:
    """How many items an event has where, and which it passes on."""
    outputs = getattr(event, "outputs", None) or {}
    return {port: [each if isinstance(each, int) else each.source for each in items] for port, items in outputs.items()}
