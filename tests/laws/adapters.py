"""The two databases the laws are tried on: PostgreSQL, and the one the simulator has in its place."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

from subgraphs.platform.bus import Bus
from subgraphs.platform.leases import Lease, Leases
from tests.laws.ground import CALL, JOURNAL, RUN, SEEN, Process
from tests.simulation.driver import SimDatabase, SimWriter
from tests.simulation.server import Server
from tests.simulation.wire import Wire

TABLES = (RUN, JOURNAL, CALL, SEEN)


@dataclass(frozen=True)
class Adapter:
    """`make(works=True)` gives a process on this database; all of one adapter share it."""

    name: str
    make: Callable[..., Process]


@dataclass
class SimProcess(Process):
    """A process on the simulated server; what laws look at stands in its tables."""

    @property
    def server(self) -> Server:
        database: Any = self.database
        found: Server = database.wire.server
        return found

    async def words(self, run: UUID) -> list[str]:
        rows = [row for row in self.server.all(JOURNAL.name) if row["run"] == run]
        return [row["word"] for row in sorted(rows, key=lambda row: row["version"])]

    async def state(self, run: UUID) -> str | None:
        return next((row["state"] for row in self.server.all(RUN.name) if row["id"] == run), None)

    async def calls(self, call: UUID) -> int:
        return sum(row["id"] == call for row in self.server.all(CALL.name))

    async def logged(self, *subjects: UUID) -> int:
        wanted = {str(subject) for subject in subjects}
        return sum(row["subject"] in wanted for row in self.server.log)

    async def hand_over(self, part: int, owner: UUID | None, epochs: int = 0) -> None:
        lease = self.server.leases[part]
        lease.owner, lease.epoch = owner, lease.epoch + epochs

    async def owners(self) -> dict[int, UUID | None]:
        return {part: lease.owner for part, lease in self.server.leases.items()}

    async def parked(self, event: UUID) -> bool:
        return any(held.id == event and held.parked for held in self.server.held.values())


def simulated() -> Adapter:
    """A server of its own, on this process's clock, that answers at once."""
    server = Server(time.time)
    for table in TABLES:
        server.register(table)
    wire = Wire(server)
    settings: Any = SimpleNamespace(partitions=16, lease_seconds=1, claim_check_bytes=1 << 20)

    def make(*, works: bool = True) -> Process:
        database: Any = SimDatabase(wire, settings, uuid4().hex)
        writer = SimWriter(database, settings)
        for table in TABLES:
            writer.register(table)
        leases = Leases(database, writer, settings)
        process = SimProcess(settings, database, writer, leases, Bus(database, writer, leases, settings))

        async def acquired(lease: Lease) -> None:
            return None

        if works:
            leases.watch(acquired, process.lost.append)
        return process

    return Adapter("simulated", make)
