"""A run held in memory by its owner, and the units it commits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec

from subgraphs.engine.run import (
    Command,
    Complete,
    Event,
    Finished,
    Replied,
    Run,
    Started,
    StepStarted,
    StepWaiting,
    Tagged,
    decide,
    encode,
    encode_one,
    evolve,
    snapshot,
)
from subgraphs.engine.run.snapshot import PER_EVENT
from subgraphs.engine.step import StepError, StepOutcome
from subgraphs.execution import events as published
from subgraphs.execution.domain import CODES, moment
from subgraphs.execution.limits.tickets import Tickets, book
from subgraphs.execution.runner import children, waits
from subgraphs.execution.runner.waits import Standing
from subgraphs.execution.storage import INBOX, JOURNAL, RUN, RUN_KEY, SNAPSHOT, TIMER
from subgraphs.platform.domain import Event as Published
from subgraphs.platform.leases import Lease
from subgraphs.platform.objects import Objects, Ref
from subgraphs.platform.writer import Unit

ERROR_BYTES = 16_384
SNAPSHOT_EVERY = 500  # events, or more where snapshots are large: they would cost the square of a run's length
MARGIN = 4096  # what an envelope adds to a body


@dataclass(slots=True, eq=False)
class Live:
    """A run, how much of it is committed, and the bodies running for it.

    `timers` and `waits` are what the tables hold. `early` are letters for steps that do not wait yet; `outgoing` events
    leave with the next commit. `size`: bytes of the last snapshot. `most`: those a step may put out (0: any).
    `yielding`: the process ends, and nothing begins that another would have to repeat."""

    run: Run
    lease: Lease
    most: int = 0
    committed: int = 0
    snapshotted: int = 0
    size: int = 0
    fresh: list[Event] = field(default_factory=list)
    encoded: list[bytes] = field(default_factory=list)
    timers: dict[str, int] = field(default_factory=dict)
    tickets: Tickets = field(default_factory=dict)
    waits: dict[str, Standing] = field(default_factory=dict)
    mail: list[UUID] = field(default_factory=list)
    early: dict[UUID, Command] = field(default_factory=dict)
    outgoing: list[Published] = field(default_factory=list)
    returned: set[str] = field(default_factory=set)
    killed: bool = False
    yielding: bool = False
    bodies: dict[str, tuple[int, asyncio.Task[None]]] = field(default_factory=dict)
    probes: set[str] = field(default_factory=set)
    names: dict[str, Any] | None = None
    pump: asyncio.Task[None] | None = None
    gone: bool = False

    def apply(self, command: Command) -> list[Event]:
        """Decides and evolves; the events wait, encoded, for the next commit. Output that is no JSON fails its step
        here, before anything has happened."""
        events = decide(self.run, command)
        if self.yielding:
            events = [event for event in events if not isinstance(event, StepStarted)]
        try:
            encoded = [encode_one(_lean(event)) for event in events]
        except (TypeError, ValueError, OverflowError, RecursionError) as fault:
            if not isinstance(command, Complete) or command.outcome.error is not None:
                raise
            told = f"What the step put out is not JSON: {type(fault).__name__}."
            error = StepError("step.output_invalid", told)
            return self.apply(
                Complete(command.at, command.node, command.attempt, StepOutcome(error=error), command.took)
            )
        if isinstance(command, Complete) and command.outcome.error is None and self.most:
            size = sum(map(len, encoded))
            if size > self.most:
                return self.apply(_too_large(command, size, self.most))
        for event in events:
            evolve(self.run, event)
        self.fresh += events
        self.encoded += encoded
        return events

    @property
    def idle(self) -> bool:
        """Nothing to commit and nothing running: the database knows all there is."""
        return not (self.fresh or self.mail or self.bodies or self.probes or self.early or self.run.ready)


def _too_large(command: Complete, size: int, most: int) -> Complete:
    """The same end of an attempt, as the failure to put out as much."""
    said = f"The step put out {size} bytes; at most {most} are kept."
    error = StepError("step.output_too_large", said, "limit", detail={"bytes": size, "limit": most})
    return Complete(command.at, command.node, command.attempt, StepOutcome(error=error), command.took)


@dataclass(slots=True, eq=False)
class Cut:
    """What one commit takes of a run, fixed at one instant: bodies may end while large payloads are stored."""

    events: list[Event]
    unit: Unit
    chunk: bytes
    kept: bytes | None
    replies: list[Replied]
    finished: bool
    orphans: Sequence[UUID] = ()


def cut(live: Live) -> Cut:
    """Takes everything fresh. The run's state is exactly what these events lead to."""
    run, lease = live.run, live.lease
    events, live.fresh = live.fresh, []
    encoded, live.encoded = live.encoded, []
    unit = Unit(
        tenant=run.tenant,
        id=run.id,
        partition=lease.partition,
        epoch=lease.epoch,
        expected=live.committed,
        version=run.version,
        head_table=RUN.name,
        head=_head(run, lease),
    )
    if run.timers != live.timers:
        _timers(live, unit)
    if live.tickets or (run.started is not None and run.started.gates):
        live.tickets = book(run, live.tickets, unit)
    unit.events += live.outgoing
    live.outgoing = []
    stands = _waits(live, unit, events)
    for id in live.mail:
        unit.deletes.append((INBOX.name, (run.tenant, run.id, id)))
    live.mail = []
    kept = None
    if not run.final and run.version - live.snapshotted >= max(SNAPSHOT_EVERY, live.size // PER_EVENT):
        kept, live.snapshotted = snapshot(run), run.version
        live.size = len(kept)
    return Cut(
        events=events,
        unit=unit,
        chunk=b"[%b]" % b",".join(encoded),
        kept=kept,
        replies=[event for event in events if isinstance(event, Replied)],
        finished=bool(events) and isinstance(events[-1], Finished),
        orphans=stands,
    )


def _lean(event: Event) -> Event:
    """A payload that lies in the object store is not stored again in the journal."""
    if isinstance(event, Started) and event.stored is not None:
        return msgspec.structs.replace(event, items=[])
    return event


def _head(run: Run, lease: Lease) -> tuple[Any, ...]:
    started = run.started
    assert started is not None  # noqa: S101 - the first event of every run
    return (
        run.tenant,
        run.id,
        lease.partition,
        run.version,
        lease.epoch,
        started.workflow,
        started.name,
        started.mode,
        started.release,
        started.revision,
        CODES[run.status],
        moment(started.at),
        moment(run.finished_at) if run.finished_at is not None else None,
        _short(run.error) if run.error is not None else None,
        started.started_by,
        started.rerun_of,
        started.parent.run if started.parent is not None else None,
    )


def _short(error: StepError) -> str:
    """The error for lists; the journal has it whole."""
    encoded = msgspec.json.encode(error)
    if len(encoded) > ERROR_BYTES:
        encoded = msgspec.json.encode(StepError(error.code, error.message[: published.TOLD], error.kind))
    return encoded.decode()


def _waits(live: Live, unit: Unit, events: Sequence[Event]) -> Sequence[UUID]:
    """Writes what became of the run's waits; the children that nobody waits for any more."""
    if not live.waits and not any(type(event) is StepWaiting for event in events):
        return ()
    held, returned = live.waits, live.returned
    live.waits = waits.written(live.run, held, unit, events)
    live.returned = set()
    return waits.left(held, live.waits, events, returned)


def _timers(live: Live, unit: Unit) -> None:
    run, part = live.run, live.lease.partition
    for name, due in run.timers.items():
        if live.timers.get(name) != due:
            unit.rows.append((TIMER.name, (run.tenant, run.id, name, part, moment(due))))
    for name in live.timers:
        if name not in run.timers:
            unit.deletes.append((TIMER.name, (run.tenant, run.id, name)))
    live.timers = dict(run.timers)


def ending(head: Mapping[str, Any], lease: Lease, at: int) -> Unit:
    """Ends a run whose journal cannot be read, from its head alone."""
    error = StepError("execution.unreadable", "What the run had done cannot be read back.", "infrastructure")
    version = head["version"] + 1
    changes = {
        "version": version,
        "epoch": lease.epoch,
        "status": CODES["failed"],
        "finished_at": moment(at),
        "error": _short(error),
    }
    unit = Unit(
        tenant=head["tenant"],
        id=head["id"],
        partition=lease.partition,
        epoch=lease.epoch,
        expected=head["version"],
        version=version,
        head_table=RUN.name,
        head=tuple(changes.get(name, head[name]) for name in RUN.names),
    )
    last = encode([Finished(at=at, status="failed", error=error)])
    unit.rows.append((JOURNAL.name, (unit.tenant, unit.id, version, unit.epoch, last)))
    return unit


async def complete(live: Live, taken: Cut, objects: Objects, limit: int) -> Unit:
    """The unit with its journal row, snapshot and published events; large payloads are stored first."""
    run, unit = live.run, taken.unit
    first = taken.events[0] if taken.events else None
    if isinstance(first, Started) and first.stored is not None:
        reference = Ref(first.stored["$ref"], first.stored["size"])
        unit.rows.append(objects.hold(unit.tenant, reference, unit.id))
    if taken.events:
        data = await _checked(unit, taken.chunk, objects, limit)
        unit.rows.append((JOURNAL.name, (unit.tenant, unit.id, unit.version, unit.epoch, data)))
    if taken.kept is not None:
        data = await _checked(unit, taken.kept, objects, limit)
        unit.rows.append((SNAPSHOT.name, (unit.tenant, unit.id, unit.version, data)))
    respond = run.respond
    for event in taken.replies:
        if respond is not None and respond.address is not None:
            body = await _body(unit, event, objects, limit)
            unit.events.append(published.replied(run, unit.partition, event.reply, body))
    for one in taken.events:
        if isinstance(one, Tagged):
            for name, value in one.keys.items():
                unit.rows.append((RUN_KEY.name, (unit.tenant, unit.id, name, value)))
    unit.events += [children.stopping(run, child, unit.partition, kill=live.killed) for child in taken.orphans]
    if taken.finished:
        unit.events.append(published.finished(run, unit.partition))
        await _ended(run, unit, objects, limit)
    return unit


async def _ended(run: Run, unit: Unit, objects: Objects, limit: int) -> None:
    """What others have to know of a run's end, in the commit that ends it: the run that waits for it, and the error
    workflow."""
    if (parent := children.returning(run)) is not None:
        items: Any = children.result(run)
        data = msgspec.json.encode(items)
        if len(data) > limit - MARGIN:
            items = await _stored(unit, data, objects)
        unit.events.append(children.returned(run, parent, unit.partition, items))
    if (event := children.failing(run, unit.partition)) is not None:
        unit.events.append(event)


async def _body(unit: Unit, event: Replied, objects: Objects, limit: int) -> Any:
    body = event.reply.body
    data = msgspec.json.encode(body)
    if len(data) <= limit - MARGIN:
        return body
    return await _stored(unit, data, objects)


async def _checked(unit: Unit, data: bytes, objects: Objects, limit: int) -> bytes:
    return data if len(data) <= limit else msgspec.json.encode(await _stored(unit, data, objects))


async def _stored(unit: Unit, data: bytes, objects: Objects) -> Mapping[str, Any]:
    """Stores a payload durably, and has the run hold it in the same commit that refers to it."""
    reference = await objects.put(unit.tenant, data)
    unit.rows.append(objects.hold(unit.tenant, reference, unit.id))
    return reference.json()
