"""A seed's whole world: processes on one server, what befalls them, what clients ask, and the verdict."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from subgraphs.execution.events import CALLED
from subgraphs.execution.runner import live
from subgraphs.execution.storage import INBOX
from subgraphs.platform import delivery, domain, leases, writer
from tests.simulation.clients import Clients
from tests.simulation.judge import Judge
from tests.simulation.loop import DEAD, OWNER, RUNNING, STOPPED, Loop
from tests.simulation.plants import planted
from tests.simulation.process import TABLES, Process, settings
from tests.simulation.server import Server
from tests.simulation.wire import Wire

EPOCH = 1_800_000_000.0
PREPARER = "execution"
HEALED = 240.0  # virtual seconds after the last fault until everything must have ended
LONGEST = 600.0
EMPTY = Context()


@dataclass(frozen=True)
class Verdict:
    """What became of a seed. `hash` is the same whenever and wherever the seed runs."""

    seed: int
    faults: tuple[str, ...]
    hash: str
    runs: int
    virtual: float
    ticks: int


class Weather(Wire):
    """How the wire treats this seed's messages."""

    def __init__(self, server: Server, random: Random, world: World) -> None:
        super().__init__(server)
        self.world, self.random = world, random.random
        pick = random.choice
        self.slowness = pick((0.0005, 0.002, 0.002, 0.01))
        self.stalls = pick((0.0, 0.0, 0.005, 0.03))
        self.broken = pick((0.0, 0.0, 0.002, 0.02))
        self.refused = pick((0.0, 0.0, 0.005))
        self.unheard = pick((0.0, 0.1, 0.5, 1.0))
        self.doubled = pick((0.0, 0.2))
        self.splits = pick((0.0, 0.2))
        self.sloth = pick((0.0, 0.0, 3.0))
        self.calm = False

    def delay(self) -> float:
        drawn = self.random()
        if drawn < self.stalls and not self.calm:
            return self.random() * 1.5
        return drawn * self.slowness

    def fate(self) -> str:
        if self.calm:
            return "ok"
        drawn = self.random()
        if drawn < self.broken:
            return "lost" if drawn < self.broken / 2 else "unanswered"
        return "refused" if drawn < self.broken + self.refused else "ok"

    def dawdle(self) -> float:
        return 0.0 if self.calm else self.random() * self.sloth

    def split(self) -> bool:
        return self.random() < self.splits

    def deliveries(self) -> tuple[float, ...]:
        if self.calm:
            return (self.delay(),)
        if self.random() < self.unheard:
            return ()
        return (self.delay(), self.random()) if self.random() < self.doubled else (self.delay(),)

    def note(self, *words: Any) -> None:
        if words[0] == "discarded":
            self.world.judge.discarded(words[2], words[3])
        elif words[0] == "insert" and words[1] == INBOX.name:
            self.world.judge.posted(words[4], words[3])
        self.world.note(*words[:4])


class World:
    """Makes everything of one seed and runs it to its verdict."""

    def __init__(self, seed: int, *, told: Callable[[str], None] | None = None, plant: str | None = None) -> None:
        self.seed, self.told, self.plant = seed, told, plant
        self.random = Random(f"{seed}:world")
        self.loop = Loop(Random(f"{seed}:order"))
        self.trace = hashlib.blake2b(digest_size=16)
        self.server = Server(self.clock)
        for table in TABLES:
            self.server.register(table)
        self.wire = Weather(self.server, Random(f"{seed}:weather"), self)
        self.judge = Judge(self.server, self.note)
        self.settings = settings(self.random)
        self.processes: list[Process] = []
        self.made = self.fallen = 0
        self.judge.deaths = lambda: self.fallen
        self.heard = 0
        self.ids = Random(f"{seed}:ids")
        self.skewed = self.random.random() < 0.2

    def clock(self) -> float:
        """True time: seconds since 1970."""
        return EPOCH + self.loop.now

    def note(self, *words: Any) -> None:
        owner = OWNER.get()
        line = f"{self.loop.now:.6f} {owner.name if owner else '-'} {' '.join(map(str, words))}"
        self.trace.update(line.encode())
        if self.told is not None:
            self.told(line)

    def ids_of_plants(self) -> UUID:
        return UUID(int=self.ids.getrandbits(128), version=4)

    # -- processes

    def boot(self) -> Process:
        self.made += 1
        skew = self.random.uniform(-2, 2) if self.skewed else 0.0
        process = Process(self, f"p{self.made}", skew)
        self.processes.append(process)
        self.note("boot", process.name)
        return process

    def kill(self, process: Process, after: float) -> None:
        """The process is gone at once; the server sees its connections end a moment later, another starts then."""
        if process.state == DEAD:
            return
        self.note("kill", process.name)
        self.fallen += 1
        process.state = DEAD
        process.parked.clear()
        self.processes.remove(process)
        self.loop.call_later(self.wire.delay(), self._hang_up, process, context=EMPTY)
        self.loop.call_later(after, self.boot, context=EMPTY)

    def _hang_up(self, process: Process) -> None:
        for session in [each for each in self.wire.sessions if each.owner is process]:
            self.wire.cut(session)

    async def stop(self, process: Process, seconds: float) -> None:
        """As SIGSTOP and SIGCONT."""
        self.note("stop", process.name)
        self.fallen += 1
        process.state = STOPPED
        await asyncio.sleep(seconds)
        if process.state == STOPPED:
            self.note("go on", process.name)
            self.loop.resume(process)

    async def drain(self, process: Process) -> None:
        """As SIGTERM, and a new one in its place."""
        self.note("drain", process.name)
        process.opened = False
        try:
            await self.within(process, process.stop(), 30.0)
        except TimeoutError:
            if process.state == RUNNING:
                self.judge.fault(f"R81: {process.name} was told to stop and did not")
        except Exception as error:  # noqa: BLE001 - it ends either way
            self.note("not drained", repr(error))
        self.kill(process, 0.1)

    def working(self) -> list[Process]:
        return [process for process in self.processes if process.opened and process.state == RUNNING]

    async def within(self, process: Process, work: Coroutine[Any, Any, Any], patience: float) -> Any:
        """Runs `work` as part of a process; raises TimeoutError if it does not end, because the process did."""
        done = self.loop.create_future()

        async def report() -> None:
            try:
                result = await work
            except Exception as error:  # noqa: BLE001 - it is the caller's
                if not done.done():
                    done.set_exception(error)
            else:
                if not done.done():
                    done.set_result(result)

        self.loop.create_task(report(), context=process.context)
        return await asyncio.wait_for(done, patience)

    # -- what befalls them

    async def _storm(self) -> None:
        random = self.random
        until = self.loop.now + random.uniform(1.0, 8.0)
        pause = random.choice((0.2, 0.7, 2.0))
        kinds = [kind for kind in ("kill", "stop", "cut", "drain", "down") if random.random() < 0.6]
        while kinds and self.loop.now < until:
            await asyncio.sleep(random.expovariate(1 / pause))
            alive = [process for process in self.processes if process.state == RUNNING]
            if alive:
                self._strike(random.choice(kinds), random.choice(alive))
        await asyncio.sleep(max(0.0, until - self.loop.now))

    def _strike(self, kind: str, process: Process) -> None:
        random = self.random
        if len(self.processes) > 1 and kind in {"cut", "down"}:
            self.fallen += 1  # another may take its runs over, and cannot know that it lives
        if kind == "kill":
            self.kill(process, random.choice((0.05, 0.5, 3.0)) * random.random())
        elif kind == "stop":
            self.loop.create_task(self.stop(process, random.uniform(0.05, 3.0 * self.settings.lease_seconds)))
        elif kind == "drain" and process.opened:
            self.loop.create_task(self.drain(process))
        elif kind == "down":
            self.loop.create_task(self._outage(random.uniform(0.0, 2.0)))
        elif kind == "cut":
            mine = [each for each in self.wire.sessions if each.owner is process]
            writers = [each for each in mine if each.name == "linkflow writer"]
            for session in writers if random.random() < 0.6 else mine[:2]:
                self.note("cut", session.name)
                self.wire.cut(session)

    async def _outage(self, seconds: float) -> None:
        """The server restarts: every connection breaks, none is taken for a while."""
        self.note("outage")
        self.wire.down = True
        for session in list(self.wire.sessions):
            self.wire.cut(session)
        await asyncio.sleep(seconds)
        self.wire.down = False

    # -- the seed

    async def _live(self) -> None:
        for _ in range(self.random.choice((1, 2, 2, 3))):
            self.boot()
        clients = Clients(self)
        storm = self.loop.create_task(self._storm())
        await clients.done()
        await storm
        self.wire.calm, self.wire.down = True, False
        deadline = self.loop.now + HEALED
        while not self._quiet() and self.loop.now < deadline:
            await asyncio.sleep(0.5)
        self.judge.conclude()
        self.judge.heard("execution.execution.finished.v1", "sim.heard")
        for row in self._behind():
            self.judge.fault(f"I8: {row['consumer']} is behind in partition {row['part']}")

    def _behind(self) -> list[dict[str, Any]]:
        """Who has events to act on. A preparer's cursor may rest: what counts is that every event has its run."""
        names = sorted({name for name, _ in self.server.positions if name != PREPARER})
        runs = self.server.rows["execution.run"]
        unbegun = [row for row in self.server.log if row["type"] == CALLED and (row["tenant"], row["id"]) not in runs]
        found = self.wire.statements.behind((names, range(self.settings.partitions)), None)
        return found + [{"consumer": PREPARER, "part": row["part"]} for row in unbegun]

    def _quiet(self) -> bool:
        steady = all(process.state == RUNNING and process.opened for process in self.processes)
        return steady and bool(self.processes) and self.judge.settled() and not self._behind()

    def run(self) -> Verdict:
        with patched(self), planted(self.plant, self):
            try:
                self.loop.run(self._live(), LONGEST)
            except TimeoutError as error:
                self.judge.fault(f"I7: {error}")
            self.loop.over = True
        faults = (*self.judge.faults, *self.loop.faults)
        runs = len(self.server.rows["execution.run"])
        return Verdict(self.seed, faults, self.trace.hexdigest(), runs, self.loop.now, self.loop.ticks)


@contextmanager
def patched(world: World) -> Iterator[None]:
    """Time and chance of the modules that take them from the system, for the length of a seed."""
    draw = world.ids

    class Now(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            owner = OWNER.get()
            skew = owner.clock.skew if isinstance(owner, Process) else 0.0
            return datetime.fromtimestamp(world.clock() + skew, tz or UTC)

    def uuid4() -> UUID:
        return UUID(int=draw.getrandbits(128), version=4)

    time = SimpleNamespace(time_ns=lambda: int(world.clock() * 1e9), monotonic=lambda: world.loop.now)
    changes: list[tuple[Any, str, Any]] = [
        (domain, "time", time),
        (domain, "os", SimpleNamespace(urandom=draw.randbytes)),
        (domain, "datetime", Now),
        (delivery, "datetime", Now),
        (leases, "uuid4", uuid4),
        (leases, "secrets", SimpleNamespace(randbits=draw.getrandbits)),
        (writer, "uuid4", uuid4),
        (writer, "time", time),
        (live, "SNAPSHOT_EVERY", world.random.choice((3, 10, 500))),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    try:
        for module, name, value in changes:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
