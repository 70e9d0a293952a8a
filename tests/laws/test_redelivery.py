"""What operators do with the log: dead letters tried again, one consumer reads again, counts that add up; upcasting."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from subgraphs.platform import delivery, redelivery
from subgraphs.platform.database import Transaction
from subgraphs.platform.domain import Event, Invalid, Missing, uuid7
from subgraphs.platform.settings import CHECKOUT, Settings
from tests.laws.ground import TENANT, Process, make, running, settled
from tests.laws.test_bus import effects, recorder

SAMPLES = Path(__file__).with_name("samples")


Said = tuple[int, list[dict[str, Any]], str]


async def command(settings: Settings, *words: str) -> Said:
    """`linkflow bus WORDS --json`: its exit code, what it said, and what it complained of."""
    return await asyncio.to_thread(_command, settings, *words)


def _command(settings: Settings, *words: str) -> Said:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LINKFLOW_")}
    done = subprocess.run(
        [sys.executable, "-m", "subgraphs.platform.cli", "bus", *words, "--json"],
        env={**kept, **settings.environment(), "PYTHONPATH": str(CHECKOUT)},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


async def same_part(process: Process, kind: str, *words: tuple[Any, int]) -> list[Event]:
    """Events of several subjects in one partition, in order."""
    events = [process.event(kind, TENANT, subject, nth=nth) for subject, nth in words]
    for event in events:
        object.__setattr__(event, "partition", events[0].partition)
    await process.bus.publish(*events)
    return events


@pytest.mark.shows("EV-10", "CQ-09", "EV-15")
async def test_a_poison_event_is_dead_alone_and_is_tried_again_when_told(
    law_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(delivery, "ATTEMPTS", 3)
    process, order, cured = make(law_settings), list[tuple[str, int]](), list[bool]()
    sick, well = uuid7(), uuid7()
    record = recorder("law.dead")

    async def handle(event: Event, transaction: Transaction) -> None:
        order.append((event.subject, event.data["nth"]))
        if event.subject == str(sick) and event.data["nth"] == 1 and not cured:
            raise RuntimeError("no sense in it")
        await record(event, transaction)

    process.bus.consume("law.dead", ["law.thing.died.v1"], handle)
    async with running(process):
        words = [(well, 1), (sick, 1), (well, 2), (sick, 2), (well, 3)]
        events = await same_part(process, "law.thing.died.v1", *words)

        async def others() -> bool:
            return len(await effects(process, "law.dead")) == 4

        await settled(others)
        assert [nth for subject, nth in order if subject == str(well)] == [1, 2, 3]
        await listed_and_counted(law_settings, events[1])
        cured.append(True)
        code, said, _ = await command(law_settings, "redrive", "law.dead")
        assert (code, said) == (0, [{"redriven": 1, "left": 0}])

        async def everything() -> bool:
            return await effects(process, "law.dead") == {event.id: 1 for event in events}

        await settled(everything)
        code, said, complaint = await command(law_settings, "redrive", "law.dead")
        assert (code, said) == (1, [])
        assert json.loads(complaint)["problem"] == "missing"


async def listed_and_counted(settings: Settings, event: Event) -> None:
    code, said, _ = await command(settings, "dead", "--consumer", "law.dead")
    assert code == 0
    told = [(line["id"], line["attempts"], line["error"]) for line in said]
    assert told == [(str(event.id), 3, "RuntimeError('no sense in it')")]
    (count,) = [line for line in (await command(settings, "counts"))[1] if line.get("consumer") == "law.dead"]
    assert (count["logged"], count["acted"], count["dead"], count["missing"]) == (5, 4, 1, 0)


def counting(handled: Counter[Any]) -> delivery.Handle:
    async def handle(event: Event, transaction: Transaction) -> None:
        handled[event.id] += 1

    return handle


@pytest.mark.shows("EV-05")
@pytest.mark.parametrize("from_time", [True, False])
async def test_one_consumer_reads_again_from_a_place_and_nobody_else(law_settings: Settings, from_time: bool) -> None:
    kind = f"law.thing.replayed{'early' if from_time else 'late'}.v1"
    names = (f"law.again.{from_time}", f"law.others.{from_time}")
    process, handled = make(law_settings), {name: Counter[Any]() for name in names}

    for name in names:
        process.bus.consume(name, [kind], counting(handled[name]))
    async with running(process):
        events = [process.event(kind, TENANT, nth=nth) for nth in range(40)]
        for nth, event in enumerate(events):
            object.__setattr__(event, "time", event.time - timedelta(hours=len(events) - nth))
            await process.bus.publish(event)

        async def through(again: int = 0) -> bool:
            wanted = {event.id: 1 + (nth >= 40 - again) for nth, event in enumerate(events)}
            return handled[names[0]] == wanted and handled[names[1]] == {event.id: 1 for event in events}

        await settled(through)
        place = await process.database.engine.fetchval("select xid::text from bus.log where id = $1", events[30].id)
        where = ["--since", events[30].time.isoformat()] if from_time else ["--offset", place]
        code, said, complaint = await command(law_settings, "replay", names[0], *where)
        assert (code, said) == (0, [{"consumer": names[0], "events": 10}]), complaint

        async def again() -> bool:
            return await through(10)

        await settled(again)
        later = process.event(kind, TENANT, nth=40)
        await process.bus.publish(later)

        async def all_heard() -> bool:
            return all(heard[later.id] == 1 for heard in handled.values())

        await settled(all_heard)
        counts = {count.consumer: count for count in await counted(law_settings)}
        assert all((counts[name].acted, counts[name].missing) == (41, 0) for name in names)


async def counted(settings: Settings) -> list[redelivery.Count]:
    connection = await asyncpg.connect(settings.dsn("lf_engine"))
    try:
        return await redelivery.counts(connection)
    finally:
        await connection.close()


@pytest.mark.shows("EV-05")
async def test_a_replay_from_nowhere_or_by_nobody_is_refused(law_settings: Settings) -> None:
    connection = await asyncpg.connect(law_settings.dsn("lf_engine"))
    try:
        with pytest.raises(Missing):
            await redelivery.replay(connection, "law.nobody.at.all", offset=1)
        with pytest.raises(Invalid):
            await redelivery.replay(connection, "law.nobody.at.all")
    finally:
        await connection.close()
    assert (await command(law_settings, "replay", "law.x", "--since", "yesterday"))[0] == 1


@pytest.mark.shows("EV-15")
async def test_an_event_that_was_passed_over_or_acted_on_twice_is_named(law_settings: Settings) -> None:
    process = make(law_settings)
    process.bus.consume("law.counted", ["law.thing.reconciled.v1"], recorder("law.counted"))
    async with running(process):
        events = [process.event("law.thing.reconciled.v1", TENANT) for _ in range(10)]
        await process.bus.publish(*events)

        async def through() -> bool:
            return len(await effects(process, "law.counted")) == 10

        await settled(through)

        async def count() -> redelivery.Count:
            return next(each for each in await counted(law_settings) if each.consumer == "law.counted")

        async def at_rest() -> bool:
            return (await count()).passed == 10

        await settled(at_rest)
        assert ((await count()).missing, (await count()).doubled) == (0, 0)
        pool = process.database.engine
        await pool.execute("delete from bus.inbox where consumer = 'law.counted' and id = $1", events[3].id)
        assert list((await count()).missing_ids) == [events[3].id]
        assert (await command(law_settings, "counts"))[0] == 1
        await pool.execute("delete from bus.pos where consumer = 'law.counted'")


def placed_v1(data: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"order": data["id"], "total": {"amount": data["amount"], "currency": "EUR"}}


def placed_v2(data: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**data, "lines": []}


@pytest.mark.shows("EV-12")
async def test_every_historic_sample_is_read_as_it_would_be_written_today(law_settings: Settings) -> None:
    """An event of each version that was ever written, from a file; readers name the newest version only."""
    samples = {path.stem: json.loads(path.read_text()) for path in sorted(SAMPLES.glob("law.order.placed.v*.json"))}
    assert set(samples) == {"law.order.placed.v1", "law.order.placed.v2", "law.order.placed.v3"}
    process, handled, heard = make(law_settings), dict[Any, Event](), list[Event]()

    async def handle(event: Event, transaction: Transaction) -> None:
        handled[event.id] = event

    process.bus.upcast("law.order.placed.v1", "law.order.placed.v2", placed_v1)
    process.bus.upcast("law.order.placed.v2", "law.order.placed.v3", placed_v2)
    process.bus.consume("law.orders", ["law.order.placed.v3"], handle)
    process.bus.listen(["law.order.placed.v3"], heard.append)
    with pytest.raises(ValueError, match="too late"):
        process.bus.upcast("law.order.placed.v3", "law.order.placed.v4", placed_v2)
    async with running(process):
        sent = {kind: process.event(kind, TENANT, **sample["written"]) for kind, sample in samples.items()}
        await process.bus.publish(*sent.values())

        async def through() -> bool:
            return len(handled) == len(heard) == 3

        await settled(through)
    for kind, event in sent.items():
        read = handled[event.id]
        assert (read.type, read.data) == ("law.order.placed.v3", samples[kind]["read"])
        assert (read.id, read.subject, read.time) == (event.id, event.subject, event.time)
        assert read in heard


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("law.a.b.v2", "law.a.b.v1"),
        ("law.a.b.v1", "law.a.c.v2"),
        ("law.a.b.v1", "law.a.b"),
        ("law.a.b.v1", "law.a.b.v1"),
    ],
)
def test_a_step_leads_to_a_later_version_of_the_same_event(law_settings: Settings, old: str, new: str) -> None:
    with pytest.raises(ValueError):
        make(law_settings).bus.upcast(old, new, placed_v1)
