"""Keeps the gates of this process's partitions: each gate has one keeper, who decides there alone and in order.

A verdict counts once it is committed, under the lease and the gate's version, like a step of a run. Its letter to the
run and the row that says so are the same commit. What a keeper knows of tickets may be late, never early: a place it
does not know to be free stays taken a moment longer, and none is given twice.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid5

import msgspec
import structlog

from subgraphs.execution.limits import events
from subgraphs.execution.limits.gate import (
    Decision,
    Gate,
    Memo,
    Ticket,
    Verdict,
    arrive,
    decide,
    expired,
    leave,
    settle,
)
from subgraphs.execution.limits.ports import Clock, Commits, Partitions
from subgraphs.execution.limits.storage import GATE, VERDICT, WORDS, Place, Shelf
from subgraphs.execution.limits.terms import NOBODY, terms_of
from subgraphs.execution.storage import INBOX
from subgraphs.platform.domain import Event
from subgraphs.platform.facts import read
from subgraphs.platform.leases import Lease
from subgraphs.platform.writer import Unit

log = structlog.get_logger("linkflow.execution.limits")

AGAIN = 0.5  # seconds before a gate is read again after its commit failed
EVERY = 2.0  # seconds between comparisons of gates with their rows, if those cost little
SHARE = 20  # a comparison may take this part of the time
TIDY = 15  # comparisons between removals of rows that count for nothing
IDLE = 4096  # gates kept in memory at which nobody is
LEFT = 16_384  # runs remembered that have left a gate
PLACES = 200  # gates read at once
AHEAD = 3600.0  # seconds: the longest a timer of the loop is set for


@dataclass(slots=True, eq=False)
class Kept:
    """A gate in memory: `version` is what is committed of it."""

    tenant: UUID
    gate: Gate
    lease: Lease
    version: int = 0
    workflow: UUID | None = None
    pump: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    gone: bool = False


@dataclass(slots=True, eq=False)
class Keeper:
    """The gates of one process. `kept` are those at which somebody is, `idle` some of the others."""

    writer: Commits
    leases: Partitions
    clock: Clock
    shelf: Callable[[], Shelf]
    partitions: int
    kept: dict[UUID, Kept] = field(default_factory=dict)
    idle: OrderedDict[UUID, Kept] = field(default_factory=OrderedDict)
    paused: frozenset[Place] = frozenset()
    _returned: OrderedDict[tuple[UUID, UUID], None] = field(default_factory=OrderedDict)
    _reading: dict[UUID, list[tuple[str, Any]]] = field(default_factory=dict)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    _closed: bool = False

    # What happens

    async def start(self) -> None:
        """Before the first event is heard: what is paused is known from the beginning."""
        self.paused = await self.shelf().paused()
        self._spawn(self._compare())

    async def stop(self) -> None:
        self._closed = True
        for kept in [*self.kept.values(), *self.idle.values()]:
            self._forget(kept)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def acquired(self, lease: Lease) -> None:
        """Takes over the gates of a partition at which somebody stands."""
        self._spawn(self._resume([lease.partition]))

    def lost(self, partition: int) -> None:
        for kept in [*self.kept.values(), *self.idle.values()]:
            if kept.lease.partition == partition:
                self._forget(kept)

    def heard(self, event: Event) -> None:
        """A ticket was taken or returned somewhere."""
        if event.tenant is None or event.partition not in self.leases.owned or self._closed:
            return
        id = UUID(event.subject)
        if event.type == events.TAKEN:
            told = read(event, events.TicketTaken)
            if (id, told.run) not in self._returned:
                terms = terms_of(msgspec.json.encode(told.terms, order="sorted"))
                ticket = Ticket(told.run, told.at, told.part, terms, told.priority, told.group)
                self._happened((event.tenant, id), "arrive", (ticket, told.workflow))
        else:
            run = read(event, events.TicketReturned).run
            self._remember((id, run))
            self._happened((event.tenant, id), "leave", run)

    def _remember(self, returned: tuple[UUID, UUID]) -> None:
        """Events of other processes may come in another order: who has left does not arrive afterwards."""
        self._returned[returned] = None
        if len(self._returned) > LEFT:
            self._returned.popitem(last=False)

    def _happened(self, place: Place, word: str, what: Any) -> None:
        tenant, id = place
        if id in self._reading:
            self._reading[id].append((word, what))
        elif (kept := self.kept.get(id) or self.idle.get(id)) is not None:
            self._apply(kept, word, what)
        elif word == "arrive":
            self._reading[id] = []
            self._spawn(self._take_over([(tenant, id)]))

    def _apply(self, kept: Kept, word: str, what: Any) -> None:
        if word == "arrive":
            ticket, kept.workflow = what
            changed = arrive(kept.gate, ticket)
            if self.idle.pop(kept.gate.id, None) is not None:
                self.kept[kept.gate.id] = kept
        else:
            changed = leave(kept.gate, what, self.clock.now())
        if changed:
            self.push(kept)

    def pauses(self, paused: frozenset[Place]) -> None:
        """What is paused has changed: gates decide anew."""
        if paused != self.paused:
            self.paused = paused
            for kept in list(self.kept.values()):
                self.push(kept)

    def look_up_pauses(self) -> None:
        """Something was paused or resumed."""
        self._spawn(self._look_up_pauses())

    async def _look_up_pauses(self) -> None:
        try:
            self.pauses(await self.shelf().paused())
        except Exception:  # a tick's boundary: the next comparison reads them too
            log.exception("pauses_unreadable")

    def is_paused(self, tenant: UUID, workflow: UUID | None) -> bool:
        return bool(self.paused) and ((tenant, NOBODY) in self.paused or (tenant, workflow) in self.paused)

    # One gate moves

    def push(self, kept: Kept) -> None:
        """Sees to it that the gate decides."""
        if kept.pump is None and not kept.gone:
            kept.pump = self._spawn(self._pump(kept))

    async def _pump(self, kept: Kept) -> None:
        try:
            while not kept.gone:
                at = self.clock.now()
                expired(kept.gate, at)
                made = decide(kept.gate, at, paused=self.is_paused(kept.tenant, kept.workflow))
                if not made.verdicts:
                    self._rest(kept, at, made.due)
                    return
                if not await self._commit(kept, made):
                    return
        finally:
            kept.pump = None

    async def _commit(self, kept: Kept, made: Decision) -> bool:
        unit = self._unit(kept, made)
        try:
            committed = await self.writer.commit(units=[unit])
        except Exception:  # a tick's boundary: the rows decide what is true
            log.exception("gate_commit_failed", gate=str(kept.gate.id))
            return self._again(kept)
        if unit.id in committed.failed:
            log.error("gate_uncommittable", gate=str(unit.id), error=str(committed.failed[unit.id]))
            return self._again(kept)
        if unit.id in committed.evicted:
            return self._again(kept)
        kept.version = unit.version
        settle(kept.gate, made.verdicts, made.memo)
        for verdict in made.verdicts:
            if (kept.gate.id, verdict.run) in self._returned:
                leave(kept.gate, verdict.run)
        return True

    def _unit(self, kept: Kept, made: Decision) -> Unit:
        gate, lease, version = kept.gate, kept.lease, kept.version + 1
        memo = msgspec.json.encode(Memo(made.memo.since, made.memo.turn, gate.memo.pace)).decode()
        unit = Unit(
            tenant=kept.tenant,
            id=gate.id,
            partition=lease.partition,
            epoch=lease.epoch,
            expected=kept.version,
            version=version,
            head_table=GATE.name,
            head=(kept.tenant, gate.id, lease.partition, version, lease.epoch, memo),
        )
        parts: dict[int, list[UUID]] = {}
        for verdict in made.verdicts:
            until = verdict.at + gate.terms.period if gate.terms.paces else None
            word = WORDS.index(verdict.word)
            unit.rows.append(
                (VERDICT.name, (kept.tenant, verdict.run, gate.id, lease.partition, verdict.at, until, word))
            )
            unit.rows.append((INBOX.name, letter(kept.tenant, gate.id, version, verdict)))
            parts.setdefault(verdict.part, []).append(verdict.run)
        for part, runs in parts.items():
            told = {"runs": [str(run) for run in runs]}
            unit.events.append(events.about(events.GIVEN, kept.tenant, gate.id, part, told))
        return unit

    def _rest(self, kept: Kept, at: int, due: int | None) -> None:
        """Until something happens, or time changes the answer."""
        if kept.timer is not None:
            kept.timer.cancel()
            kept.timer = None
        if due is not None:
            wait = min(AHEAD, max(0.0, (due - at) / 1e6))
            kept.timer = asyncio.get_running_loop().call_later(wait, self.push, kept)
        elif kept.gate.idle and self.kept.pop(kept.gate.id, None) is not None:
            self.idle[kept.gate.id] = kept
            if len(self.idle) > IDLE:
                self._forget(next(iter(self.idle.values())))

    # Gates are read and given up

    async def _resume(self, parts: Sequence[int]) -> None:
        standing = await self._insist(parts)
        places = dict.fromkeys((tenant, gate) for tenant, _, gate in standing)
        await self._take_over([place for place in places if place[1] not in self.kept])

    async def _insist(self, parts: Sequence[int]) -> Sequence[tuple[UUID, UUID, UUID]]:
        """Reads who stands where, again until it succeeds, as long as a partition is ours."""
        pause = AGAIN
        while not self._closed and any(part in self.leases.owned for part in parts):
            try:
                return await self.shelf().standing(parts)
            except Exception:  # a tick's boundary: tried again
                log.exception("tickets_unreadable", partitions=list(parts))
                await asyncio.sleep(pause)
                pause = min(pause * 2, 10.0)
        return ()

    async def _take_over(self, places: Sequence[Place]) -> None:
        for start in range(0, len(places), PLACES):
            batch = places[start : start + PLACES]
            for _, id in batch:
                self._reading.setdefault(id, [])
            try:
                await self._read(batch)
            except Exception:  # a tick's boundary: the next comparison finds the same tickets
                log.exception("gates_unreadable", gates=len(batch))
            finally:
                for _, id in batch:
                    self._reading.pop(id, None)

    async def _read(self, places: Sequence[Place]) -> None:
        before = dict(self.leases.owned)
        found = await self.shelf().gates(places, self.clock.now())
        for tenant, id in places:
            facts = self._reading.pop(id, [])
            lease = before.get(id.int % self.partitions)
            if lease is None or self.leases.owned.get(lease.partition) != lease or self._closed:
                continue
            stands = found[id]
            if id not in self.kept:
                self.kept[id] = Kept(tenant, stands.gate, lease, stands.version, stands.workflow)
            kept = self.kept[id]
            for word, what in facts:
                self._apply(kept, word, what)
            self.push(kept)

    def _forget(self, kept: Kept) -> None:
        kept.gone = True
        if kept.timer is not None:
            kept.timer.cancel()
        for shelf in (self.kept, self.idle):
            if shelf.get(kept.gate.id) is kept:
                del shelf[kept.gate.id]

    def _again(self, kept: Kept) -> bool:
        self._forget(kept)
        self._spawn(self._later(kept))
        return False

    async def _later(self, kept: Kept) -> None:
        await asyncio.sleep(AGAIN / 5)
        if kept.lease.partition in self.leases.owned and kept.gate.id not in self.kept:
            await self._take_over([(kept.tenant, kept.gate.id)])

    # Rows and memory are compared

    async def _compare(self) -> None:
        """Finds tickets nobody told of, and runs that left unheard; removes what counts for nothing."""
        looks, pause = 0, EVERY
        while True:
            await asyncio.sleep(pause)
            began = self.clock.ticks()
            try:
                looks += 1
                await self._look(tidy=looks % TIDY == 0)
            except Exception:  # a tick's boundary: the next look sees the same rows
                log.exception("gates_not_compared")
            pause = max(EVERY, SHARE * (self.clock.ticks() - began))

    async def _look(self, *, tidy: bool) -> None:
        self.pauses(await self.shelf().paused())
        parts = list(self.leases.owned)
        if not parts:
            return
        if tidy:
            await self.shelf().tidy(parts, self.clock.now(), [*self.kept, *self.idle])
        known = {(id, run) for id, kept in self.kept.items() for run in _everybody(kept.gate)}
        standing = {(gate, run): tenant for tenant, run, gate in await self.shelf().standing(parts)}
        for id, run in known - standing.keys():
            if (kept := self.kept.get(id)) is not None and leave(kept.gate, run):
                self.push(kept)
        behind = {
            (tenant, gate)
            for (gate, run), tenant in standing.items()
            if gate not in self._reading and not self._knows(gate, run)
        }
        for _, id in behind:
            if (kept := self.kept.get(id) or self.idle.get(id)) is not None and kept.pump is None:
                self._forget(kept)
        await self._take_over([place for place in behind if place[1] not in self.kept])

    def _knows(self, gate: UUID, run: UUID) -> bool:
        kept = self.kept.get(gate)
        return (gate, run) in self._returned or (kept is not None and run in _everybody(kept.gate))

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (raised := task.exception()) is not None:
            log.error("task_failed", exc_info=raised)


def _everybody(gate: Gate) -> set[UUID]:
    return {*gate.waiting, *gate.inside, *gate.ending}


def letter(tenant: UUID, gate: UUID, version: int, verdict: Verdict) -> tuple[Any, ...]:
    """The row of the run's inbox that tells it."""
    data: dict[str, Any]
    if verdict.word == "admitted":
        kind, data = "admit", {"gate": gate, "members": verdict.members}
    else:
        assert verdict.error is not None  # noqa: S101 - who is not let in is told why
        kind, data = "cancel", {"reason": verdict.error.message, "by": None, "error": verdict.error}
    id = uuid5(gate, f"{verdict.run}/{version}")
    return (tenant, verdict.run, id, verdict.part, kind, msgspec.json.encode(data).decode())
