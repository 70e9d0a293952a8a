"""A run held in memory by its owner, and the units it commits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
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
    decide,
    encode,
    encode_one,
    evolve,
    snapshot,
)
from subgraphs.engine.step import StepError, StepOutcome
from subgraphs.execution import events as published
from subgraphs.execution.domain import CODES, moment
from subgraphs.execution.limits.tickets import Tickets, book
from subgraphs.execution.storage import INBOX, JOURNAL, RUN, SNAPSHOT, TIMER
from subgraphs.platform.leases import Lease
from subgraphs.platform.objects import Objects, Ref
from subgraphs.platform.writer import Unit

SNAPSHOT_EVERY = 500
ERROR_BYTES = 16_384
MARGIN = 4096  # what an envelope adds to a body


@dataclass(slots=True, eq=False)
class Live:
    """A run, how much of it is committed, and the bodies running for it."""

    run: Run
    lease: Lease
    committed: int = 0
    snapshotted: int = 0
    fresh: list[Event] = field(default_factory=list)
    encoded: list[bytes] = field(default_factory=list)
    timers: dict[str, int] = field(default_factory=dict)
    tickets: Tickets = field(default_factory=dict)
    mail: list[UUID] = field(default_factory=list)
    bodies: dict[str, tuple[int, asyncio.Task[None]]] = field(default_factory=dict)
    names: dict[str, Any] | None = None
    pump: asyncio.Task[None] | None = None
    gone: bool = False

    def apply(self, command: Command) -> list[Event]:
        """Decides and evolves; the events wait, encoded, for the next commit. Output that is no JSON fails its step
        here, before anything has happened."""
        events = decide(self.run, command)
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
        for event in events:
            evolve(self.run, event)
        self.fresh += events
        self.encoded += encoded
        return events

    @property
    def idle(self) -> bool:
        """Nothing to commit and nothing running: the database knows all there is."""
        return not self.fresh and not self.mail and not self.bodies and not self.run.ready


@dataclass(slots=True, eq=False)
class Cut:
    """What one commit takes of a run, fixed at one instant: bodies may end while large payloads are stored."""

    events: list[Event]
    unit: Unit
    chunk: bytes
    kept: bytes | None
    replies: list[Replied]
    finished: bool


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
    for id in live.mail:
        unit.deletes.append((INBOX.name, (run.tenant, run.id, id)))
    live.mail = []
    kept = None
    if run.version - live.snapshotted >= SNAPSHOT_EVERY and not run.final:
        kept, live.snapshotted = snapshot(run), run.version
    return Cut(
        events=events,
        unit=unit,
        chunk=b"[%b]" % b",".join(encoded),
        kept=kept,
        replies=[event for event in events if isinstance(event, Replied)],
        finished=bool(events) and isinstance(events[-1], Finished),
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
    )


def _short(error: StepError) -> str:
    """The error for lists; the journal has it whole."""
    encoded = msgspec.json.encode(error)
    if len(encoded) > ERROR_BYTES:
        encoded = msgspec.json.encode(StepError(error.code, error.message[: published.TOLD], error.kind))
    return encoded.decode()


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
    if taken.finished:
        unit.events.append(published.finished(run, unit.partition))
    return unit


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
