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


class Parent(msgspec.Struct, frozen=True):
    """The step of another run that waits for this one; `depth` counts the runs above it."""

    run: UUID
    node: str
    attempt: int
    depth: int


class Gate(msgspec.Struct, frozen=True, omit_defaults=True):
    """A limit the run must be let through before it begins. `holds`: it takes a place until the run ends."""

    id: UUID
    limit: str
    key: str = ""
    group: str = ""
    holds: bool = False
    terms: dict[str, Any] = {}
    """What the limit allows, for its keeper."""


class Undo(msgspec.Struct, frozen=True, array_like=True):
    """A compensation: the key it runs under, and the key of the step it undoes."""

    node: str
    undone: str


class _Event(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="e"):
    at: int


class Started(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="started.v1"):
    """The run begins at `trigger`, whose output are `items`. Of a release only the number is kept; a draft, which may
    change, is kept whole. `stored`: the only item lies in the object store under this reference. `given`: outputs that
    are taken as done. With `gates` it begins once it was let through them all."""

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
    until: str | None = None
    only: str | None = None
    given: dict[str, Outputs] = {}
    parent: Parent | None = None
    gates: tuple[Gate, ...] = ()
    priority: int = 0


class Admitted(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="admitted.v1"):
    """A queued run passed a gate; having passed the last it begins, with `items` if they are given."""

    gate: UUID
    items: list[Made] | None = None
    deadline: int | None = None


class Forked(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="forked.v1"):
    """The run goes on from where `run` stood after `version` events. `state` is all of that which counts here, so that
    this journal needs no other; `edited` are the steps whose outputs were replaced. With `effects` `record`, steps that
    reach outside take their outputs from `record`."""

    run: UUID
    version: int
    state: dict[str, Any]
    edited: tuple[str, ...] = ()
    effects: str = "live"
    record: dict[str, Outputs] = {}


class StepStarted(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="step.started.v1"):
    """An attempt at a node whose body reaches outside may now begin. `recovered`: its predecessor was cut off, and, if
    `spared`, not because its process died: that lost the run or the database, and lives."""

    node: str
    attempt: int
    recovered: bool = False
    spared: bool = False


class StepSucceeded(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="step.succeeded.v1"):
    """A step is done. `taken`: its outputs do not stand here but are `given` with the start, from a fork's `record`, or
    what a loop collected in its `rounds`."""

    node: str
    attempt: int
    outputs: Outputs = {}
    took: float = 0.0
    lines: list[Line] = []
    lines_dropped: int = 0
    taken: str = ""


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
    """The step holds its items: for `kind` time until `until`, else until it is answered. At `deadline` it gives up."""

    node: str
    attempt: int
    until: int | None = None
    deadline: int | None = None
    took: float = 0.0
    lines: list[Line] = []
    lines_dropped: int = 0
    kind: str = "time"
    name: str = ""
    detail: dict[str, Any] = {}


class StepResumed(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="answered.v1"):
    """A wait was answered; what leaves the step follows as its success or failure."""

    node: str
    attempt: int
    port: str = "main"
    data: Any = None
    by: UUID | None = None


class StepAmbiguous(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="step.ambiguous.v1"):
    """The attempt was cut off, and whether it has happened outside is not known: it waits for `Settle`."""

    node: str
    attempt: int


class StepsHeld(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="steps.held.v1"):
    """Attempts that were cut off while the run was paused: they begin again when it is resumed."""

    nodes: tuple[str, ...]


class StepSettled(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="step.settled.v1"):
    """It became known whether an ambiguous attempt had happened; what follows from it comes next."""

    node: str
    attempt: int
    happened: bool
    by: UUID | None = None


class StepsSkipped(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="steps.skipped.v1"):
    """Nothing reached these nodes."""

    nodes: tuple[str, ...]


class StepsCancelled(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="steps.cancelled.v1"):
    """These steps are not needed any more; what ran of them stops."""

    nodes: tuple[str, ...]


class RoundStarted(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="round.started.v1"):
    """Round `round` of loop step `node` takes `count` of the loop's items, beginning with `first`."""

    node: str
    round: int
    first: int
    count: int


class RoundEnded(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="round.ended.v1"):
    """All steps of the round are settled, or one `failed` with `error`; they leave memory. `collected` (port `done`):
    what the loop keeps of it; None: all items that arrived at its input `next`, in the order of the connections."""

    node: str
    round: int
    status: str = "succeeded"
    error: StepError | None = None
    failed: str | None = None
    collected: Outputs | None = None


class Ignored(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="ignored.v1"):
    """Items that came too late at a node which waits for one connection only, or a signal nobody can keep."""

    node: str
    source: str
    port: str = "main"
    count: int = 0


class Signalled(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="signalled.v1"):
    """A message reached the run."""

    id: str
    name: str
    data: Any = None
    by: UUID | None = None


class RunPaused(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="paused.v1"):
    """No step begins until the run is resumed."""

    by: UUID | None = None
    reason: str = ""


class RunResumed(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="resumed.v1"):
    """What was held back by the pause goes on."""

    by: UUID | None = None


class Tagged(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="tagged.v1"):
    """Business keys were set; `node`: by this step."""

    keys: dict[str, str]
    node: str | None = None


class Compensating(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="compensating.v1"):
    """The run will end as `status`; before that, what succeeded is undone in this order. What was under way stops."""

    status: str
    undo: tuple[Undo, ...]
    error: StepError | None = None
    node: str | None = None
    by: UUID | None = None


class Concluding(_Event, frozen=True, omit_defaults=True, kw_only=True, tag="concluding.v1"):
    """The run will end as `status`; before that, its finally section runs. What was under way stops."""

    status: str
    error: StepError | None = None
    node: str | None = None
    by: UUID | None = None


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


Event = (
    Started
    | Admitted
    | Forked
    | StepStarted
    | StepSucceeded
    | StepFailed
    | StepWaiting
    | StepResumed
    | StepAmbiguous
    | StepSettled
    | StepsHeld
    | StepsSkipped
    | StepsCancelled
    | RoundStarted
    | RoundEnded
    | Ignored
    | Signalled
    | RunPaused
    | RunResumed
    | Tagged
    | Compensating
    | Concluding
    | Replied
    | Finished
)

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
