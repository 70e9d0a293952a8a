"""What Execution asks of Executor for one step, and what it hears back: the one protocol between the two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import msgspec


class Source(msgspec.Struct, frozen=True, array_like=True):
    """The item another item descends from: node, its output port, position in that port."""

    node: str
    port: str
    index: int


class Item(msgspec.Struct, omit_defaults=True):
    """One record flowing along a connection. `source` is filled by the engine, never by a node author."""

    json: dict[str, Any]
    files: dict[str, Any] = {}
    source: tuple[Source, ...] = ()


class StepError(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a step failed. `kind`: user, limit, timeout or infrastructure; only infrastructure errors and those a node
    marks `retryable` are worth another attempt. `retry_after` in seconds, if the other side asked for it."""

    code: str
    message: str
    kind: str = "user"
    retryable: bool = False
    retry_after: float | None = None
    field: str | None = None
    detail: dict[str, Any] = {}


class Line(msgspec.Struct, frozen=True):
    """One console line of a step. `at`: milliseconds since the attempt began."""

    level: str
    text: str
    at: float = 0.0


class Wait(msgspec.Struct, frozen=True):
    """The step holds its items, costing no worker. `kind`: time, signal, event, approval, form, webhook or child.

    A wait for time ends at `until` and the items leave by `main`. Any other ends with an answer; `until` (None: none)
    is then its deadline, as the node's timeout is. `name` says what is waited for, `detail` the rest of it.
    """

    until: datetime | None = None
    kind: str = "time"
    name: str = ""
    detail: dict[str, Any] = {}


class Reply(msgspec.Struct, frozen=True):
    """What the caller of the trigger gets. `body` is JSON, or text when `content_type` is not JSON."""

    status: int = 200
    headers: dict[str, str] = {}
    body: Any = None
    content_type: str = "application/json"


class StepRequest(msgspec.Struct):
    """One attempt at one step; `node` is its key (see `engine.run.keys`). `inputs`: items per input port. `scope`: the
    names expressions may use beside the item (`nodes` as {id: [Item]}, `trigger`, `execution`, `vars`). `now` and
    `seed` are journaled, so that a repeated attempt sees the same. `timeout` in seconds. `idempotency_key` is stable
    over attempts of the same step."""

    tenant: UUID
    execution: UUID
    workflow: UUID | None
    node: str
    type: str
    version: str
    attempt: int
    idempotency_key: str
    parameters: Mapping[str, Any]
    inputs: Mapping[str, Sequence[Item]]
    scope: Mapping[str, Any]
    now: datetime
    seed: int = 0
    timeout: float = 30.0
    on_error: str = "stop"


class StepOutcome(msgspec.Struct):
    """How one attempt ended: with outputs per port, an error, or a wait. An output item that is an input item unchanged
    is the very same object, so that the journal stores it once. `keys`: business keys to set on the run."""

    outputs: dict[str, list[Item]] = {}
    error: StepError | None = None
    wait: Wait | None = None
    reply: Reply | None = None
    lines: list[Line] = []
    lines_dropped: int = 0
    keys: dict[str, str] | None = None


class Executor(Protocol):
    """Runs node bodies. Bound by name when Executor and Execution share a process, else reached over HTTP: then it is
    `remote`, and pure bodies too are run by `run`."""

    remote: bool

    def run_pure(self, request: StepRequest) -> StepOutcome:
        """Runs a pure body to its end without waiting on anything; bodies that wait are refused."""

    async def run(self, request: StepRequest) -> StepOutcome:
        """Runs any body; cancelling the task stops it, a sandboxed guest included. Never raises for a node's fault, and
        ends by itself when the request's timeout has passed since the body began."""

    async def probe(self, request: StepRequest) -> bool | None:
        """Whether a step that was interrupted has happened, as its node type finds out by asking; None: it cannot be
        known. Changes nothing, and never raises for a node's fault."""
