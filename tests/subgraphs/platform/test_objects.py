"""Claim checks: where the threshold is, what a reference promises, what becomes of orphans."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from subgraphs.platform.database import Database
from subgraphs.platform.objects import Damaged, Objects, Ref
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
        await objects.get(OTHER, first)
    assert await objects.put(OTHER, b"\x00binary\xff") == first
    assert await objects.get(OTHER, first) == b"\x00binary\xff"


@pytest.mark.shows("CC-09")
async def test_damage_is_noticed(objects: Objects) -> None:
    ref = await objects.put(TENANT, b"true words")
    Path(path_of(objects, ref)).write_bytes(b"lies words")
    with pytest.raises(Damaged, match="damaged"):
        await objects.get(TENANT, ref)


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
    with pytest.raises(Damaged, match="gone"):
        await objects.get(TENANT, orphan)


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
