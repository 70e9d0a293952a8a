"""What happens in a run, as the journal keeps it: a tagged, versioned vocabulary.

Times are whole microseconds since 1970 (UTC), durations milliseconds. Output items are either the position of an input
item that passed through unchanged (its payload is already in the journal) or a new record. Positions count the items of
all incoming connections, in the order the definition lists the connections.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from subgraphs.engine.step import Line, Reply, StepError


class Made(msgspec.Struct, frozen=True, array_like=True):
    """A new item and the positions of the input items it descends from."""

    json: dict[str, Any]
    source: tuple[int, ...] = ()
    files: dict[str, Any] = {}


Outputs = dict[str, list[int | Made]]


class Respond(msgspec.Struct, frozen=True):
    """Who waits for the answer: `mode` now, done or node; `address` the replica that holds the caller."""

    mode: str = "now"
    address: str | None = None


class _Event(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="e"):
    at: int


class Started(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="started.v1"):
    """The run begins at `trigger`, whose output are `items`. Of a release only the number is kept; a draft, which may
    change, is kept whole. `stored`: the only item lies in the object store under this reference."""

    workflow: UUID | None
    name: str
    mode: str
    trigger: str
    seed: int
    items: list[Made]
    release: int | None = None
    revision: int | None = None
    started_by: UUID | None = None
    rerun_of: UUID | None = None
    respond: Respond | None = None
    deadline: int | None = None
    definition: dict[str, Any] | None = None
    types: dict[str, Any] | None = None
    stored: dict[str, Any] | None = None


class StepStarted(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="step.started.v1"):
    """An attempt at a node whose body reaches outside may now begin. `recovered`: its predecessor was cut off."""

    node: str
    attempt: int
    recovered: bool = False


class StepSucceeded(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="step.succeeded.v1"):
    node: str
    attempt: int
    outputs: Outputs
    took: float = 0.0
    lines: list[Line] = []
    lines_dropped: int = 0


class StepFailed(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="step.failed.v1"):
    """An attempt failed: tried again at `retry_at`, or carried on with `outputs`, or (neither) the run stops."""

    node: str
    attempt: int
    error: StepError
    took: float = 0.0
    retry_at: int | None = None
    outputs: Outputs | None = None
    lines: list[Line] = []
    lines_dropped: int = 0


class StepWaiting(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="step.waiting.v1"):
    """The step holds its items until `until`, or fails at `deadline` if that comes first."""

    node: str
    attempt: int
    until: int
    deadline: int | None = None
    took: float = 0.0
    lines: list[Line] = []
    lines_dropped: int = 0


class StepsSkipped(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="steps.skipped.v1"):
    """Nothing reached these nodes."""

    nodes: tuple[str, ...]


class Replied(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="replied.v1"):
    """What the caller of the trigger gets; `node` is None when the engine answered at the end of the run."""

    reply: Reply
    node: str | None = None


class Finished(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="finished.v1"):
    """The last event of every run."""

    status: str
    error: StepError | None = None
    node: str | None = None
    by: UUID | None = None


Event = Started | StepStarted | StepSucceeded | StepFailed | StepWaiting | StepsSkipped | Replied | Finished

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(list[Event])


def encode(events: list[Event]) -> bytes:
    """One journal chunk: the events of a run that one commit brings, as JSON."""
    return _encoder.encode(events)


def encode_one(event: Event) -> bytes:
    """One event; a chunk is several of them in brackets, separated by commas."""
    return _encoder.encode(event)


def decode(chunk: bytes) -> list[Event]:
    """The events of a chunk; raises msgspec.ValidationError on a vocabulary this code does not know."""
    return _decoder.decode(chunk)
