"""Executions as the rest of the subgraph knows them: heads, filters, what a start needs, and the ports it uses.

How a run moves is `subgraphs.engine.run`; this module is what surrounds a run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

import msgspec

from subgraphs.engine.definition import Input
from subgraphs.engine.inputs import accepted
from subgraphs.engine.run import STATUSES, Plan, Run
from subgraphs.engine.step import StepError
from subgraphs.execution.waits import OpenWait
from subgraphs.platform.domain import Event, Invalid

CODES: Mapping[str, int] = {status: code for code, status in enumerate(STATUSES)}
"""Run statuses as the database keeps them; those below 4 are open."""

MODES = ("webhook", "manual", "draft", "child", "error")
KEY_HOURS = 48
MAX_KEY = 255
RECENT = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Head:
    """The row of a run: what lists show."""

    tenant: UUID
    id: UUID
    part: int
    version: int
    workflow: UUID | None
    name: str
    mode: str
    release: int | None
    revision: int | None
    status: str
    started_at: datetime
    finished_at: datetime | None
    error: StepError | None
    started_by: UUID | None
    rerun_of: UUID | None
    parent: UUID | None = None

    @property
    def final(self) -> bool:
        return CODES[self.status] >= CODES["succeeded"]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which runs a list shows; all conditions hold together, an empty filter shows everything."""

    workflow: UUID | None = None
    statuses: Sequence[str] = ()
    mode: str | None = None
    release: int | None = None
    started_after: datetime | None = None
    started_before: datetime | None = None
    error_code: str | None = None
    error_text: str | None = None
    keys: Sequence[tuple[str, str]] = ()
    """Business keys, (name, value)."""


@dataclass(frozen=True, slots=True)
class Held:
    """A release Execution can run."""

    tenant: UUID
    workflow: UUID
    release: int
    name: str
    definition: Mapping[str, Any]
    types: Mapping[str, Mapping[str, Any]]

    def plan(self) -> Plan:
        return Plan.of(self.definition, self.types)


@dataclass(frozen=True, slots=True)
class Claim:
    """An idempotency key and what it was first used for."""

    tenant: UUID
    key: str
    run: UUID
    hash: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What ends a wait: by which port the held items leave, and what they get along. `by`: the user who answered."""

    port: str
    data: Any
    by: UUID | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """All runs of a workflow are held; of the whole tenant, if `workflow` is the nil UUID."""

    tenant: UUID
    workflow: UUID
    by: UUID | None
    reason: str
    at: datetime


class Desk(Protocol):
    """What commands need of the world, bound to the caller's tenant."""

    @property
    def tenant(self) -> UUID: ...

    async def head(self, id: UUID) -> Head | None:
        """The run, if the tenant has it."""

    async def begun(self, id: UUID) -> Head | None:
        """The run, waiting a moment for one that was just accepted to begin."""

    async def held(self, workflow: UUID, release: int | None) -> Held | None:
        """A release Execution can run; without a number the newest."""

    async def claimed(self, key: str) -> Claim | None:
        """What an idempotency key was first used for."""

    async def publish(self, event: Event, claim: Claim | None) -> bool:
        """Stores a start, and its claim with it; False if the key is taken, and then nothing was stored."""

    async def portable(self, data: Any) -> Any:
        """The same data, or a reference to it when it is too large to travel in an event."""

    async def post_until_end(self, head: Head, kind: str, data: Mapping[str, Any], patience: float) -> None:
        """Puts a letter into the run's inbox and wakes its owner; waits up to so many seconds for the run to end."""

    async def post(
        self, head: Head, kind: str, data: Mapping[str, Any], *, patience: float, id: UUID | None = None
    ) -> bool:
        """Puts a letter into the run's inbox, once for an id; waits up to so many seconds until the run has heeded it,
        and says whether it has."""

    async def wait(self, run: UUID, step: str) -> OpenWait | None:
        """What the step waits for, if it waits for an answer."""

    async def answer(self, head: Head, wait: OpenWait, given: Answer, *, patience: float) -> bool:
        """Answers the wait, unless it was answered: of many answers one is taken. Waits like `post`."""

    async def delegates(self, wait: OpenWait) -> Sequence[str]:
        """To whom the approval was delegated."""

    async def delegate(self, wait: OpenWait, by: UUID, approver: str) -> None:
        """Adds an approver."""

    async def ambiguous(self, head: Head, node: str) -> int | None:
        """The attempt of the step that is ambiguous, if one is."""

    async def before_failure(self, id: UUID) -> Run | None:
        """The run as it was just before the step failed that ended it; None if none did."""

    async def pause(self, workflow: UUID, by: UUID | None, reason: str) -> Pause:
        """Pauses the workflow and its runs that are under way; the pause that stands then."""

    async def unpause(self, workflow: UUID, by: UUID | None) -> Pause | None:
        """Ends a pause, and resumes what it held."""

    def partition(self, id: UUID) -> int:
        """Where a run of this id shall live: a partition of this process if it owns any."""


def moment(microseconds: int) -> datetime:
    """Journal time as a datetime in UTC."""
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)


def journal_time(at: datetime) -> int:
    """The other way round; may be a microsecond off."""
    return round(at.timestamp() * 1_000_000)


def recent(ids: Iterable[UUID], at: float) -> bool:
    """Whether one of these ids was made within the last seconds before `at` (epoch): its run may be about to begin."""
    return any(abs(at - (each.int >> 80) / 1000) < RECENT for each in ids)


def fingerprint(*parts: Any) -> bytes:
    """What must be equal for two starts with one key to be the same start."""
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).digest()


def checked_key(key: str | None) -> str | None:
    """An idempotency key is 1 to 255 printable characters."""
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY or not key.isprintable():
        raise Invalid(
            f"An idempotency key is 1 to {MAX_KEY} printable characters.",
            code="key_malformed",
            field="idempotencyKey",
            next_step="Use a random UUID for each start you mean.",
        )
    return key


def checked_name(name: str, field: str) -> str:
    """The name of a signal or an event is 1 to 200 printable characters."""
    if not 1 <= len(name) <= 200 or not name.isprintable():
        raise Invalid(
            "A name is 1 to 200 printable characters.",
            code="name_malformed",
            field=field,
            next_step="Choose a name of this kind.",
        )
    return name


def checked_input(inputs: Sequence[Mapping[str, Any]], given: Any) -> dict[str, Any]:
    """The start's input with defaults filled in; raises Invalid naming the declared input that is missing or wrong."""
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise Invalid(
            "The input is not an object.", code="input_not_object", field="input", next_step="Send a JSON object."
        )
    filled, findings = accepted(msgspec.convert(list(inputs), list[Input]), given)
    if findings:
        first = findings[0]
        raise Invalid(
            first.message,
            code=f"input_{first.code.rpartition('.')[2]}",
            field=".".join(["input", *map(str, first.path)]),
            next_step=first.next_step,
        )
    return filled
