"""Published events reach those who act on them: none lost, none doubled, in order, past the poisonous ones."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text

from subgraphs.platform import cursors, delivery, eventlog
from subgraphs.platform.database import Transaction
from subgraphs.platform.domain import Event, uuid7
from subgraphs.platform.eventlog import TooLarge
from subgraphs.platform.settings import Settings
from subgraphs.platform.writer import Ingress
from tests.laws.ground import CALL, OTHER, TENANT, Process, make, process_on, running, settled

EFFECT = text("insert into law.effect (tenant, consumer, event) values (:tenant, :consumer, :event)")
Handle = Callable[[Event, Transaction], Awaitable[None]]


def recorder(name: str, done: asyncio.Event | None = None, goal: int = 0) -> Handle:
    """A handler whose effect is a row, and a signal once it had `goal` of them."""
    seen = Counter[str]()

    async def handle(event: Event, transaction: Transaction) -> None:
        await transaction.execute(EFFECT, {"tenant": event.tenant, "consumer": name, "event": event.id})
        seen[name] += 1
        if done is not None and seen[name] >= goal:
            done.set()

    return handle


async def effects(process: Process, consumer: str) -> Counter[UUID]:
    rows = await process.database.engine.fetch("select event from law.effect where consumer = $1", consumer)
    return Counter(row["event"] for row in rows)


async def publish_many(process: Process, at: int, many: int) -> list[UUID]:
    """One of the publishers: half write in a group commit, half in transactions, one of which commits late."""
    sent: list[UUID] = []
    while len(sent) < many:
        batch = [process.event("law.thing.counted.v1", (TENANT, OTHER)[at % 2]) for _ in range(20)]
        if at < 5:
            await process.bus.publish(*batch)
        else:
            async with process.database.write(batch[0].tenant) as transaction:
                transaction.publish(*batch)
                if at == 9 and len(sent) % 100 == 0:
                    await asyncio.sleep(0.01)  # commits after others that began later
        sent += [event.id for event in batch]
    return sent


async def hold_open(settings: Settings, opened: asyncio.Event) -> None:
    """A transaction with an id of its own that stays open for 3 s."""
    foreign = await asyncpg.connect(settings.dsn("lf_admin"))
    async with foreign.transaction():
        await foreign.execute("create temporary table held_open (x int)")
        opened.set()
        await asyncio.sleep(3)
    await foreign.close()


@pytest.mark.shows("EV-03", "EV-04")
async def test_8000_events_of_concurrent_publishers_beside_an_open_transaction(law_settings: Settings) -> None:
    """Ten publishers, two processes that consume, and a foreign transaction that holds its snapshot."""
    one, two = make(law_settings), make(law_settings)
    for process in (one, two):
        process.bus.consume("law.many", ["law.thing.counted.v1"], recorder("law.many"))
    async with running(one), running(two):
        opened = asyncio.Event()
        holding = asyncio.create_task(hold_open(law_settings, opened))
        await opened.wait()
        parts = await asyncio.gather(*(publish_many((one, two)[at % 2], at, 800) for at in range(10)))
        sent = {id for part in parts for id in part}
        assert len(sent) == 8000

        async def all_there() -> bool:
            return len(await effects(one, "law.many")) >= len(sent)

        await settled(all_there)
        counted = await effects(one, "law.many")
        assert (sent - set(counted), [id for id, n in counted.items() if n > 1]) == (set(), [])
        await holding


@pytest.mark.shows("EV-04")
async def test_a_redelivered_event_has_one_effect(law_settings: Settings) -> None:
    done = asyncio.Event()
    process = make(law_settings)
    process.bus.consume("law.once", ["law.thing.redone.v1"], recorder("law.once", done, 5))
    async with running(process):
        events = [process.event("law.thing.redone.v1", TENANT) for _ in range(5)]
        await process.bus.publish(*events)
        await done.wait()
    again = make(law_settings)
    handled = Counter[UUID]()

    async def handle(event: Event, transaction: Transaction) -> None:
        handled[event.id] += 1
        await recorder("law.once")(event, transaction)

    again.bus.consume("law.once", ["law.thing.redone.v1"], handle)
    await again.database.open()
    await again.database.engine.execute("update bus.pos set snap = '1:1:', upto = null where consumer = 'law.once'")
    await again.database.close()
    async with running(again):
        marker = again.event("law.thing.redone.v1", TENANT)
        object.__setattr__(marker, "partition", events[0].partition)
        await again.bus.publish(marker)

        async def through() -> bool:
            return marker.id in await effects(again, "law.once") and not await again.database.engine.fetch(
                cursors.BEHIND, ["law.once"], list(range(16))
            )

        await settled(through)
        assert handled == {marker.id: 1}
        assert await effects(again, "law.once") == {event.id: 1 for event in (*events, marker)}


@pytest.mark.shows("EV-04")
async def test_an_effect_and_its_inbox_row_are_one_transaction(law_settings: Settings) -> None:
    """A handler that fails after its effect leaves no effect; its repetition does."""
    failures, done = [3], asyncio.Event()
    process = make(law_settings)

    async def handle(event: Event, transaction: Transaction) -> None:
        await transaction.execute(EFFECT, {"tenant": event.tenant, "consumer": "law.shaky", "event": event.id})
        if failures[0]:
            failures[0] -= 1
            raise RuntimeError("not yet")
        done.set()

    process.bus.consume("law.shaky", ["law.thing.shaken.v1"], handle)
    async with running(process):
        event = process.event("law.thing.shaken.v1", TENANT)
        await process.bus.publish(event)
        await done.wait()

        async def once() -> bool:
            return await effects(process, "law.shaky") == {event.id: 1}

        await settled(once)


@pytest.mark.shows("EV-03")
async def test_a_poisonous_event_is_parked_and_only_its_subject_waits(
    law_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(delivery, "ATTEMPTS", 4)
    process, order = make(law_settings), []
    sick, well = uuid7(), uuid7()

    async def handle(event: Event, transaction: Transaction) -> None:
        order.append((event.subject, event.data["nth"]))
        if event.data["nth"] == 1 and event.subject == str(sick):
            raise RuntimeError("cannot be handled")
        await recorder("law.poison")(event, transaction)

    process.bus.consume("law.poison", ["law.thing.poisoned.v1"], handle)
    async with running(process):
        events = [process.event("law.thing.poisoned.v1", TENANT, sick, nth=nth) for nth in (1, 2, 3)]
        others = [process.event("law.thing.poisoned.v1", TENANT, well, nth=nth) for nth in (1, 2, 3)]
        for event in others:
            object.__setattr__(event, "partition", events[0].partition)
        await process.bus.publish(*[event for pair in zip(events, others, strict=True) for event in pair])

        async def through() -> bool:
            return len(await effects(process, "law.poison")) == 5

        await settled(through)
        attempts = [step for step in order if step == (str(sick), 1)]
        assert len(attempts) == 4
        assert [nth for subject, nth in order if subject == str(well)] == [1, 2, 3]
        assert [nth for subject, nth in order if subject == str(sick)][-2:] == [2, 3]
        assert order.index((str(well), 3)) < order.index((str(sick), 2))
        parked = await process.database.engine.fetch(
            "select id, attempts, error from bus.held where parked is not null"
        )
        assert [(row["id"], row["attempts"]) for row in parked] == [(events[0].id, 4)]
        assert "cannot be handled" in parked[0]["error"]


async def test_events_without_a_tenant_are_delivered(law_settings: Settings) -> None:
    process, heard = make(law_settings), asyncio.Queue[tuple[Any, Any]]()

    async def handle(event: Event, transaction: Transaction) -> None:
        heard.put_nowait((event.tenant, transaction.tenant))

    process.bus.consume("law.nobody", ["law.catalogue.announced.v1"], handle)
    async with running(process):
        await process.bus.publish(process.event("law.catalogue.announced.v1", None, digest="x"))
        assert await heard.get() == (None, None)
        async with process.database.write(None) as transaction:
            transaction.publish(process.event("law.catalogue.announced.v1", None, digest="y"))
        assert await heard.get() == (None, None)


async def test_what_rolls_back_was_never_published(process: Process) -> None:
    heard: list[Event] = []
    stop = process.bus.listen(["law.thing.dropped.v1"], heard.append)

    async def fail() -> None:
        async with process.database.write(TENANT) as transaction:
            transaction.publish(process.event("law.thing.dropped.v1", TENANT))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    async with process.database.write(TENANT) as transaction:
        transaction.publish(kept := process.event("law.thing.dropped.v1", TENANT))
    stop()
    async with process.database.write(TENANT) as transaction:
        transaction.publish(process.event("law.thing.dropped.v1", TENANT))
    assert heard == [kept]


async def test_an_event_of_another_tenant_than_its_transaction_is_refused(process: Process) -> None:
    with pytest.raises(ValueError, match="another tenant"):
        async with process.database.write(TENANT) as transaction:
            transaction.publish(process.event("law.thing.dropped.v1", OTHER))


@pytest.mark.shows("CC-03")
async def test_no_event_is_larger_than_a_payload_and_its_envelope(process: Process) -> None:
    limit = process.settings.claim_check_bytes
    await process.bus.publish(process.event("law.thing.large.v1", TENANT, body="x" * limit))
    with pytest.raises(TooLarge):
        await process.bus.publish(process.event("law.thing.large.v1", TENANT, body="x" * (limit + 65_536)))
    with pytest.raises(TooLarge):
        async with process.database.write(TENANT) as transaction:
            transaction.publish(process.event("law.thing.large.v1", TENANT, body="x" * (limit + 65_536)))


@pytest.mark.shows("EV-01", "EV-02")
async def test_stored_events_are_cloudevents_with_linted_names(process: Process) -> None:
    event = process.event("law.thing.stored.v1", TENANT, answer=42)
    await process.bus.publish(event)
    row = await process.database.engine.fetchrow("select *, xid::text from bus.log where id = $1", event.id)
    cloud = eventlog.event(row).cloud()
    assert cloud == event.cloud()
    assert {"id", "source", "type", "subject", "time", "datacontenttype", "data", "specversion"} <= cloud.keys()
    assert cloud["specversion"] == "1.0"
    assert cloud["correlationid"] == str(event.id)
    with pytest.raises(asyncpg.CheckViolationError):
        await process.bus.publish(process.event("Thing Happened", TENANT))


def _note(heard: list[UUID], event: Event) -> None:
    heard.append(event.id)


async def test_listeners_and_wakes_of_every_process_hear_of_it_once(law_settings: Settings) -> None:
    async with process_on(law_settings) as one, process_on(law_settings) as two:

        async def know_each_other() -> bool:
            return one.leases.peers == two.leases.peers == 1

        await settled(know_each_other)
        heard: dict[str, list[UUID]] = {"one": [], "two": []}
        woken: dict[str, list[int]] = {"one": [], "two": []}
        for name, process in (("one", one), ("two", two)):
            process.bus.listen(["law.reply.sent.v1"], partial(_note, heard[name]))
            process.bus.on_wake("law.topic", woken[name].append)
        events = [process.event("law.reply.sent.v1", TENANT) for process in (one, two, one)]
        await one.bus.publish(events[0])
        await two.writer.commit(Ingress(rows=[(CALL.name, (TENANT, uuid7(), "x"))], events=[events[1]]))
        async with one.database.write(TENANT) as transaction:
            transaction.publish(events[2])
            transaction.wake("law.topic", 7)

        async def everybody() -> bool:
            return all(len(found) >= 3 for found in heard.values()) and all(woken.values())

        await settled(everybody)
        ids = sorted(event.id for event in events)
        assert {name: sorted(found) for name, found in heard.items()} == {"one": ids, "two": ids}
        assert woken == {"one": [7], "two": [7]}


async def test_trimming_spares_the_unread_the_held_and_the_young(law_settings: Settings) -> None:
    async with process_on(law_settings) as process:
        old, unread, young = (process.event("law.thing.trimmed.v1", TENANT) for _ in range(3))
        for event in (old, unread):
            object.__setattr__(event, "time", event.time - timedelta(days=30))
        pool = process.database.engine

        async def left() -> set[UUID]:
            rows = await pool.fetch("select id from bus.log where type = 'law.thing.trimmed.v1'")
            return {row["id"] for row in rows}

        await process.bus.publish(old)
        await cursors.enrol(pool, "law.trimmer", ["law.thing.trimmed.v1"], 16)
        assert await left() == {old.id}
        await cursors.trim(pool, 16, timedelta(days=7))
        assert await left() == {old.id}, "the reader has not read it"
        await pool.execute("update bus.pos set snap = pg_current_snapshot(), upto = null")
        await process.bus.publish(unread)
        await process.bus.publish(young)
        await pool.execute(
            "insert into bus.held (consumer, id, part, xid, seq, tenant, subject) "
            "select 'law.trimmer', id, part, xid, seq, tenant, subject from bus.log where id = $1",
            old.id,
        )
        await cursors.trim(pool, 16, timedelta(days=7))
        assert await left() == {old.id, unread.id, young.id}
        await pool.execute("delete from bus.held where consumer = 'law.trimmer'")
        await cursors.trim(pool, 16, timedelta(days=7))
        assert await left() == {unread.id, young.id}
        await pool.execute("delete from bus.pos where consumer = 'law.trimmer'")
