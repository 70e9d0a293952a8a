"""What Execution publishes, and what it reads of what others publish."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

import msgspec

from subgraphs.engine.run import Run
from subgraphs.engine.step import Reply
from subgraphs.execution.limits import events as limits
from subgraphs.platform.domain import Event
from subgraphs.platform.facts import Read, Told

HELD = "execution.release.held.v1"
REQUESTED = "execution.execution.requested.v1"
REPLIED = "execution.execution.replied.v1"
FINISHED = "execution.execution.finished.v1"
SENT = "execution.event.sent.v1"
STOPPING = "execution.execution.orphaned.v1"
RETURNED = "execution.child.returned.v1"
RELEASED = "workflow.release.published.v1"
DRAFTED = "workflow.draft.requested.v1"
CALLED = "webhook.call.received.v1"

TOLD = 2000  # characters of an error message that others are told


class ReleaseHeld(Told):
    """Starts of this release find it here."""

    workflow_id: UUID
    release: int


class Forking(Told):
    """Where the new run goes on: after so many events of the one it repeats; `edits`: outputs by step key and port."""

    version: int
    effects: Literal["live", "record"]
    edits: Any


class StartedBy(Told):
    """The step of a run that started another. `attempt` 0: it does not wait for it."""

    run: UUID
    node: str
    attempt: int
    depth: int


class StartRequested(Told):
    """Somebody starts a run; the event's id is the run's. Either a release to run (the newest, without a number), or a
    run to repeat or to fork. `mode`: child for a run that a step starts, error for an error workflow."""

    workflow_id: UUID | None = None
    release: int | None = None
    trigger: str | None = None
    input: Any = None
    started_by: UUID | None = None
    rerun_of: UUID | None = None
    key: str | None = None
    fork: Forking | None = None
    mode: Literal["manual", "child", "error"] = "manual"
    parent: StartedBy | None = None


class ReplyMade(Told):
    """The answer for the caller who waits at the replica `address`. `body` may be {"$ref", "size"}."""

    execution_id: UUID
    address: str | None
    status: int
    headers: dict[str, str]
    body: Any
    content_type: str
    encoding: Literal["json", "text"]


class Fault(Told):
    """Why it failed."""

    code: str
    message: str


class RunFinished(Told):
    """A run ended. `address` as in the reply."""

    execution_id: UUID
    workflow_id: UUID | None
    status: Literal["succeeded", "failed", "cancelled", "timed_out"]
    error: Fault | None
    duration_ms: float
    address: str | None


class EventSent(Told):
    """Somebody sent an event of their own to the runs that wait for it."""

    type: str
    data: Any


class CancelRequested(Told):
    """A run ended while one that it started goes on: that one is to end too."""

    execution_id: UUID
    parent: UUID
    kill: bool


class ChildReturned(Told):
    """A run that another one waits for has ended. `items` may be {"$ref", "size"}."""

    execution_id: UUID
    parent: UUID
    node: str
    attempt: int
    status: Literal["succeeded", "failed", "cancelled", "timed_out"]
    items: Any
    error: dict[str, Any] | None


PUBLISHED: dict[str, type[Told]] = {
    HELD: ReleaseHeld,
    REQUESTED: StartRequested,
    REPLIED: ReplyMade,
    FINISHED: RunFinished,
    SENT: EventSent,
    STOPPING: CancelRequested,
    RETURNED: ChildReturned,
    **limits.PUBLISHED,
}


class Released(Read):
    workflow_id: UUID
    name: str
    release: int
    definition: dict[str, Any]
    node_types: dict[str, Any]


class Drafted(Read):
    workflow_id: UUID
    name: str
    definition: dict[str, Any]
    node_types: dict[str, Any]
    revision: int | None = None
    trigger: str | None = None
    input: Any = None
    started_by: UUID | None = None
    until: str | None = None
    only: str | None = None
    given: Any = None


class Respond(Read):
    mode: str = "now"
    address: str | None = None


class Called(Read):
    workflow_id: UUID
    release: int
    node: str
    item: dict[str, Any]
    respond: Respond = msgspec.field(default_factory=Respond)


class Forked(Read):
    version: int
    effects: str
    edits: Any


class Requested(Read):
    workflow_id: UUID | None = None
    release: int | None = None
    trigger: str | None = None
    input: Any = None
    started_by: UUID | None = None
    rerun_of: UUID | None = None
    fork: Forked | None = None
    mode: str = "manual"
    parent: StartedBy | None = None


class Returned(Read):
    execution_id: UUID
    parent: UUID
    node: str
    attempt: int
    status: str
    items: Any = None
    error: dict[str, Any] | None = None


class Stopping(Read):
    execution_id: UUID
    kill: bool = False


READ: dict[str, type[Read]] = {
    RELEASED: Released,
    DRAFTED: Drafted,
    CALLED: Called,
    REQUESTED: Requested,
    RETURNED: Returned,
    STOPPING: Stopping,
}


def requested(id: UUID, tenant: UUID, partition: int, data: Mapping[str, Any]) -> Event:
    """A start: the event's id becomes the run's id."""
    return Event(type=REQUESTED, id=id, subject=str(id), tenant=tenant, partition=partition, data=data)


def sent(id: UUID, tenant: UUID, partition: int, type: str, data: Any) -> Event:
    """An event of the tenant's own."""
    told = {"type": type, "data": data}
    return Event(type=SENT, id=id, subject=str(id), tenant=tenant, partition=partition, data=told)


def held(tenant: UUID, workflow: UUID, release: int, partition: int) -> Event:
    data = {"workflowId": str(workflow), "release": release}
    return Event(type=HELD, subject=str(workflow), tenant=tenant, partition=partition, data=data)


def replied(run: Run, partition: int, reply: Reply, body: Any) -> Event:
    """The answer for the caller that waits at the replica the run's trigger named. `body` may be a reference."""
    respond = run.respond
    json = "json" in reply.content_type
    return Event(
        type=REPLIED,
        subject=str(run.id),
        tenant=run.tenant,
        partition=partition,
        causation=run.id,
        data={
            "executionId": str(run.id),
            "address": respond.address if respond is not None else None,
            "status": reply.status,
            "headers": reply.headers,
            "body": body,
            "contentType": reply.content_type,
            "encoding": "json" if json else "text",
        },
    )


def finished(run: Run, partition: int) -> Event:
    started, respond = run.started, run.respond
    ended = run.finished_at or 0
    error = run.error
    return Event(
        type=FINISHED,
        subject=str(run.id),
        tenant=run.tenant,
        partition=partition,
        causation=run.id,
        data={
            "executionId": str(run.id),
            "workflowId": str(started.workflow) if started is not None and started.workflow else None,
            "status": run.status,
            "error": {"code": error.code, "message": error.message[:TOLD]} if error is not None else None,
            "durationMs": (ended - started.at) / 1000 if started is not None else 0,
            "address": respond.address if respond is not None else None,
        },
    )
