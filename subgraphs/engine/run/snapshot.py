"""A run's state as bytes, so that a long journal need not be folded from its beginning.

A snapshot is only ever a shortcut: it holds nothing the journal does not, and may be thrown away at any time.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from subgraphs.engine.run.events import Outputs, Started
from subgraphs.engine.run.plan import Plan
from subgraphs.engine.run.state import Ending, Hold, Loop, Message, Round, Run, Step, Undone
from subgraphs.engine.step import Reply, StepError

EVERY = 500
PER_EVENT = 200
"""Bytes of a snapshot that weigh as much as an event."""


class State(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What a run is made of, apart from how it began and ends."""

    pending: dict[str, int]
    left: int
    steps: dict[str, Step] = {}
    fed: list[str] = []
    ready: list[str] = []
    running: dict[str, int] = {}
    timers: dict[str, int] = {}
    last: str | None = None
    queued: bool = False
    passed: int = 0
    paused: bool = False
    held: list[str] = []
    holds: dict[str, Hold] = {}
    ambiguous: dict[str, int] = {}
    loops: dict[str, Loop] = {}
    rounds: dict[str, Round] = {}
    undo: list[Undone] = []
    ending: Ending | None = None
    keys: dict[str, str] = {}
    signals: dict[str, list[Message]] = {}
    heard: list[str] = []
    record: dict[str, Outputs] | None = None
    forked: bool = False


class Snapshot(State, tag="snapshot.v1", omit_defaults=True, kw_only=True):
    """Everything of a run but its plan, which its `Started` event names or carries."""

    version: int
    status: str
    started: Started | None = None
    finished_at: int | None = None
    error: StepError | None = None
    reply: Reply | None = None


_decoder = msgspec.json.Decoder(Snapshot)
_SAME = [
    "pending",
    "left",
    "steps",
    "running",
    "last",
    "queued",
    "passed",
    "paused",
    "holds",
    "ambiguous",
    "loops",
    "rounds",
    "undo",
    "ending",
    "keys",
    "signals",
    "record",
    "forked",
]
_ORDERED = ("ready", "held", "heard")


def _state(run: Run) -> dict[str, Any]:
    found = {name: getattr(run, name) for name in _SAME}
    found.update({name: list(getattr(run, name)) for name in _ORDERED})
    return {**found, "fed": sorted(run.fed), "timers": run.alarms}


def snapshot(run: Run) -> bytes:
    """The state after `run.version` events."""
    return msgspec.json.encode(
        Snapshot(
            version=run.version,
            status=run.status,
            started=run.started,
            finished_at=run.finished_at,
            error=run.error,
            reply=run.reply,
            **_state(run),
        )
    )


def opened(data: bytes) -> Snapshot:
    """The snapshot itself; its `started` says which plan `restore` needs."""
    return _decoder.decode(data)


def restore(id: UUID, tenant: UUID, plan: Plan, data: bytes | Snapshot) -> Run:
    """The run as it was when the snapshot was taken."""
    kept = opened(data) if isinstance(data, bytes) else data
    run = Run(id=id, tenant=tenant, plan=plan, pending=kept.pending, left=kept.left)
    run.version, run.status = kept.version, kept.status
    if kept.started is not None:
        run.begun(kept.started)
    run.finished_at, run.error, run.reply = kept.finished_at, kept.error, kept.reply
    _take(run, kept)
    run.plain = run.plain and not run.forked
    return run


def fill(run: Run, state: dict[str, Any]) -> None:
    """Gives a run the state that another had, as `portable` told it."""
    _take(run, msgspec.convert(state, State, str_keys=True))


def portable(run: Run) -> dict[str, Any]:
    """The state of a run for the journal of another."""
    found: dict[str, Any] = msgspec.to_builtins(State(**_state(run)))
    return found


def _take(run: Run, kept: State) -> None:
    for name in _SAME:
        setattr(run, name, getattr(kept, name))
    for name in _ORDERED:
        setattr(run, name, dict.fromkeys(getattr(kept, name)))
    run.fed, run.alarms = set(kept.fed), kept.timers


def snapshot_due(run: Run, since: int, size: int) -> bool:
    """Whether another snapshot is worth its cost, `since` being the version of the last and `size` its bytes.

    At least `EVERY` events apart, and the farther the larger the last was: what snapshots cost over the life of a run
    then grows with the run and not with its square.
    """
    return run.version - since >= max(EVERY, size // PER_EVENT)
