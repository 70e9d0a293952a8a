"""What crash tests stand on: a zygote and a ledger for all of them, a database and processes for each."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.crashes.database import Server, server_running, settings_on
from tests.crashes.graphs import whole
from tests.crashes.rig import Rig
from tests.crashes.supervisor import Zygote, ledger_running, zygote_running

FULL = os.environ.get("SIZE") == "full"
"""`SIZE=full make test TESTS=tests/crashes` runs everything at its full size, as `make test-all` does."""


def sized(small: int, full: int) -> int:
    """The size of a test: for every run of the suite, or in full."""
    return full if FULL else small


@pytest.fixture(scope="session")
def chance() -> random.Random:
    """All randomness of these tests, from one seed that is printed; SEED=n runs the same again."""
    seed = int(os.environ.get("SEED") or secrets.randbits(32))
    print(f"\ncrash tests: SEED={seed}")
    return random.Random(seed)


@pytest.fixture(scope="session")
async def zygote() -> AsyncIterator[Zygote]:
    async with zygote_running() as running:
        yield running


@pytest.fixture
async def server(scratch: Path) -> AsyncIterator[Server]:
    """A database server of this test's own, behind a proxy."""
    async with server_running(scratch) as running:
        yield running


Rigs = Callable[..., Awaitable[Rig]]


@pytest.fixture
async def rigs(
    fresh_settings: Callable[..., Any], zygote: Zygote, scratch: Path, chance: random.Random
) -> AsyncIterator[Rigs]:
    """`await rigs(workers=2, pause=0.02, **settings)`: a rig with a database and a ledger of its own."""
    made: list[Any] = []

    async def make(
        *, workers: int = 2, pause: float = 0.02, load: bool = True, server: Server | None = None, **changes: Any
    ) -> Rig:
        if server is not None:
            settings = await settings_on(server, scratch)
        else:
            settings = await fresh_settings(**{"lease_seconds": 1, **changes})
        ledger = ledger_running(settings.home / "ledger.jsonl", pause)
        client = httpx.AsyncClient(limits=httpx.Limits(max_connections=400, max_keepalive_connections=0))
        rig = Rig(settings, zygote, await ledger.__aenter__(), client, chance)
        rig.direct = server.direct if server is not None else ""
        living = asyncio.create_task(rig.live())
        made.append((rig, ledger, client, living))
        await asyncio.gather(*(rig.spawn() for _ in range(workers)))
        if load:
            await rig.publish(whole=whole(rig.ledger.url))
        return rig

    yield make
    for rig, ledger, client, living in made:
        living.cancel()
        with suppress(asyncio.CancelledError):
            await living
        await rig.close()
        await ledger.__aexit__(None, None, None)
        await client.aclose()
