"""Settings of nodes and of whole definitions, as format `linkflow/1` writes them; `definition.schema.json` agrees.

Defaults added after the format was first published are left out of the canonical form (`ADDED`), so that a document
keeps the hash it always had.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

IDENTIFIER = r"^[A-Za-z_][A-Za-z0-9_]{0,63}\Z"
DURATION = r"^P(?=.)([0-9]+D)?(T(?=.)([0-9]+H)?([0-9]+M)?([0-9]+(\.[0-9]+)?S)?)?\Z"
UUID = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z"

Identifier = Annotated[str, msgspec.Meta(pattern=IDENTIFIER)]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Duration = Annotated[str, msgspec.Meta(pattern=DURATION, max_length=32)]
Workflow = Annotated[str, msgspec.Meta(pattern=UUID)]
Key = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
Many = Annotated[int, msgspec.Meta(ge=1, le=100_000)]


class Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What all parts of the document share: no unknown fields, camelCase on the wire."""


class Retry(Shape, frozen=True, kw_only=True):
    """How often a failed step is tried. `attempts` counts the first one; `delay` precedes the second. Exponential
    backoff doubles it up to `max_delay`; `jitter` draws between half and all of it. `never`: error codes not worth
    another attempt, `x` standing for a digit."""

    attempts: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    backoff: Literal["exponential", "fixed"] = "exponential"
    delay: Duration = "PT1S"
    max_delay: Duration = "PT1M"
    jitter: bool = True
    never: tuple[Word, ...] = ()


class NodeSettings(Shape, frozen=True, kw_only=True):
    """`timeout` of one attempt, or of the wait of a node that waits (none: that of the node type); `total_timeout` of
    the whole node, its retries and waits included (none: no limit). `on_error`: `stop` fails the execution, `continue`
    sends the input items on with the error added, `output` sends them by the port `error`. `join`: whether the node
    waits for all incoming connections or the first that brings items. `on_crash`: whether an attempt that a crash
    interrupted is begun again or parked for somebody to settle (none: parked if the node's effect is unsafe).
    `compensate`: the node that undoes this one."""

    retry: Retry = Retry()
    timeout: Duration | None = None
    total_timeout: Duration | None = None
    on_error: Literal["stop", "continue", "output"] = "stop"
    join: Literal["all", "any", "first"] = "all"
    on_crash: Literal["retry", "park"] | None = None
    compensate: Identifier | None = None


class Concurrency(Shape, frozen=True, kw_only=True):
    """At most `limit` executions at once for each value of `key`; `on_limit` says what becomes of one more. `group`:
    whose turn it is under `roundRobin`."""

    limit: Many
    key: Key | None = None
    group: Key | None = None
    on_limit: Literal["queue", "dropNewest", "cancelOldest", "roundRobin"] = "queue"


class Rate(Shape, frozen=True, kw_only=True):
    """At most `limit` starts in `period` for each value of `key`."""

    limit: Many
    period: Duration
    key: Key | None = None


class Debounce(Shape, frozen=True, kw_only=True):
    """Starts once no further start came for `period`, or when the first has waited `max_wait`; the newest counts."""

    period: Duration
    key: Key | None = None
    max_wait: Duration | None = None


class Batch(Shape, frozen=True, kw_only=True):
    """Gathers starts: one execution for `size` of them, or for those that came within `timeout` of the first."""

    size: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    timeout: Duration
    key: Key | None = None


class Singleton(Shape, frozen=True, kw_only=True):
    """One execution at a time for each value of `key`: another start is skipped, or takes the place of the old one."""

    key: Key | None = None
    on_limit: Literal["skip", "cancelOldest"] = "skip"


class ErrorWorkflow(Shape, frozen=True, kw_only=True):
    """The workflow that is started, at its `core.error` trigger, when an execution of a release fails."""

    workflow_id: Workflow


class Settings(Shape, frozen=True, kw_only=True):
    """Of the whole execution. `timeout`: from start to end, waits included; none: no limit. `last`, written `finally`:
    the nodes that run when all else has ended, however it ended. `error_workflow`: what is started on failure. The
    others say when starts are held back, joined or dropped; `priority`: -100 to 100 or an expression, the higher the
    sooner. Their keys are text with `{{ }}` over `trigger`; without one, all executions of the workflow share one."""

    timeout: Duration | None = None
    last: Annotated[tuple[Identifier, ...], msgspec.Meta(max_length=100)] = msgspec.field(default=(), name="finally")
    error_workflow: ErrorWorkflow | None = None
    concurrency: Concurrency | None = None
    throttle: Rate | None = None
    rate_limit: Rate | None = None
    debounce: Debounce | None = None
    batch: Batch | None = None
    singleton: Singleton | None = None
    priority: Annotated[int, msgspec.Meta(ge=-100, le=100)] | Key = 0


ADDED: dict[str, Any] = {
    "join": "all",
    "onCrash": None,
    "compensate": None,
    "pinned": None,
    "finally": (),
    "errorWorkflow": None,
    "concurrency": None,
    "throttle": None,
    "rateLimit": None,
    "debounce": None,
    "batch": None,
    "singleton": None,
    "priority": 0,
}
"""Fields that came later, with the value that the canonical form does not write out."""


def lean(written: dict[str, Any]) -> dict[str, Any]:
    """`written` (a part of a canonical document) without later fields that say nothing; changes and returns it."""
    for name in written.keys() & ADDED.keys():
        if (value := written[name]) is ADDED[name] or value == ADDED[name]:
            del written[name]
    return written
