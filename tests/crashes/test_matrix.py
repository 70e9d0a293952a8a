"""R02: every crash point x every kind of node, each at its first, second, … passing, until the run outruns it."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from subgraphs.engine.run import StepAmbiguous, decode
from subgraphs.execution.domain import CODES
from tests.crashes.checker import judge, last_calls
from tests.crashes.conftest import FULL, Rigs
from tests.crashes.graphs import KINDS, whole
from tests.crashes.places import PLACES
from tests.crashes.rig import Rig
from tests.sandbox.conftest import Running, start, stop

SPARED = {"before_drain"}
"""Points that are on no run's way; R08 passes them."""
HITS = 8
CHAINS = 2
CELLS = 24
"""Of the small size."""


@pytest.fixture(scope="module")
def guests(scratch: Path) -> Iterator[Running]:
    running = start(scratch / "crashes.sock", scratch / "sandbox-cache")
    yield running
    stop(running)


def cells(rig: Rig) -> list[tuple[str, str]]:
    """All of them, or a sample in which every point and every kind is."""
    points, kinds = [point for point in PLACES if point not in SPARED], list(KINDS)
    every = list(itertools.product(points, kinds))
    rig.chance.shuffle(every)
    if FULL:
        return every
    rig.chance.shuffle(kinds)
    diagonal = [(point, kinds[at % len(kinds)]) for at, point in enumerate(points)]
    return list(dict.fromkeys([*diagonal, *every]))[:CELLS]


WAITS = (CODES["running"], CODES["waiting"])
LETTER = """
insert into execution.inbox (tenant, run, id, part, kind, data) values ($1, $2, $2, $3, $4, $5) on conflict do nothing
"""


class Chain:
    """Cells one after the other: the process of one cell recovers what the last one left, then dies in its own."""

    def __init__(self, rig: Rig, tally: Counter[str]) -> None:
        self.rig, self.tally = rig, tally
        self.died: set[tuple[str, str]] = set()

    async def run(self, cells: list[tuple[str, str]]) -> None:
        for point, kind in cells:
            for hit in range(1, HITS + 1):
                if not await self.cell(point, kind, hit) or not FULL:
                    break

    async def cell(self, point: str, kind: str, hit: int) -> bool:
        """Whether the process died at this point."""
        rig = self.rig
        for former in list(rig.workers):
            await rig.remove(former)
        worker = await rig.spawn(PLACES[point].at(hit, later=True))
        await self.quiet()
        worker.signal(signal.SIGUSR1)
        starting = asyncio.create_task(rig.start(kind, KINDS[kind].pad))
        ended = asyncio.create_task(self.ended(kind))
        work = asyncio.gather(starting, ended)  # the answer too: a process may end the run and die before it answers
        await asyncio.wait([work, worker.ended], return_when=asyncio.FIRST_COMPLETED)  # type: ignore[type-var]
        died = not work.done()
        if died:
            await rig.remove(worker)
            await rig.spawn()
        await asyncio.wait_for(work, 40)
        self.tally["died" if died else "outrun"] += 1
        if died:
            self.died.add((point, kind))
        return died

    async def quiet(self) -> None:
        """Until what former cells left has ended."""
        await self.rig.watch(len(self.rig.acknowledged), 40)

    async def ended(self, kind: str) -> None:
        """Until the run of this cell has ended, settled or cancelled where its kind asks for it."""
        rig, known = self.rig, set(self.rig.ended)
        async with rig.connected() as connection:
            while True:
                rows = await connection.fetch(
                    "select tenant, id, part, status, version from execution.run where id <> all($1)", list(known)
                )
                for row in rows:
                    if row["status"] >= 4:
                        rig.ended.setdefault(row["id"], (row["status"], row["version"]))
                        return
                    if KINDS[kind].ambiguous and row["status"] == CODES["waiting"]:
                        await self.settle(connection, row)
                    if KINDS[kind].letter and row["status"] in WAITS:
                        await connection.execute(
                            LETTER, row["tenant"], row["id"], row["part"], KINDS[kind].letter, KINDS[kind].data
                        )
                await asyncio.sleep(0.02)

    async def settle(self, connection: asyncpg.Connection, row: Any) -> None:
        """Somebody looks into the ledger whether an ambiguous attempt has happened, and says so."""
        chunks = await connection.fetch("select data from execution.journal where run = $1 order by version", row["id"])
        events = [event for chunk in chunks for event in decode(bytes(chunk["data"]))]
        unclear = [event for event in events if isinstance(event, StepAmbiguous)]
        for event in unclear[-1:]:
            await asyncio.sleep(0.2)  # the call may still be on its way to the ledger
            _, done = self.rig.ledger.read()
            happened = ("plain", f"{row['id']}:{event.node}") in done
            data = {"node": event.node, "attempt": event.attempt, "happened": happened}
            data |= {"outputs": {"main": [{"body": "done"}]}} if happened else {}
            await connection.execute(
                LETTER, row["tenant"], row["id"], row["part"], "settle", msgspec.json.encode(data).decode()
            )
            self.tally["settled"] += 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.shows("EX-01", "EX-02", "EX-21", "XR-18")
async def test_r02_every_crash_point_at_every_kind_of_node(rigs: Rigs, guests: Running) -> None:
    tally: Counter[str] = Counter()
    made = [await rigs(workers=1, pause=0.0, load=False, sandbox=guests.socket) for _ in range(CHAINS)]
    todo = cells(made[0])
    for rig in made:
        await rig.publish(
            whole=whole(rig.ledger.url), **{name: kind.definition(rig.ledger.url) for name, kind in KINDS.items()}
        )
    chains = [Chain(rig, tally) for rig in made]
    await asyncio.gather(*(chain.run(todo[at::CHAINS]) for at, chain in enumerate(chains)))
    for rig in made:
        for worker in list(rig.workers):  # it may still be told to die at a point that its cell never came to
            await rig.remove(worker)
        await rig.spawn()
        await last_calls(rig)
        verdict = await judge(rig)
        assert not verdict.wrong
    died = set().union(*(chain.died for chain in chains))
    points, kinds = {point for point, _ in died}, {kind for _, kind in died}
    print(
        f"\nR02: {len(todo)} cells of {len(PLACES) - len(SPARED)} points x {len(KINDS)} kinds, "
        f"{tally['died']} deaths in {len(died)} cells, {tally['outrun']} runs outran their point; "
        f"equal to the model: all. "
        f"Points reached: {', '.join(sorted(points))}; kinds: {', '.join(sorted(kinds))}"
    )
    assert points, "nobody died: the test proved nothing"
