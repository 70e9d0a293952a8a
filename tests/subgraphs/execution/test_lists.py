"""Lists of runs: filters, pages by key, one statement each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event

from subgraphs.engine.step import StepError
from tests.subgraphs.execution.world import World, definition, opened, someone

PLAIN = definition("a:manual", "b:set", edges="a>b")
LIST = """query($filter: ExecutionFilter, $first: Int!, $after: String) {
  executions(filter: $filter, first: $first, after: $after) {
    edges { node { id status workflowName release startedAt durationMs error { code } workflow { id } } }
    pageInfo { hasNextPage endCursor } } }"""


@contextmanager
def statements(world: World) -> Iterator[list[str]]:
    """What is sent to the database meanwhile, transaction control and tenant setting left out."""
    seen: list[str] = []

    def hear(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if "set_config" not in statement:
            seen.append(statement)

    engine = world.ground.database.api.sync_engine
    event.listen(engine, "before_cursor_execute", hear)
    yield seen
    event.remove(engine, "before_cursor_execute", hear)


async def runs(world: World, count: int, **words: Any) -> tuple[UUID, list[str]]:
    workflow = await world.release(PLAIN)
    begun = [(await world.start(workflow, **words))["id"] for _ in range(count)]
    for run in begun:
        await world.finished(run)
    return workflow, begun


async def ids(world: World, caller: Any = None, first: int = 100, **filter: Any) -> list[str]:
    data = await world.ask(LIST, caller, filter=filter or None, first=first)
    return [edge["node"]["id"] for edge in data["executions"]["edges"]]


@pytest.mark.shows("EX-03")
async def test_fifty_runs_are_one_statement_and_pages_neither_skip_nor_repeat(world: World) -> None:
    workflow, begun = await runs(world, 55)
    with statements(world) as seen:
        data = await world.ask(LIST, filter={"workflowId": str(workflow)}, first=50)
    assert len(seen) == 1
    page = data["executions"]
    assert [edge["node"]["id"] for edge in page["edges"]] == begun[:4:-1]
    assert page["pageInfo"]["hasNextPage"]
    rest = await world.ask(LIST, filter={"workflowId": str(workflow)}, first=50, after=page["pageInfo"]["endCursor"])
    assert [edge["node"]["id"] for edge in rest["executions"]["edges"]] == begun[4::-1]
    assert not rest["executions"]["pageInfo"]["hasNextPage"]


async def test_the_steps_of_many_runs_are_one_statement_more(world: World) -> None:
    workflow, _ = await runs(world, 5)
    document = """query($w: ID!) { executions(filter: {workflowId: $w}, first: 5) {
        edges { node { id steps { node status } reply { status } trigger { node } } } } }"""
    with statements(world) as seen:
        data = await world.ask(document, w=str(workflow))
    assert len(seen) == 2
    assert all(len(edge["node"]["steps"]) == 2 for edge in data["executions"]["edges"])


@pytest.mark.shows("EX-03")
async def test_each_filter_narrows_the_list(world: World) -> None:
    workflow, (old, new) = await runs(world, 2)
    failing = await world.release(definition("a:manual", "boom:call", edges="a>boom"))
    world.executor.faults["boom"] = [StepError("test.boom", "Boom.")]
    bad = (await world.start(failing))["id"]
    await world.finished(bad)
    assert await ids(world, workflowId=str(workflow)) == [new, old]
    assert bad in await ids(world, status=["FAILED", "CANCELLED"])
    assert old not in await ids(world, status=["FAILED"])
    assert await ids(world, workflowId=str(workflow), mode="WEBHOOK") == []
    assert await ids(world, workflowId=str(workflow), release=1) == [new, old]
    assert await ids(world, workflowId=str(workflow), release=2) == []
    data = await world.ask(LIST, filter={"workflowId": str(workflow)}, first=2)
    moment = data["executions"]["edges"][0]["node"]["startedAt"]
    assert await ids(world, workflowId=str(workflow), startedBefore=moment) == [old]
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert await ids(world, workflowId=str(workflow), startedAfter=later) == []
    earlier = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    assert await ids(world, workflowId=str(workflow), startedAfter=earlier) == [new, old]


async def test_another_tenant_sees_none_of_it(world: World) -> None:
    workflow, (run,) = await runs(world, 1)
    stranger = someone()
    assert await ids(world, stranger) == []
    assert await ids(world, stranger, workflowId=str(workflow)) == []
    assert (await world.ask("query($id: ID!) { execution(id: $id) { id } }", stranger, id=run))["execution"] is None
    for name in ("cancelExecution", "rerunExecution"):
        document = f"mutation($id: ID!) {{ {name}(input: {{executionId: $id}}) {{ __typename }} }}"
        assert (await world.ask(document, stranger, id=run))[name] == {"__typename": "Missing"}
    start = "mutation($w: ID!) { startExecution(input: {workflowId: $w}) { __typename } }"
    assert (await world.ask(start, stranger, w=str(workflow)))["startExecution"] == {"__typename": "Missing"}


async def test_the_database_alone_keeps_tenants_apart(fresh_settings: Callable[..., Any]) -> None:
    """With the application's own filter switched off, row-level security still shows a stranger nothing."""
    async with opened(await fresh_settings(tenant_filter=False)) as open_world:
        workflow, (run,) = await runs(open_world, 1)
        stranger = someone()
        assert await ids(open_world) == [run]
        assert await ids(open_world, stranger) == []
        document = "query($id: ID!) { execution(id: $id) { id steps { node } } }"
        assert (await open_world.ask(document, stranger, id=run))["execution"] is None
        start = "mutation($w: ID!) { startExecution(input: {workflowId: $w}) { __typename } }"
        assert (await open_world.ask(start, stranger, w=str(workflow)))["startExecution"] == {"__typename": "Missing"}
        cancel = "mutation($id: ID!) { cancelExecution(input: {executionId: $id}) { __typename } }"
        assert (await open_world.ask(cancel, stranger, id=run))["cancelExecution"] == {"__typename": "Missing"}


async def test_workflow_and_execution_are_entities(world: World) -> None:
    workflow, (run,) = await runs(world, 1)
    document = """query($r: [_Any!]!) { _entities(representations: $r) {
        ... on Workflow { executions(first: 5) { edges { node { id } } } } ... on Execution { id status } } }"""
    references = [
        {"__typename": "Workflow", "id": str(workflow)},
        {"__typename": "Execution", "id": run},
        {"__typename": "Execution", "id": "01a20f66-813a-78ce-8a5e-000000000000"},
    ]
    found = (await world.ask(document, r=references))["_entities"]
    assert found[0] == {"executions": {"edges": [{"node": {"id": run}}]}}
    assert found[1:] == [{"id": run, "status": "SUCCEEDED"}, None]


async def test_lists_use_an_index(world: World) -> None:
    """No sequential scan and no sort, whatever is asked first."""
    connection = await world.ground.database.engine.acquire()
    try:
        await connection.execute("set enable_seqscan = off")
        for condition in ("true", f"workflow = '{UUID(int=1)}'", "status = 5"):
            plan = await connection.fetch(
                f"explain select * from execution.run where tenant = '{world.tenant}' and {condition} "
                "order by id desc limit 51"
            )
            text = "\n".join(row[0] for row in plan)
            assert "Index Scan" in text
            assert "Sort" not in text
    finally:
        await connection.execute("reset enable_seqscan")
        await world.ground.database.engine.release(connection)
