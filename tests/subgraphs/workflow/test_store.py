"""The event store on a real database: expected versions, reading from a version, snapshots."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

import pytest

from subgraphs.platform.database import Transaction
from subgraphs.platform.domain import uuid7
from subgraphs.workflow.domain import AnyChange, DraftSaved, Raced, WorkflowCreated, WorkflowRenamed
from subgraphs.workflow.storage import EventStore, KeptWorkflows, Outward
from tests.subgraphs.workflow.workflow_graph import Graph, caller, flow

AUTHOR = uuid7()


@asynccontextmanager
async def store(graph: Graph, tenant: UUID) -> AsyncIterator[tuple[EventStore, Transaction]]:
    async with graph.ground.database.write(tenant) as transaction:
        yield EventStore(transaction, tenant), transaction


async def append(graph: Graph, tenant: UUID, workflow: UUID, expected: int, *changes: AnyChange) -> None:
    async with store(graph, tenant) as (opened, transaction):
        await opened.append(transaction, workflow, expected, changes, datetime.now(UTC))


def created() -> WorkflowCreated:
    return WorkflowCreated(author=AUTHOR, name="Flow")


@pytest.mark.shows("ES-01")
async def test_of_appends_at_the_same_version_one_wins(graph: Graph) -> None:
    tenant, workflow = uuid7(), uuid7()
    await append(graph, tenant, workflow, 0, created())
    writers = [append(graph, tenant, workflow, 1, WorkflowRenamed(author=AUTHOR, name=str(n))) for n in range(8)]
    outcomes = await asyncio.gather(*writers, return_exceptions=True)
    assert [type(each) for each in outcomes if each is not None] == [Raced] * 7
    winner = outcomes.index(None)
    async with store(graph, tenant) as (opened, _):
        assert await opened.read(workflow) == [created(), WorkflowRenamed(author=AUTHOR, name=str(winner))]


@pytest.mark.shows("ES-01")
async def test_a_lost_race_stores_no_part_of_its_changes(graph: Graph) -> None:
    tenant, workflow = uuid7(), uuid7()
    await append(graph, tenant, workflow, 0, created())
    renames = [WorkflowRenamed(author=AUTHOR, name=str(n)) for n in range(3)]
    with pytest.raises(Raced):
        await append(graph, tenant, workflow, 0, *renames)
    async with store(graph, tenant) as (opened, _):
        assert await opened.read(workflow) == [created()]


@pytest.mark.shows("ES-02")
async def test_changes_are_read_from_a_version_on(graph: Graph) -> None:
    tenant, workflow = uuid7(), uuid7()
    changes: list[AnyChange] = [created(), *(WorkflowRenamed(author=AUTHOR, name=str(n)) for n in range(4))]
    await append(graph, tenant, workflow, 0, *changes)
    async with store(graph, tenant) as (opened, _):
        for after in range(6):
            assert await opened.read(workflow, after=after) == changes[after:]


async def test_changes_of_another_tenant_are_not_seen(graph: Graph) -> None:
    tenant, workflow = uuid7(), uuid7()
    await append(graph, tenant, workflow, 0, created())
    async with store(graph, uuid7()) as (opened, _):
        assert await opened.read(workflow) == []


@pytest.mark.shows("ES-03")
async def test_snapshots_are_made_and_may_be_dropped_at_any_time(graph: Graph) -> None:
    ada = caller()
    assert ada.tenant is not None
    made = await graph.create(ada, flow("a"))
    workflow = UUID(made["id"])
    for base in range(1, 60):
        await graph.save(ada, made["id"], base, flow(f"n{base % 7}"))
    async with graph.ground.database.write(ada.tenant) as transaction:
        leases, objects = graph.ground.leases, graph.ground.objects
        kept = KeptWorkflows(transaction, ada.tenant, Outward(leases.partition_of, leases.partition_of, objects))
        snapshot = await kept.store.snapshot(workflow)
        assert snapshot is not None
        assert snapshot[1] == 50
        with_snapshot = await kept.load(workflow)
        await kept.store.drop_snapshot(transaction, workflow)
        without = await kept.load(workflow)
        assert with_snapshot.state == without.state
        assert with_snapshot.version == without.version == 61
        assert sum(isinstance(each, DraftSaved) for each in await kept.store.read(workflow)) == 60
    saved = await graph.save(ada, made["id"], 60, flow("z"))
    assert saved["draft"]["number"] == 61
