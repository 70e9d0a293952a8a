"""A run's state as bytes, so that a long journal need not be folded from its beginning.

A snapshot is only ever a shortcut: it holds nothing the journal does not, and may be thrown away at any time.
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from subgraphs.engine.run.events import Started
from subgraphs.engine.run.plan import Plan
from subgraphs.engine.run.state import Run, Step
from subgraphs.engine.step import Reply, StepError


class Snapshot(msgspec.Struct, tag="snapshot.v1", omit_defaults=True):
    """Everything of a run but its plan, which its `Started` event names or carries."""

    version: int
    status: str
    pending: dict[str, int]
    left: int
    started: Started | None = None
    finished_at: int | None = None
    error: StepError | None = None
    reply: Reply | None = None
    steps: dict[str, Step] = {}
    fed: list[str] = []
    ready: list[str] = []
    running: dict[str, int] = {}
    timers: dict[str, int] = {}
    last: str | None = None


_decoder = msgspec.json.Decoder(Snapshot)


def snapshot(run: Run) -> bytes:
    """The state after `run.version` events."""
    return msgspec.json.encode(
        Snapshot(
            version=run.version,
            status=run.status,
            pending=run.pending,
            left=run.left,
            started=run.started,
            finished_at=run.finished_at,
            error=run.error,
            reply=run.reply,
            steps=run.steps,
            fed=sorted(run.fed),
            ready=list(run.ready),
            running=run.running,
            timers=run.timers,
            last=run.last,
        )
    )


def opened(data: bytes) -> Snapshot:
    """The snapshot itself; its `started` says which plan `restore` needs."""
    return _decoder.decode(data)


def restore(id: UUID, tenant: UUID, plan: Plan, data: bytes | Snapshot) -> Run:
    """The run as it was when the snapshot was taken."""
    kept = opened(data) if isinstance(data, bytes) else data
    return Run(
        id=id,
        tenant=tenant,
        plan=plan,
        pending=kept.pending,
        left=kept.left,
        version=kept.version,
        status=kept.status,
        started=kept.started,
        finished_at=kept.finished_at,
        error=kept.error,
        reply=kept.reply,
        steps=kept.steps,
        fed=set(kept.fed),
        ready=dict.fromkeys(kept.ready),
        running=kept.running,
        timers=kept.timers,
        last=kept.last,
    )
