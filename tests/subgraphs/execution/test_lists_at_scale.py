"""Lists of many runs: what each filter finds, and that none of them ever reads the table from end to end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

import asyncpg
import pytest
from sqlalchemy.dialects.postgresql import asyncpg as postgresql

from subgraphs.execution import lists, storage
from subgraphs.execution.domain import Filter
from subgraphs.platform.domain import uuid7
from tests.benchmarks.generated import fill, workflow
from tests.subgraphs.execution.world import World, someone

RUNS = 30_000
LIST = """query($filter: ExecutionFilter, $first: Int!, $after: String) {
  executions(filter: $filter, first: $first, after: $after) {
    edges { node { id status mode release error { code message } workflow { id } } }
    pageInfo { hasNextPage endCursor } } }"""
BUSY = str(workflow(0))
EVERYTHING: dict[str, Any] = {
    "workflow": workflow(0),
    "statuses": ("failed",),
    "mode": "draft",
    "release": 3,
    "started_after": datetime(2001, 1, 1, tzinfo=UTC),
    "started_before": datetime(2101, 1, 1, tzinfo=UTC),
    "keys": (("customer", "c-10"), ("order", "A-1")),
    "error_code": "http.status.503",
    "error_text": "orders-42 answered",
}


@pytest.fixture(scope="module")
async def full(world: World) -> World:
    """The tenant with many runs, beside another tenant with as many."""
    admin = await asyncpg.connect(world.ground.settings.dsn("lf_admin"))
    for tenant in (world.tenant, uuid7()):
        await fill(admin, tenant, RUNS)
    await admin.close()
    return world


def every_combination() -> Iterator[Filter]:
    for count in range(len(EVERYTHING) + 1):
        for names in combinations(EVERYTHING, count):
            chosen = {name: EVERYTHING[name] for name in names}
            yield Filter(**chosen)
            if "statuses" in chosen:
                yield Filter(**chosen | {"statuses": ("succeeded",)})
                yield Filter(**chosen | {"statuses": ("waiting", "failed", "timed_out")})
            if "mode" in chosen:
                yield Filter(**chosen | {"mode": "webhook"})


async def listed(world: World, first: int = 50, after: str | None = None, **filter: Any) -> Any:
    return (await world.ask(LIST, filter=filter or None, first=first, after=after))["executions"]


async def found(world: World, **filter: Any) -> list[dict[str, Any]]:
    page = await listed(world, 100, **filter)
    assert page["edges"]
    return [edge["node"] for edge in page["edges"]]


def parts_of(plan: Any) -> Iterator[Any]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from parts_of(below)


async def plan_of(world: World, asked: Filter) -> Any:
    """How PostgreSQL reads a page, as the role that reads it."""
    async with world.ground.database.read(world.tenant) as reading:
        if asked.error_code is not None or asked.error_text is not None:
            asker: Any = world.ground.database.engine
            statement = lists.searching(world.tenant, asked, 51, uuid7())
        else:
            asker = (await reading.connection.get_raw_connection()).driver_connection
            mine, of_key = (reading.tenant_filter(table.c.tenant) for table in (storage.run, storage.run_key))
            statement = lists.leading(mine, of_key, asked, 51, uuid7())
        compiled = statement.compile(dialect=postgresql.dialect())
        values = [compiled.params[name] for name in compiled.positiontup or ()]
        told = await asker.fetchval(f"explain (format json) {compiled}", *values)
        return (json.loads(told) if isinstance(told, str) else told)[0]["Plan"]


@pytest.mark.shows("EX-03", "CQ-12")
async def test_no_combination_of_filters_reads_the_whole_table(full: World) -> None:
    """Runs come by an index; beside them only their keys are read, no table of another domain."""
    count = 0
    for asked in every_combination():
        plan = await plan_of(full, asked)
        scans = [part for part in parts_of(plan) if "Relation Name" in part]
        assert {part["Relation Name"] for part in scans} <= {"run", "run_key"}, asked
        assert all("Index" in part["Node Type"] or "Bitmap" in part["Node Type"] for part in scans), (asked, plan)
        assert "run" in {part["Relation Name"] for part in scans}
        count += 1
    assert count == 512 + 2 * 256 + 256


@pytest.mark.shows("EX-03")
async def test_pages_follow_each_other_without_gap_or_repeat(full: World) -> None:
    """Also where a page is put together from several statuses, and where a key leads; `hasNextPage` is exact."""
    admin = await asyncpg.connect(full.ground.settings.dsn("lf_admin"))
    for filter, condition in (
        ({"status": ["WAITING", "FAILED", "CANCELLED"]}, "status in (2, 5, 6)"),
        ({"workflowId": BUSY, "status": ["FAILED"]}, f"workflow = '{BUSY}' and status = 5"),
        (
            {"keys": [{"name": "customer", "value": "c-10"}]},
            "exists (select from execution.run_key k where k.run = r.id and k.value = 'c-10')",
        ),
        ({"errorText": "orders-42 answered"}, "error like '%orders-42 answered%'"),
    ):
        query = f"select id from execution.run r where tenant = $1 and {condition} order by id desc"
        wanted = [str(row["id"]) for row in await admin.fetch(query, full.tenant)]
        size, seen = 3 if len(wanted) < 60 else 50, list[str]()
        after, more = None, True
        while more:
            page = await listed(full, size, after, **filter)
            seen += [edge["node"]["id"] for edge in page["edges"]]
            after, more = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]
            assert more == (len(seen) < len(wanted))
        assert seen == wanted
        assert len(seen) > size
    await admin.close()


@pytest.mark.shows("EX-03")
async def test_errors_are_found_by_code_and_by_text(full: World) -> None:
    by_code = await found(full, errorCode="http.status.503")
    assert {node["error"]["code"] for node in by_code} == {"http.status.503"}
    by_text = await found(full, errorText="ORDERS-42 ANSWERED")
    assert all("orders-42 answered" in node["error"]["message"] for node in by_text)
    assert await found(full, errorText="execution.timeout")
    together = await found(full, errorCode="http.status.503", workflowId=BUSY, status=["FAILED"])
    assert {node["workflow"]["id"] for node in together} == {BUSY}
    for literal in ("100%", "a_b", "\\"):
        assert (await listed(full, errorText=f"orders{literal}"))["edges"] == []


@pytest.mark.shows("EX-26")
async def test_runs_are_found_by_business_key_and_tag(full: World) -> None:
    (run, other) = [edge["node"]["id"] for edge in (await listed(full, 2))["edges"]]
    rows = [
        (full.tenant, run, "order", "4711"),
        (full.tenant, run, "urgent", ""),
        (full.tenant, other, "order", "4711"),
    ]
    await full.ground.database.engine.executemany("insert into execution.run_key values ($1, $2, $3, $4)", rows)
    order = {"name": "order", "value": "4711"}
    assert [node["id"] for node in await found(full, keys=[order])] == [run, other]
    assert [node["id"] for node in await found(full, tag="urgent")] == [run]
    assert [node["id"] for node in await found(full, tag="urgent", keys=[order])] == [run]
    assert (await listed(full, keys=[{"name": "order", "value": "471"}]))["edges"] == []


async def test_what_cannot_be_searched_is_refused(full: World) -> None:
    for filter, code in (
        ({"errorText": " a "}, "search_short"),
        ({"errorCode": "a\0b"}, "text_malformed"),
        ({"keys": [{"name": str(at), "value": ""} for at in range(9)]}, "keys_many"),
    ):
        variables = {"filter": filter, "first": 5, "after": None}
        result = await full.subgraph.schema.execute(LIST, variables, context_value=full.context())
        assert result.errors is not None
        assert getattr(result.errors[0].original_error, "code", None) == code


@pytest.mark.shows("EX-03")
async def test_searching_shows_a_stranger_nothing(full: World) -> None:
    for filter in (
        {"errorCode": "http.status.503"},
        {"errorText": "orders"},
        {"keys": [{"name": "customer", "value": "c-10"}]},
    ):
        asked = {"filter": filter, "first": 5, "after": None}
        assert (await full.ask(LIST, someone(), **asked))["executions"]["edges"] == []
