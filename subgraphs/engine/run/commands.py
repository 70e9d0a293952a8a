"""What can be asked of a run. Everything that is not in the journal yet (time, seed, outcomes) comes in here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from subgraphs.engine.run.events import Respond
from subgraphs.engine.step import StepError, StepOutcome


class Start(msgspec.Struct, kw_only=True):
    """Begin at `trigger` with these item bodies; see `Started` for the rest. With a `fault` it ends as it begins."""

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


class Complete(msgspec.Struct):
    """Attempt `attempt` at `node` ended with `outcome` after `took` milliseconds."""

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
    """Stop now. `by`: the user who asked."""

    at: int
    reason: str = ""
    by: UUID | None = None


class Fail(msgspec.Struct):
    """The run cannot go on, for a reason outside its steps."""

    at: int
    error: StepError


class Recover(msgspec.Struct):
    """A new owner took over: attempts that had begun are begun again."""

    at: int


Command = Start | Complete | Fire | Cancel | Fail | Recover
