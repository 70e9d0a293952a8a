"""R05: consumers of published events, killed between having acted and having moved on, miss and double nothing."""

from __future__ import annotations

import asyncio
import time

import pytest

from subgraphs.platform import redelivery
from subgraphs.platform.database import Database
from subgraphs.platform.domain import Event, uuid7
from tests.crashes.conftest import Rigs, sized
from tests.crashes.graphs import KINDS, types
from tests.crashes.places import PLACES
from tests.crashes.rig import Rig

POINTS = {"event_handled": 20, "before_cursor": 4}
"""Where they are killed, and at which passing at the latest."""


async def publish(rig: Rig, count: int) -> None:
    """Releases of as many workflows; Execution keeps each, and Webhook makes an endpoint for each."""
    definition, tenant = KINDS["wait"].definition(rig.ledger.url), uuid7()
    database = Database(rig.settings)
    await database.open()
    for start in range(0, count, 50):
        async with database.write(tenant) as transaction:
            for nth in range(start, min(count, start + 50)):
                workflow = uuid7()
                data = {"workflowId": str(workflow), "name": f"w{nth}", "release": 1, "definition": definition}
                kind, words = "workflow.release.published.v1", {**data, "nodeTypes": types()}
                part = workflow.int % rig.settings.partitions
                event = Event(type=kind, subject=str(workflow), tenant=tenant, partition=part, data=words)
                transaction.publish(event)
    await database.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.shows("EV-03", "EV-04", "EV-15")
async def test_r05_killed_consumers_act_once_on_every_event(rigs: Rigs) -> None:
    events, kills = sized(400, 5000), sized(6, 30)
    rig = await rigs(workers=0, load=False)
    await publish(rig, events)
    for nth in range(kills):
        point = list(POINTS)[nth % 2]
        worker = await rig.spawn(PLACES[point].at(rig.chance.randint(1, POINTS[point])), ready=False)
        async with asyncio.timeout(30):
            await asyncio.shield(worker.ended)
        rig.workers.remove(worker)
        rig.former.append(worker)
    began = time.monotonic()
    await rig.spawn()
    async with rig.connected() as connection:
        async with asyncio.timeout(200):
            while True:
                counts = await redelivery.counts(connection)
                if counts and all(count.acted == count.logged == count.passed for count in counts):
                    break
                await asyncio.sleep(0.1)
        took = time.monotonic() - began
        for table in ("execution.release", "webhook.endpoint"):
            assert await connection.fetchval(f"select count(*) from {table}") == events
        held = "select count(*) from bus.log where type = 'execution.release.held.v1'"
        assert await connection.fetchval(held) == events, "told once of each"
        assert sum(count.missing + count.doubled for count in counts) == 0
        assert await redelivery.twice(connection) == []
    print(
        f"\nR05: {events} events, {kills} kills at {', '.join(POINTS)}: missed 0, doubled 0; the rest took {took:.1f} s"
    )
