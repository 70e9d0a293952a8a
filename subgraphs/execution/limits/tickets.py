"""The tickets of a run: where it stands, as rows of its own commits."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from subgraphs.engine.run import Gate, Run
from subgraphs.execution.limits import events
from subgraphs.execution.limits.storage import TICKET, VERDICT
from subgraphs.platform.writer import Unit

PACING = frozenset({"rateLimit", "throttle"})
"""Limits at which an admission counts for a period, whatever becomes of the run."""

Tickets = dict[UUID, Gate]


def wanted(run: Run) -> Tickets:
    """The gates at which the run needs a ticket: the one it stands at, and those behind it that it holds a place of."""
    started = run.started
    if started is None or not started.gates or run.final:
        return {}
    found = {gate.id: gate for gate in started.gates[: run.passed] if gate.holds}
    if run.passed < len(started.gates):
        next = started.gates[run.passed]
        found[next.id] = next
    return found


def book(run: Run, had: Tickets, unit: Unit) -> Tickets:
    """Adds to the run's commit what changes of its tickets; the tickets after it. Costs nothing without limits."""
    now = wanted(run)
    if now.keys() == had.keys():
        return had
    for id, gate in now.items():
        if id not in had:
            _take(run, gate, unit)
    passed = {gate.id for gate in run.started.gates[: run.passed]} if run.started is not None else set()
    for id, gate in had.items():
        if id not in now:
            unit.deletes.append((TICKET.name, (run.tenant, run.id, id)))
            if gate.limit not in PACING or id not in passed:
                unit.deletes.append((VERDICT.name, (run.tenant, run.id, id)))
            told = {"run": str(run.id)}
            unit.events.append(events.about(events.RETURNED, run.tenant, id, gate.terms["part"], told))
    return now


def _take(run: Run, gate: Gate, unit: Unit) -> None:
    started = run.started
    assert started is not None  # noqa: S101 - it has gates
    part, told = gate.terms["part"], _told(run, gate, unit.partition)
    row = (
        run.tenant,
        run.id,
        gate.id,
        part,
        unit.partition,
        started.workflow,
        gate.limit,
        gate.key,
        started.at,
        started.priority,
        gate.group,
        msgspec.json.encode(gate.terms, order="sorted").decode(),
    )
    unit.rows.append((TICKET.name, row))
    unit.events.append(events.about(events.TAKEN, run.tenant, gate.id, part, told))


def _told(run: Run, gate: Gate, part: int) -> dict[str, Any]:
    started = run.started
    assert started is not None  # noqa: S101 - it has gates
    return {
        "run": str(run.id),
        "workflow": str(started.workflow) if started.workflow is not None else None,
        "at": started.at,
        "part": part,
        "priority": started.priority,
        "group": gate.group,
        "terms": dict(gate.terms),
    }
