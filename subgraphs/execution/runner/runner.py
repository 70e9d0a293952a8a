"""Owns the runs of this process's partitions: advances them, commits them, runs their bodies, gives them up.

One rule orders everything: a body that reaches outside starts only after the commit that says so. A run's events
gather while its last commit is under way and leave together in the next; many runs share a flush in the writer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import structlog

from subgraphs.engine.run import (
    Command,
    Complete,
    Event,
    Fail,
    Recover,
    Run,
    Settle,
    StepAmbiguous,
    StepStarted,
)
from subgraphs.engine.step import Executor, StepError, StepOutcome
from subgraphs.execution.limits import tickets
from subgraphs.execution.limits.fairness import Turns, turn
from subgraphs.execution.runner import bodies, children, letters
from subgraphs.execution.runner.draining import Draining
from subgraphs.execution.runner.live import Cut, Live, complete, cut, ending
from subgraphs.execution.runner.loading import Loading, Stored
from subgraphs.execution.runner.store import Clock, Commits, Key, Partitions
from subgraphs.execution.runner.waits import standing
from subgraphs.platform.leases import Lease
from subgraphs.platform.objects import Damaged, Objects

log = structlog.get_logger("linkflow.execution")

SLICE = 0.01  # seconds of pure steps before others get their turn
KEEP = 2_000_000  # microseconds: a run whose next timer is farther away leaves memory
BATCH = 100
CUT_OFF = 10_000  # runs given up with bodies under way that are remembered
PLACES = 256  # bodies at the same time, unless somebody says otherwise
AGAIN = 0.5  # seconds before a run is read again after its commit failed
STUMBLED = 5.0  # the same after a fault of ours, which may come again
Told = Callable[[Run, int, Sequence[Event]], None]


class Runner:
    """The runs this process owns. `told` hears of events once they are committed."""

    def __init__(
        self,
        *,
        executor: Callable[[], Executor],
        writer: Commits,
        leases: Partitions,
        objects: Objects,
        clock: Clock,
        loading: Callable[[], Loading],
        limit: int,
        told: Told,
        span: Callable[[], bodies.Span | None] = lambda: None,
        turns: Turns | None = None,
        url: bodies.Urls | None = None,
        most: int = 0,
    ) -> None:
        self._executor, self._loading = executor, loading
        self.writer, self.leases, self.objects, self.clock = writer, leases, objects, clock
        self.limit, self.most, self.told, self.span, self.url = limit, most, told, span, url
        self.turns = turns or Turns(PLACES)
        self.runs: dict[UUID, Live] = {}
        self.draining = False
        self._drained: asyncio.Task[None] | None = None
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._reading: dict[UUID, asyncio.Event] = {}
        self._cut_off: dict[UUID, dict[str, int]] = {}

    # Partitions come and go

    async def acquired(self, lease: Lease) -> None:
        """Resumes what the last owner left: begun attempts are begun again, the rest waits for its timers."""
        self._spawn(self._resume(lease))

    def lost(self, partition: int) -> None:
        """Stops the bodies of a partition and forgets its runs; whoever owns it now knows them from the journal."""
        for live in [live for live in self.runs.values() if live.lease.partition == partition]:
            self.forget(live)

    async def _resume(self, lease: Lease) -> None:
        keys: Sequence[Key] = await self._insist(lease, lambda: self._loading().store.open(lease.partition))
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            for live in await self._insist(lease, partial(self.obtain, batch)):
                self.push(live)

    async def _insist(self, lease: Lease, work: Callable[[], Awaitable[Sequence[Any]]]) -> Sequence[Any]:
        """Does it again until it succeeds, as long as the lease holds: a run not read back would be stranded."""
        pause = AGAIN
        while self.leases.owned.get(lease.partition) == lease and not self.draining:
            try:
                return await work()
            except Exception:  # a tick's boundary: tried again
                log.exception("reading_failed", partition=lease.partition)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 10.0)
        return ()

    async def obtain(self, keys: Iterable[Key]) -> list[Live]:
        """The runs, from memory or read back; those of partitions we do not own are left out."""
        wanted = list(dict.fromkeys(keys))
        await asyncio.gather(*(self._reading[run].wait() for _, run in wanted if run in self._reading))
        absent = [key for key in wanted if key[1] not in self.runs]
        if absent:
            await self._read(absent)
        return [self.runs[run] for _, run in wanted if run in self.runs]

    async def journal(self, keys: Sequence[Key]) -> Mapping[UUID, Sequence[Event]]:
        """The events of these runs so far."""
        return await self._loading().journal(keys)

    async def _read(self, keys: Sequence[Key]) -> None:
        done = asyncio.Event()
        for _, wanted in keys:
            self._reading[wanted] = done
        try:
            before = dict(self.leases.owned)
            for stored in await self._loading().runs(keys):
                lease = self.leases.owned.get(stored.head["part"])
                if lease is not None and before.get(lease.partition) == lease:
                    await self._adopt(stored, lease)
        finally:
            for _, wanted in keys:
                self._reading.pop(wanted, None)
            done.set()

    async def _adopt(self, stored: Stored, lease: Lease) -> None:
        run = stored.run
        if run is None:
            log.error("run_unreadable", execution=str(stored.head["id"]), exc_info=stored.fault)
            if isinstance(stored.fault, RecursionError | Damaged):
                await self.writer.commit(units=[ending(stored.head, lease, self.clock.now())])
        elif not run.final and run.id not in self.runs:
            live = self.runs[run.id] = Live(run, lease, self.most, committed=run.version, snapshotted=run.version)
            live.timers, live.tickets = dict(run.timers), tickets.wanted(run)
            live.waits = standing(run)
            live.yielding = self.draining
            live.apply(Recover(at=self.clock.now(), spared=self._survived(run)))

    # One run moves

    def advance(self, live: Live, budget: float = SLICE) -> None:
        """Runs the pure steps that are ready, for at most `budget` seconds. A remote executor's are bodies instead."""
        run = live.run
        if not run.ready:
            return
        executor = self._executor()
        if executor.remote:
            return
        live.names = live.names or bodies.names(run, self.url)
        span, clock = self.span(), self.clock
        deadline = clock.ticks() + budget
        while run.ready:
            step = next(iter(run.ready)) if not live.yielding else self._pure(run)
            if step is None:
                return
            attempt = run.steps[step].attempt + 1
            began = clock.ticks()
            outcome = bodies.pure(executor, bodies.request(run, step, attempt, clock.now(), live.names), span)
            ended = clock.ticks()
            self._complete(live, step, attempt, outcome, (ended - began) * 1000)
            if ended > deadline:
                return

    @staticmethod
    def _pure(run: Run) -> str | None:
        """A ready step that only computes: when the process ends, no other kind begins."""
        return next((step for step in run.ready if run.node(step).pure), None)

    def _complete(self, live: Live, step: str, attempt: int, outcome: StepOutcome, took: float) -> list[Event]:
        """Applies how an attempt ended. One that starts another run names it, and the event that begins that run leaves
        with the commit."""
        at = self.clock.now()
        wait = outcome.wait
        if wait is None or wait.kind != "child":
            return live.apply(Complete(at, step, attempt, outcome, took))
        try:
            outcome, begun = children.called(live.run, step, attempt, outcome, at, live.lease.partition)
        except children.TooDeep as fault:
            return live.apply(Complete(at, step, attempt, StepOutcome(error=fault.error), took))
        events = live.apply(Complete(at, step, attempt, outcome, took))
        if events:
            live.outgoing.append(begun)
        return events

    def read(self, live: Live, letter: UUID, asked: Command) -> None:
        """Heeds a letter, or keeps it until the step it answers waits."""
        if not live.gone and letters.heed(live, letter, asked):
            self.push(live)

    def push(self, live: Live) -> None:
        """Sees to it that the run is advanced and committed."""
        if live.pump is None and not live.gone:
            live.pump = self._spawn(self._pump(live))

    def ask(self, live: Live, command: Command) -> bool:
        """Applies a command and commits what follows; False if nothing does."""
        if live.gone or not live.apply(command):
            return False
        self.push(live)
        return True

    async def _pump(self, live: Live) -> None:
        try:
            while not live.gone:
                self.advance(live)
                self._begin_pure(live)
                if not live.fresh and not live.mail:
                    break
                if not await self._commit(live):
                    return
        except Exception:  # a run's boundary: it is read again, since nothing in memory is trusted over the journal
            log.exception("pump_failed", execution=str(live.run.id))
            self._again(live, STUMBLED)
        finally:
            live.pump = None
        if not live.gone:
            self._rest(live)

    async def _commit(self, live: Live) -> bool:
        taken = cut(live)
        try:
            unit = await complete(live, taken, self.objects, self.limit)
            committed = await self.writer.commit(units=[unit])
        except Exception:  # a tick's boundary: the journal decides what is true
            log.exception("commit_failed", execution=str(live.run.id))
            self._again(live, AGAIN)
            return False
        if unit.id in committed.failed:
            log.error("run_uncommittable", execution=str(unit.id), error=str(committed.failed[unit.id]))
            self._give_up(live)
            return False
        if unit.id in committed.evicted:
            log.info("run_evicted", execution=str(unit.id), partition=unit.partition, epoch=unit.epoch)
            self._again(live, AGAIN / 5)
            return False
        self.settle(live, taken)
        return True

    def settle(self, live: Live, taken: Cut) -> None:
        """What follows a commit: watchers hear, bodies start, bodies nobody waits for stop."""
        live.committed = taken.unit.version
        self.told(live.run, taken.unit.version, taken.events)
        if live.gone:
            return
        for event in taken.events:
            if isinstance(event, StepStarted) and live.run.running.get(event.node) == event.attempt:
                self._begin(live, event.node, event.attempt)
            elif isinstance(event, StepAmbiguous):
                live.probes.add(event.node)
                self._spawn(self._probe(live, event.node, event.attempt))
        if live.early and letters.heed_again(live, self.clock.now()):
            self.push(live)
        if live.bodies:
            for node, (attempt, task) in list(live.bodies.items()):
                if live.run.running.get(node) != attempt and node not in live.run.ready:
                    task.cancel()

    def _rest(self, live: Live) -> None:
        """A run that is over, or waits long, needs no memory."""
        if not live.idle:
            if live.fresh or (not self.draining and live.run.ready.keys() - live.bodies.keys()):
                self.push(live)
            return
        run = live.run
        soon = run.timers and min(run.timers.values()) - self.clock.now() <= KEEP
        if run.final or not (run.running or soon):
            self.runs.pop(run.id, None)
            live.gone = True

    # Bodies

    def _begin_pure(self, live: Live) -> None:
        """Has a remote executor run the pure steps that are ready. They wait for no commit and leave no trace of their
        beginning: nothing outside hears of them."""
        if live.run.ready and self._executor().remote:
            for node in live.run.ready:
                self._begin(live, node, live.run.steps[node].attempt + 1)

    def _begin(self, live: Live, node: str, attempt: int) -> None:
        if self.draining or node in live.bodies:
            return
        task = self._spawn(self._body(live, node, attempt))
        live.bodies[node] = (attempt, task)

    async def _body(self, live: Live, node: str, attempt: int) -> None:
        run = live.run
        live.names = live.names or bodies.names(run, self.url)
        asked = bodies.request(run, node, attempt, self.clock.now(), live.names)
        try:
            place = await turn(self.turns, run.tenant, run.started.priority if run.started is not None else 0)
            try:
                outcome, took = await bodies.outside(self._executor(), asked, self.clock.ticks, self.span())
            finally:
                self.turns.leave(place)
        except asyncio.CancelledError:
            live.bodies.pop(node, None)
            self._unless_busy(live)
            raise
        live.bodies.pop(node, None)
        if not live.gone and self._complete(live, node, attempt, outcome, took):
            self.push(live)
        self._unless_busy(live)

    async def _probe(self, live: Live, step: str, attempt: int) -> None:
        """Asks the node of an ambiguous step whether its effect happened. If it cannot tell, people have to."""
        live.names = live.names or bodies.names(live.run, self.url)
        asked = bodies.request(live.run, step, attempt, self.clock.now(), live.names)
        happened = await bodies.probe(self._executor(), asked)
        live.probes.discard(step)
        if happened is not None:
            outputs = {"main": [item.json for items in asked.inputs.values() for item in items]} if happened else {}
            self.ask(live, Settle(self.clock.now(), step, attempt, happened, outputs))
        self._unless_busy(live)

    def _unless_busy(self, live: Live) -> None:
        if not live.gone and live.pump is None:
            self._rest(live)

    # Runs given up

    def forget(self, live: Live) -> None:
        """Stops its bodies; nothing uncommitted of it is kept."""
        live.gone = True
        if self.runs.get(live.run.id) is live:
            del self.runs[live.run.id]
        for _, task in live.bodies.values():
            task.cancel()
        if live.bodies:
            self._cut_off[live.run.id] = {node: attempt for node, (attempt, _) in live.bodies.items()}
            while len(self._cut_off) > CUT_OFF:
                del self._cut_off[next(iter(self._cut_off))]

    def _survived(self, run: Run) -> frozenset[str]:
        """Steps whose running attempts were ours, and were cut off without killing us."""
        ours = self._cut_off.pop(run.id, {})
        return frozenset(key for key, attempt in run.running.items() if ours.get(key) == attempt)

    def _again(self, live: Live, pause: float) -> None:
        """Forgets a run whose commit did not take, and reads it anew if it is still ours."""
        self.forget(live)
        self._spawn(self._reload(live, pause, None))

    async def _reload(self, former: Live, pause: float, then: Command | None) -> None:
        await asyncio.sleep(pause)
        key = (former.run.tenant, former.run.id)
        for live in await self._insist(former.lease, lambda: self.obtain([key])):
            if then is not None:
                live.apply(then)
            self.push(live)

    def _give_up(self, live: Live) -> None:
        """Ends a run whose next step the database refuses, with what it had."""
        error = StepError("execution.unstorable", "What the run produced could not be stored.", "infrastructure")
        self.forget(live)
        self._spawn(self._reload(live, AGAIN, Fail(at=self.clock.now(), error=error)))

    # The process ends

    async def drain(self, grace: float) -> None:
        """Hands everything back; see `Draining`. A second call waits for the first."""
        if self._drained is None:
            self.draining = True
            for live in self.runs.values():
                live.yielding = True
            self._drained = asyncio.get_running_loop().create_task(Draining(self).run(grace))
        await asyncio.shield(self._drained)

    async def stop(self) -> None:
        """Forgets all runs and ends all tasks."""
        for live in list(self.runs.values()):
            self.forget(live)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: object) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)  # type: ignore[arg-type]
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (raised := task.exception()) is not None:
            log.error("task_failed", exc_info=raised)
