"""Events that begin a stream begin it once: in their own flush, by a wake-up, or by the sweep of the next owner."""

from __future__ import annotations

import pytest

from subgraphs.platform import delivery
from subgraphs.platform.writer import Ingress
from tests.laws.adapters import Adapter
from tests.laws.ground import CALL, STARTED, TENANT, Starts, running, settled


async def test_an_event_published_in_a_transaction_begins_its_stream(adapter: Adapter) -> None:
    """Not by the flush, which it is no part of, but by the wake-up that carries it."""
    process, starts = adapter.make(), Starts()
    process.bus.prepare(starts)
    async with running(process):
        async with process.database.write(TENANT) as transaction:
            transaction.publish(event := process.event(STARTED, TENANT))

        async def begun() -> bool:
            return await process.state(event.id) is not None

        await settled(begun)
        assert starts.settled_as[event.id] == [True]


async def test_an_event_of_a_process_without_partitions_begins_where_they_are(adapter: Adapter) -> None:
    """Told by NOTIFY: the publisher owns nothing, so the owner is to begin the stream, and does at once."""
    working, starts = adapter.make(), Starts()
    working.bus.prepare(starts)
    async with running(adapter.make(works=False)) as asking, running(working):

        async def know_each_other() -> bool:
            return asking.leases.peers == working.leases.peers == 1

        await settled(know_each_other)
        event = asking.event(STARTED, TENANT)
        await asking.writer.commit(Ingress(rows=[(CALL.name, (TENANT, event.id, "x"))], events=[event]))

        async def begun() -> bool:
            return bool(starts.settled_as.get(event.id))

        await settled(begun)
        assert starts.settled_as == {event.id: [True]}


async def test_events_nobody_prepared_are_found_by_the_next_owner(adapter: Adapter) -> None:
    async with running(adapter.make()) as without:
        events = [without.event(STARTED, TENANT) for _ in range(450)]
        for at in range(0, 450, 50):
            await without.bus.publish(*events[at : at + 50])
    process, starts = adapter.make(), Starts()
    process.bus.prepare(starts)
    async with running(process):
        ids = [event.id for event in events]

        async def begun() -> bool:
            return all([await process.state(id) for id in ids])

        await settled(begun)
        assert all(starts.settled_as[id] == [True] for id in ids)


async def test_a_preparer_that_cannot_is_held_and_parked(adapter: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(delivery, "ATTEMPTS", 3)
    process, starts = adapter.make(), Starts()
    process.bus.prepare(starts)
    async with running(process):
        starts.poison = True
        event = process.event(STARTED, TENANT)
        await process.writer.commit(Ingress(rows=[(CALL.name, (TENANT, event.id, "kept"))], events=[event]))

        async def parked() -> bool:
            return await process.parked(event.id)

        await settled(parked)
        starts.poison = False
        other = process.event(STARTED, TENANT)
        await process.writer.commit(Ingress(events=[other]))
        assert starts.settled_as[other.id] == [True]
        assert await process.calls(event.id) == 1
