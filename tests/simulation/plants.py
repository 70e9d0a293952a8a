"""Faults planted on purpose, to prove that the simulator finds them (reliability goals T1, T9).

Each is a small mistake somebody could make in the code under test, or, where the rule stands in SQL, in what the
simulated server does in its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from subgraphs.engine.run import Recover, StepStarted, snapshot
from subgraphs.execution import storage
from subgraphs.execution.runner import bodies, live, loading, preparation, runner, sweep
from subgraphs.platform import bus, cursors, delivery, eventlog, leases, writer
from subgraphs.platform.commits import Committed
from tests.simulation import driver, store

Change = Callable[[Any, str, Any], None]
PLANTS: dict[str, Callable[[Any, Change], None]] = {}


def plant(work: Callable[[Any, Change], None]) -> Callable[[Any, Change], None]:
    PLANTS[work.__name__] = work
    return work


@contextmanager
def planted(name: str | None, world: Any) -> Iterator[None]:
    """The fault in place, for as long as a seed runs."""
    before: list[tuple[Any, str, Any]] = []

    def change(place: Any, attribute: str, value: Any) -> None:
        before.append((place, attribute, getattr(place, attribute)))
        setattr(place, attribute, value)

    try:
        if name is not None:
            PLANTS[name](world, change)
        yield
    finally:
        for place, attribute, value in reversed(before):
            setattr(place, attribute, value)


@plant
def fence_removed(world: Any, change: Change) -> None:
    """Units are stored whoever owns the partition."""
    world.server.fences = False


@plant
def neither_fence_nor_version(world: Any, change: Change) -> None:
    """A stream moves for anybody, from whatever version it is at."""
    world.server.fences = world.server.versions = False


@plant
def present_epoch(world: Any, change: Change) -> None:
    """A unit is fenced by the epoch its process holds now, not by the one it was decided under."""
    gather = writer.Writer._gather

    def gathered(self: Any, entries: Any) -> Any:
        owned = self.incarnate.__self__.owned
        for entry in entries:
            for unit in entry.all_units():
                if (lease := owned.get(unit.partition)) is not None:
                    unit.epoch = lease.epoch
                    unit.head = (*unit.head[:4], lease.epoch, *unit.head[5:])
        return gather(self, entries)

    change(writer.Writer, "_gather", gathered)


@plant
def timer_deleted_first(world: Any, change: Change) -> None:
    """A due timer is removed when it is read, before what follows from it is stored."""
    due = store.SimStore.due

    async def gone(self: Any, parts: Any) -> Any:
        rows = await due(self, parts)
        for row in rows:
            self.server.rows[storage.TIMER.name].pop((row["tenant"], row["run"], row["name"]), None)
        return rows

    change(store.SimStore, "due", gone)


@plant
def timer_early(world: Any, change: Change) -> None:
    """Timers are due by a clock that is half a second ahead of the database's."""
    due = store.SimStore.due

    async def early(self: Any, parts: Any) -> Any:
        clock = self.server.clock
        self.server.clock = lambda: clock() + 0.5
        try:
            return await due(self, parts)
        finally:
            self.server.clock = clock

    change(store.SimStore, "due", early)


@plant
def timer_by_its_name_alone(world: Any, change: Change) -> None:
    """A due row fires whatever timer the run has under that name by now."""
    change(sweep, "journal_time", lambda due: int((world.clock() + 60) * 1_000_000))


@plant
def letter_deleted_first(world: Any, change: Change) -> None:
    """A letter is removed when it is read, before its effect is stored."""
    letters = store.SimStore.letters

    async def taken(self: Any, parts: Any) -> Any:
        rows = await letters(self, parts)
        for row in rows:
            self.server.rows[storage.INBOX.name].pop((row["tenant"], row["run"], row["id"]), None)
        return rows

    change(store.SimStore, "letters", taken)


@plant
def body_before_commit(world: Any, change: Change) -> None:
    """A body begins when it is decided on, not when that is stored."""
    commit = runner.Runner._commit

    async def hasty(self: Any, live: Any) -> bool:
        for event in live.fresh:
            if isinstance(event, StepStarted) and live.run.running.get(event.node) == event.attempt:
                self._begin(live, event.node, event.attempt)
        return await commit(self, live)

    change(runner.Runner, "_commit", hasty)


@plant
def no_sweep(world: Any, change: Change) -> None:
    """Events are found by wake-ups alone."""

    async def nothing(self: Any) -> None:
        return None

    change(bus.Bus, "_look", nothing)


@plant
def letters_by_wake_alone(world: Any, change: Change) -> None:
    """Letters are looked for when somebody knocks, and never else."""
    change(sweep, "MAIL_EVERY", 1 << 60)


@plant
def recover_omitted(world: Any, change: Change) -> None:
    """Who takes a run over waits for bodies that died with their process."""
    apply = live.Live.apply
    change(live.Live, "apply", lambda self, command: [] if isinstance(command, Recover) else apply(self, command))


@plant
def timers_lost_on_takeover(world: Any, change: Change) -> None:
    """A run read back has forgotten what it waits for."""
    folded = loading.Loading._folded

    async def forgetful(self: Any, *words: Any) -> Any:
        run = await folded(self, *words)
        for name in [name for name in run.timers if name.startswith("retry:")]:
            del run.timers[name]
        return run

    change(loading.Loading, "_folded", forgetful)


@plant
def begun_twice(world: Any, change: Change) -> None:
    """A start asked for again begins again, under an id of its own."""
    attempt = bus.Starter.attempt

    async def again(self: Any, event: Any) -> None:
        await attempt(self, replace(event, id=world.ids_of_plants()))

    change(bus.Starter, "attempt", again)


@plant
def unknown_taken_for_success(world: Any, change: Change) -> None:
    """A commit whose answer was lost is believed to have been stored."""

    async def believed(self: Any, entries: Any, since: int) -> None:
        for entry in entries:
            entry.written = {unit.id for unit in entry.all_units()}
            self._announce(self._xid, [entry])

    change(writer.Writer, "_resolve", believed)


@plant
def acknowledged_before_stored(world: Any, change: Change) -> None:
    """A caller hears yes when its commit is queued."""
    commit = writer.Writer.commit

    async def early(self: Any, ingress: Any = None, units: Any = ()) -> Any:
        if ingress is None:
            return await commit(self, ingress, units)
        asyncio.get_running_loop().create_task(commit(self, ingress, units))
        return Committed()

    change(writer.Writer, "commit", early)


@plant
def inbox_omitted(world: Any, change: Change) -> None:
    """A consumer does not remember which events it has acted on."""

    async def attempt(self: Any, event: Any) -> None:
        async with self.database.write(event.tenant) as transaction:
            await self.handle(event, transaction)

    change(delivery.Consumer, "attempt", attempt)


@plant
def cursor_past_failures(world: Any, change: Change) -> None:
    """A reader moves on though handling an event failed."""

    async def fresh(self: Any, row: Any) -> None:
        try:
            await self.reader.attempt(eventlog.event(row))
        except Exception:  # noqa: BLE001 - that is the fault
            return

    change(delivery.Round, "_fresh", fresh)


@plant
def key_of_each_attempt(world: Any, change: Change) -> None:
    """Each attempt at a step sends an idempotency key of its own."""
    request = bodies.request

    def keyed(*words: Any) -> Any:
        asked = request(*words)
        asked.idempotency_key += f":{asked.attempt}"
        return asked

    change(bodies, "request", keyed)


@plant
def failed_starts_passed_over(world: Any, change: Change) -> None:
    """Events that begin runs count as begun though the partition went to another meanwhile."""

    async def together(self: Any, rows: Any) -> None:
        attempts = (self.reader.attempt(eventlog.event(row)) for row in rows)
        await asyncio.gather(*attempts, return_exceptions=True)
        self.blocked.clear()

    change(delivery.Round, "_together", together)
    change(cursors, "page", _everything(cursors.page))


def _everything(page: Any) -> Any:
    async def moved(*words: Any) -> Any:
        found = await page(*words)
        return replace(found, moved=True)

    return moved


@plant
def evicted_starts_adopted(world: Any, change: Change) -> None:
    """A run goes on in memory though its beginning was not stored."""
    settled = preparation.Preparation.settled
    change(preparation.Preparation, "settled", lambda self, event, unit, committed: settled(self, event, unit, True))


@plant
def lost_runs_kept(world: Any, change: Change) -> None:
    """Who loses a partition lets its bodies go on and keeps its runs."""
    change(runner.Runner, "lost", lambda self, partition: None)


@plant
def every_cut_taken_for_a_death(world: Any, change: Change) -> None:
    """A step is given up after four broken connections, as if it had killed four processes."""
    change(runner.Runner, "_survived", lambda self, run: frozenset())


@plant
def owned_by_hearsay(world: Any, change: Change) -> None:
    """A process owns what it was told it claimed, whatever became of the answers."""

    async def nothing(self: Any, me: Any) -> None:
        return None

    change(leases.Leases, "_reconcile", nothing)


@plant
def snapshot_without_timers(world: Any, change: Change) -> None:
    """A snapshot leaves out what the run waits for."""
    taken = snapshot

    def poor(run: Any) -> bytes:
        timers, run.timers = run.timers, {}
        try:
            return taken(run)
        finally:
            run.timers = timers

    change(live, "snapshot", poor)


@plant
def notified_before_commit(world: Any, change: Change) -> None:
    """A consumer's publication is announced, and lost, when its transaction is not stored."""
    commit = driver.SimTransaction.commit

    def half(self: Any) -> int:
        self.inserts.clear()
        return commit(self)

    change(driver.SimTransaction, "commit", half)
