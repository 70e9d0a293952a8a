"""What can be asked of a run. Everything that is not in the journal yet (time, seed, outcomes) comes in here.

`at` is in microseconds since 1970, `node` the key of a step. A command that comes too late, twice, or for an attempt
that was replaced changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from subgraphs.engine.run.events import Gate, Parent, Respond
from subgraphs.engine.run.state import Run
from subgraphs.engine.step import StepError, StepOutcome

Given = Mapping[str, Mapping[str, Sequence[dict[str, Any]]]]
"""Output items (their JSON) by node id or step key, and by port."""


class Fork(msgspec.Struct, kw_only=True):
    """Where a run that goes on from another begins. `run` is that run folded up to the chosen event; `edits` replace
    outputs of settled steps, and what followed from those is done anew. `effects`: `live`, or `record`: steps that
    reach outside then take what is in `record` (by step key, see `fork.recorded`) and fail if it is not there."""

    run: Run
    edits: Given = {}
    effects: str = "live"
    record: Given = {}


class Start(msgspec.Struct, kw_only=True):
    """Begin at `trigger` with these item bodies; see `Started` for the rest. With a `fault` it ends as it begins.

    `until`: only what leads to this node runs, and it. `only`: this node alone. `given`: outputs taken as done, in
    drafts only: pinned or kept from a former run."""

    at: int
    seed: int
    trigger: str
    items: Sequence[dict[str, Any]]
    workflow: UUID | None = None
    name: str = ""
    mode: str = "manual"
    release: int | None = None
    revision: int | None = None
    started_by: UUID | None = None
    rerun_of: UUID | None = None
    respond: Respond | None = None
    definition: Mapping[str, Any] | None = None
    types: Mapping[str, Any] | None = None
    stored: Mapping[str, Any] | None = None
    fault: StepError | None = None
    until: str | None = None
    only: str | None = None
    given: Given = {}
    fork: Fork | None = None
    parent: Parent | None = None
    gates: tuple[Gate, ...] = ()
    priority: int = 0


class Admit(msgspec.Struct):
    """A run that is queued may pass this gate; after the last it begins. `items` then replace the trigger's."""

    at: int
    gate: UUID
    items: Sequence[dict[str, Any]] | None = None


class Complete(msgspec.Struct):
    """Attempt `attempt` at step `node` ended with `outcome` after `took` milliseconds."""

    at: int
    node: str
    attempt: int
    outcome: StepOutcome
    took: float = 0.0


class Fire(msgspec.Struct):
    """The timer of this name is due."""

    at: int
    timer: str


class Cancel(msgspec.Struct):
    """Stop now. `by`: the user who asked. `kill`: without compensations and the finally section. `error`: a typed
    reason in place of `execution.cancelled`."""

    at: int
    reason: str = ""
    by: UUID | None = None
    kill: bool = False
    error: StepError | None = None


class Fail(msgspec.Struct):
    """The run cannot go on, for a reason outside its steps."""

    at: int
    error: StepError


class Recover(msgspec.Struct):
    """A new owner took over: attempts that had begun are begun again, parked or given up, as their effect demands.
    `spared`: steps whose attempts were cut off though their process lives, which says nothing against them."""

    at: int
    spared: frozenset[str] = frozenset()


class Pause(msgspec.Struct):
    """Begin no further step until `Resume`. What runs may end."""

    at: int
    by: UUID | None = None
    reason: str = ""


class Resume(msgspec.Struct):
    """Go on after a pause."""

    at: int
    by: UUID | None = None


class Signal(msgspec.Struct):
    """A message to the run: it ends the longest wait for a signal of this name, or is kept for the next. The same `id`
    twice has one effect."""

    at: int
    id: str
    name: str
    data: Any = None
    by: UUID | None = None


class Answer(msgspec.Struct):
    """What a waiting step waited for; the held items leave by `port` with `data` beside theirs."""

    at: int
    node: str
    attempt: int
    port: str = "main"
    data: Any = None
    by: UUID | None = None


class ChildEnded(msgspec.Struct):
    """The run that a step waits for has ended with `status`, and its last items or its error."""

    at: int
    node: str
    attempt: int
    status: str
    items: Sequence[dict[str, Any]] = ()
    error: StepError | None = None
    run: UUID | None = None


class Settle(msgspec.Struct):
    """Whether the interrupted attempt of an ambiguous step `happened`: if so with these `outputs`, else again."""

    at: int
    node: str
    attempt: int
    happened: bool
    outputs: Mapping[str, Sequence[dict[str, Any]]] = {}
    by: UUID | None = None


class Tag(msgspec.Struct):
    """Set these business keys."""

    at: int
    keys: Mapping[str, str]


Command = (
    Start
    | Admit
    | Complete
    | Fire
    | Cancel
    | Fail
    | Recover
    | Pause
    | Resume
    | Signal
    | Answer
    | ChildEnded
    | Settle
    | Tag
)
