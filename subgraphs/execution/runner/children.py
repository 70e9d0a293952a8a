"""Runs that a run starts: their ids, the events that begin, end and stop them, and what comes back.

Everything stands in the commits of the two runs concerned. The parent's commit that makes a step wait carries the event
that begins the child; the child's last commit carries the event that ends the wait; a parent that ends while a child
goes on tells it so in its own last commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import msgspec

from subgraphs.engine.run import Parent, Run
from subgraphs.engine.step import Item, StepError, StepOutcome, Wait
from subgraphs.execution import events as published
from subgraphs.execution.domain import moment
from subgraphs.platform.domain import Event

DEEPEST = 20
"""Runs under one another. A run that would go deeper fails typed: it is a workflow that calls itself without end."""

TYPE, TRIGGER = "core.call", "core.error"


def child_id(parent: UUID, step: str, attempt: int, at: int) -> UUID:
    """The id of the run that an attempt starts at a moment (microseconds): ordered by time as all ids of runs are
    (RFC 9562, version 7), and otherwise made of what it is for."""
    chance = int.from_bytes(sha256(parent.bytes + f"{step}:{attempt}".encode()).digest()[:10], "big")
    value = (at // 1000 & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | (chance >> 68 & 0xFFF) << 64
    return UUID(int=value | 0b10 << 62 | chance & 0x3FFF_FFFF_FFFF_FFFF)


def depth(run: Run) -> int:
    """How many runs stand above this one."""
    parent = run.started.parent if run.started is not None else None
    return parent.depth if parent is not None else 0


def called(
    run: Run, step: str, attempt: int, outcome: StepOutcome, at: int, partition: int
) -> tuple[StepOutcome, Event]:
    """The outcome of a step that starts another run, which now names that run, and the event that begins it. Detached,
    the step ends at once. Raises TooDeep."""
    wait = outcome.wait
    assert wait is not None  # noqa: S101 - asked only for steps that start a run
    if depth(run) >= DEEPEST:
        raise TooDeep
    detached = wait.detail.get("mode") == "detach"
    id = child_id(run.id, step, attempt, at)
    data = {
        "workflowId": wait.detail["workflow"],
        "release": wait.detail.get("release"),
        "input": wait.detail.get("input"),
        "mode": "child",
        "parent": _parent(run, step, 0 if detached else attempt),
    }
    begun = Event(
        type=published.REQUESTED, id=id, subject=str(id), tenant=run.tenant, partition=partition, data=data,
        causation=run.id, time=moment(at),
    )  # fmt: skip
    if detached:
        item = Item({"executionId": str(id)})
        return StepOutcome(outputs={"main": [item]}, lines=outcome.lines, lines_dropped=outcome.lines_dropped), begun
    detail = {"run": str(id), **{name: value for name, value in wait.detail.items() if name != "input"}}
    waiting = Wait(until=wait.until, kind="child", name=wait.name, detail=detail)
    return StepOutcome(wait=waiting, lines=outcome.lines, lines_dropped=outcome.lines_dropped), begun


class TooDeep(Exception):
    """Runs would stand more than DEEPEST under one another."""

    error = StepError("call.too_deep", f"Runs start each other {DEEPEST} levels deep; no deeper.", "limit")


def _parent(run: Run, step: str, attempt: int) -> Mapping[str, Any]:
    return {"run": str(run.id), "node": step, "attempt": attempt, "depth": depth(run) + 1}


def returning(run: Run) -> Parent | None:
    """The parent that waits for this run."""
    parent = run.started.parent if run.started is not None else None
    return parent if parent is not None and parent.attempt > 0 else None


def result(run: Run) -> list[dict[str, Any]]:
    """What a run that succeeded gives its parent: the items that left its last step."""
    if run.status != "succeeded" or run.last is None or run.last not in run.steps:
        return []
    outputs = run.steps[run.last].outputs
    items = outputs.get("main") or next((found for found in outputs.values() if found), [])
    return [item.json for item in items]


def returned(run: Run, parent: Parent, partition: int, items: Any) -> Event:
    """A child's end, for its parent. `items` may be a reference."""
    error = msgspec.to_builtins(run.error) if run.error is not None else None
    data = {
        "executionId": str(run.id),
        "parent": str(parent.run),
        "node": parent.node,
        "attempt": parent.attempt,
        "status": run.status,
        "items": items,
        "error": error,
    }
    return _event(published.RETURNED, run, partition, data)


def stopping(run: Run, child: UUID, partition: int, *, kill: bool) -> Event:
    """A parent has ended: this child is to end too."""
    data = {"executionId": str(child), "parent": str(run.id), "kill": kill}
    return _event(published.STOPPING, run, partition, data)


def failing(run: Run, partition: int) -> Event | None:
    """The event that starts the error workflow of a run that failed, if its release names one; None for runs of drafts
    and for runs that are error workflows themselves. It is part of the failing run's last commit, so it is there
    exactly once."""
    started, error, ended, workflow = run.started, run.error, run.finished_at, run.plan.error_workflow
    if workflow is None or run.status not in {"failed", "timed_out"}:
        return None
    if started is None or error is None or ended is None or started.release is None or started.mode == "error":
        return None
    told = {
        "execution": {
            "id": str(run.id),
            "status": run.status,
            "mode": started.mode,
            "startedAt": _text(moment(started.at)),
            "finishedAt": _text(moment(ended)),
        },
        "workflow": {"id": str(started.workflow), "name": started.name, "release": started.release},
        "error": {"code": error.code, "message": error.message[: published.TOLD], "kind": error.kind},
        "lastNode": run.last,
    }
    id = child_id(run.id, "error", 0, ended)
    data = {"workflowId": str(workflow), "input": told, "mode": "error", "parent": _parent(run, "", 0)}
    return Event(
        type=published.REQUESTED, id=id, subject=str(id), tenant=run.tenant, partition=partition, data=data,
        causation=run.id, time=moment(ended),
    )  # fmt: skip


def _event(kind: str, run: Run, partition: int, data: Mapping[str, Any]) -> Event:
    return Event(type=kind, subject=str(run.id), tenant=run.tenant, partition=partition, causation=run.id, data=data)


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
