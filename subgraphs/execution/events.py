"""What Execution publishes, and what it reads of what others publish."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec

from subgraphs.engine.run import Run
from subgraphs.engine.step import Reply
from subgraphs.platform.domain import Event

HELD = "execution.release.held.v1"
REQUESTED = "execution.execution.requested.v1"
REPLIED = "execution.execution.replied.v1"
FINISHED = "execution.execution.finished.v1"
RELEASED = "workflow.release.published.v1"
DRAFTED = "workflow.draft.requested.v1"
CALLED = "webhook.call.received.v1"

TOLD = 2000  # characters of an error message that others are told


class _Read(msgspec.Struct, rename="camel", frozen=True):
    """Only the fields we use; others may come and go."""


class Released(_Read, frozen=True):
    workflow_id: UUID
    name: str
    release: int
    definition: dict[str, Any]
    node_types: dict[str, Any]


class Drafted(_Read, frozen=True):
    workflow_id: UUID
    name: str
    definition: dict[str, Any]
    node_types: dict[str, Any]
    revision: int | None = None
    trigger: str | None = None
    input: Any = None
    started_by: UUID | None = None


class Respond(_Read, frozen=True):
    mode: str = "now"
    address: str | None = None


class Called(_Read, frozen=True):
    workflow_id: UUID
    release: int
    node: str
    item: dict[str, Any]
    respond: Respond = Respond()


class Requested(_Read, frozen=True):
    workflow_id: UUID | None = None
    release: int | None = None
    trigger: str | None = None
    input: Any = None
    started_by: UUID | None = None
    rerun_of: UUID | None = None


Kind = Released | Drafted | Called | Requested


def read(event: Event, kind: type[Any]) -> Any:
    """The event's data as `kind`; raises msgspec.ValidationError if a field we need is missing."""
    return msgspec.convert(event.data, kind, strict=False)


def requested(id: UUID, tenant: UUID, partition: int, data: Mapping[str, Any]) -> Event:
    """A start: the event's id becomes the run's id."""
    return Event(type=REQUESTED, id=id, subject=str(id), tenant=tenant, partition=partition, data=data)


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
