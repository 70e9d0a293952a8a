"""Claim checks: where the threshold is, what a reference promises, what becomes of orphans."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from subgraphs.platform.database import Database
from subgraphs.platform.objects import Damaged, Forged, Near, Objects, Ref
from subgraphs.platform.settings import Settings
from subgraphs.platform.writer import Ingress, Writer

TENANT, OTHER = uuid4(), uuid4()


@pytest.fixture
async def objects(settings: Settings) -> AsyncIterator[Objects]:
    database = Database(settings)
    await database.open()
    opened = Objects(settings, database)
    await opened.open()
    yield opened
    await opened.close()
    await database.close()


def path_of(objects: Objects, ref: Ref) -> str:
    return str(objects.folder / str(TENANT) / ref.sha256[:2] / ref.sha256)


@pytest.mark.shows("CC-01", "CC-02")
@pytest.mark.parametrize(("more", "inline"), [(-1, True), (0, True), (1, False)])
async def test_a_payload_above_the_limit_is_checked_in(objects: Objects, more: int, inline: bool) -> None:
    data = os.urandom(objects.settings.claim_check_bytes + more)
    found = await objects.check_in(TENANT, data)
    assert isinstance(found, bytes) is inline
    if isinstance(found, Ref):
        assert found.size == len(data)
        assert await objects.get(TENANT, found) == data
        assert Ref.of(found.json()) == found


@pytest.mark.shows("CC-04")
async def test_the_same_bytes_are_stored_once_and_for_each_tenant(objects: Objects) -> None:
    first, second = await asyncio.gather(objects.put(TENANT, b"\x00binary\xff"), objects.put(TENANT, b"\x00binary\xff"))
    assert first == second
    with pytest.raises(Damaged, match="gone"):
        await objects.get(OTHER, Ref(first.sha256, first.size))
    others = await objects.put(OTHER, b"\x00binary\xff")
    assert others == first
    assert await objects.get(OTHER, others) == b"\x00binary\xff"


@pytest.mark.shows("CC-06")
async def test_a_reference_that_was_made_up_changed_or_taken_from_others_is_refused(objects: Objects) -> None:
    mine, theirs = await objects.put(TENANT, b"the same bytes"), await objects.put(OTHER, b"the same bytes")
    given = mine.json()
    assert await objects.get(TENANT, parsed(given)) == b"the same bytes"
    forgeries = [
        theirs.json(),
        {**given, "seal": ""},
        {"$ref": mine.sha256, "size": mine.size},
        {**given, "size": mine.size + 1},
        {**given, "$ref": (await objects.put(TENANT, b"others")).sha256},
        {**given, "seal": "A" * len(given["seal"])},
    ]
    for forged in forgeries:
        with pytest.raises(Forged):
            await objects.get(TENANT, parsed(forged))
    with pytest.raises(Forged):
        await objects.get(OTHER, parsed(given))


def parsed(value: object) -> Ref:
    found = Ref.of(value)
    assert found is not None
    return found


@pytest.mark.shows("CC-09")
async def test_damage_is_noticed(objects: Objects) -> None:
    ref = await objects.put(TENANT, b"true words")
    Path(path_of(objects, ref)).write_bytes(b"lies words")
    with pytest.raises(Damaged, match="damaged"):
        await objects.get(TENANT, ref)


@pytest.mark.shows("CC-12")
async def test_a_payload_is_read_from_the_store_once_and_room_is_bounded(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    store = objects.store

    class Counting:
        async def get_async(self, name: str) -> object:
            reads.append(name)
            return await store.get_async(name)

    objects.near = Near(1000)
    refs = [await objects.put(TENANT, bytes([nth]) * 400) for nth in range(3)]
    large = await objects.put(TENANT, b"x" * 501)
    monkeypatch.setattr(objects, "store", Counting())
    assert {bytes(data) for data in await asyncio.gather(*(objects.get(TENANT, refs[0]) for _ in range(10)))} == {
        b"\0" * 400
    }
    assert len(reads) == 1
    await objects.get(TENANT, refs[1])
    await objects.get(TENANT, refs[0])
    await objects.get(TENANT, refs[2])
    assert objects.near.bytes == 800
    await objects.get(TENANT, refs[0])
    assert len(reads) == 3, "the least used made room"
    await objects.get(TENANT, refs[1])
    assert len(reads) == 4
    for _ in range(2):
        await objects.get(TENANT, large)
    assert len(reads) == 6, "what is larger than half the room is not kept"
    assert objects.near.bytes <= 1000
    with pytest.raises(Forged):
        await objects.get(TENANT, Ref(refs[0].sha256, 400, "made up"))


async def test_what_a_crash_left_half_written_is_written_again(objects: Objects) -> None:
    ref = await objects.put(TENANT, b"whole")
    os.truncate(path_of(objects, ref), 2)
    assert await objects.put(TENANT, b"whole") == ref
    assert await objects.get(TENANT, ref) == b"whole"


@pytest.mark.shows("CC-05")
async def test_orphans_are_swept_and_what_is_held_stays(objects: Objects) -> None:
    orphan, held = await objects.put(TENANT, b"nobody's"), await objects.put(TENANT, b"somebody's")
    writer = Writer(objects.database, objects.settings)
    await writer.open()
    await writer.commit(Ingress(rows=[objects.hold(TENANT, held, uuid4())]))
    await writer.close()
    assert await objects.sweep() == 0, "both are young"
    assert await objects.sweep(grace=timedelta(0)) >= 1
    assert await objects.get(TENANT, held) == b"somebody's"
    assert not os.path.exists(path_of(objects, orphan))
    assert await objects.get(TENANT, orphan) == b"nobody's", "within a week it can be brought back"
    await objects.sweep(grace=timedelta(0))
    await objects.sweep(grace=timedelta(0), kept=timedelta(0))
    objects.near = Near(0)
    with pytest.raises(Damaged, match="gone"):
        await objects.get(TENANT, orphan)


@pytest.mark.shows("CC-08")
async def test_an_object_goes_with_its_last_holder(objects: Objects) -> None:
    ref, one, two = await objects.put(TENANT, b"held by two"), uuid4(), uuid4()
    writer = Writer(objects.database, objects.settings)
    await writer.open()
    await writer.commit(Ingress(rows=[objects.hold(TENANT, ref, holder) for holder in (one, two)]))
    await writer.close()
    await objects.release(OTHER, [one, two])
    await objects.release(TENANT, [one])
    await objects.sweep(grace=timedelta(0), kept=timedelta(0))
    assert os.path.exists(path_of(objects, ref)), "two holds it still"
    await objects.release(TENANT, [two])
    assert await objects.sweep(grace=timedelta(0)) >= 1
    assert not os.path.exists(path_of(objects, ref))


@pytest.mark.shows("CC-05")
async def test_a_sweep_spares_what_is_stored_again_while_it_looks(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its look at who holds an old orphan and its move, somebody stores the same bytes to refer to them."""
    ref = await objects.put(TENANT, b"wanted again")
    long_ago = time.time() - 7200
    os.utime(path_of(objects, ref), (long_ago, long_ago))
    looked = objects._held

    async def slow(names: list[str]) -> set[str]:
        held = await looked(names)
        assert await objects.put(TENANT, b"wanted again") == ref
        return held

    monkeypatch.setattr(objects, "_held", slow)
    await objects.sweep()
    assert os.path.exists(path_of(objects, ref))


@pytest.mark.shows("CC-05", "CC-08")
async def test_stores_and_sweeps_at_the_same_time_leave_no_reference_dangling(objects: Objects) -> None:
    payloads, told = [f"again and again {nth}".encode() for nth in range(20)], dict[bytes, Ref]()
    writer = Writer(objects.database, objects.settings)
    await writer.open()
    done = asyncio.Event()

    async def sweeping() -> int:
        rounds = 0
        while not done.is_set():
            await objects.sweep(grace=timedelta(milliseconds=1), kept=timedelta(days=1))
            rounds += 1
        return rounds

    async def storing(data: bytes) -> None:
        for _ in range(5):
            await objects.put(TENANT, data)
            told[data] = ref = await objects.put(TENANT, data)
            assert await objects.get(TENANT, ref) == data
        await writer.commit(Ingress(rows=[objects.hold(TENANT, told[data], uuid4())]))

    sweeper = asyncio.create_task(sweeping())
    await asyncio.gather(*(storing(data) for data in payloads))
    done.set()
    assert await sweeper > 0
    await writer.close()
    await objects.sweep(grace=timedelta(0), kept=timedelta(0))
    objects.near = Near(0)
    for data, ref in told.items():
        assert await objects.get(TENANT, ref) == data


KILLED = """
import asyncio, os, signal, sys
from uuid import UUID
from subgraphs.platform.database import Database
from subgraphs.platform.objects import Objects
from subgraphs.platform.settings import Settings

async def main():
    settings = Settings.load(os.environ)
    database = Database(settings)
    await database.open()
    objects = Objects(settings, database)
    await objects.open()
    ref = await objects.put(UUID(sys.argv[1]), b"put, then killed")
    print(ref.sha256, ref.size, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.shows("CC-05")
async def test_a_kill_between_put_and_commit_leaves_an_orphan_and_no_dangling_reference(objects: Objects) -> None:
    """The bytes come first and the reference after, so the worst that is left is bytes without a reference."""
    settings = objects.settings
    environment = os.environ | {
        "LINKFLOW_HOME": str(settings.home),
        "LINKFLOW_DATABASE_URL": str(settings.database_url),
        "PYTHONPATH": os.getcwd(),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, str(TENANT), env=environment, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    assert process.returncode == -signal.SIGKILL
    sha256, size = printed.decode().split()[-2:]
    ref = Ref(sha256, int(size))
    assert await objects.get(TENANT, ref) == b"put, then killed"
    count = "select count(*) from bus.blob where sha256 = $1"
    assert await objects.database.engine.fetchval(count, sha256) == 0
    assert await objects.sweep(grace=timedelta(0)) >= 1
    assert not os.path.exists(path_of(objects, ref))


@pytest.mark.parametrize(
    "value",
    [None, [], {"$ref": "x", "size": 1}, {"$ref": "a" * 64}, {"$ref": "A" * 64, "size": 1}, {"$ref": 7, "size": 1}],
)
def test_only_a_whole_reference_is_one(value: object) -> None:
    assert Ref.of(value) is None
