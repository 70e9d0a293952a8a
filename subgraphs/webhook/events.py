"""What Webhook tells others, and what it reads of what others tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

import msgspec

from subgraphs.platform.domain import Event
from subgraphs.platform.facts import Read, Told
from subgraphs.webhook.domain import Endpoint, Respond

HELD = "webhook.release.held.v1"
RECEIVED = "webhook.call.received.v1"
RELEASED = "workflow.release.published.v1"
ARCHIVED = "workflow.workflow.archived.v1"
UNARCHIVED = "workflow.workflow.unarchived.v1"
DELETED = "workflow.workflow.deleted.v1"
REPLIED = "execution.execution.replied.v1"


class HeldEndpoint(Told):
    """One endpoint; its URL is a secret and is not told."""

    endpoint_id: UUID
    node: str
    state: str


class ReleaseHeld(Told):
    """The URLs of this release answer."""

    workflow_id: UUID
    release: int
    endpoints: list[HeldEndpoint]


class Waiting(Told):
    """How the caller is answered: at once, at the run's end, or by its respond node; and where they wait."""

    mode: Literal["now", "done", "node"]
    address: str | None


class CallReceived(Told):
    """A call that starts a run; the event's id is the call's and the run's. `item` may be {"$ref", "size"}."""

    endpoint_id: UUID
    call_id: UUID
    workflow_id: UUID
    release: int
    node: str
    item: dict[str, Any]
    respond: Waiting


PUBLISHED: dict[str, type[Told]] = {HELD: ReleaseHeld, RECEIVED: CallReceived}


class Released(Read):
    workflow_id: UUID
    release: int
    definition: dict[str, Any]


class Moved(Read):
    """A workflow that was archived, taken back or deleted."""

    workflow_id: UUID


class Replied(Read):
    execution_id: UUID
    status: int = 200
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    body: Any = None
    content_type: str = "application/json"
    encoding: str = "json"


READ: dict[str, type[Read]] = {
    RELEASED: Released,
    REPLIED: Replied,
    **dict.fromkeys((ARCHIVED, UNARCHIVED, DELETED), Moved),
}


def convert(data: Any, kind: type[Any]) -> Any:
    """Data without their event, as `kind`; raises msgspec.ValidationError if a field we need is missing."""
    return msgspec.convert(data, kind, strict=False)


def held(tenant: UUID, workflow: UUID, release: int, endpoints: Sequence[Endpoint], partition: int) -> Event:
    """Which endpoints a release has; their URLs are secrets and stay here."""
    told = [{"endpointId": str(e.id), "node": e.node, "state": e.state.value} for e in endpoints if e.present]
    data = {"workflowId": str(workflow), "release": release, "endpoints": told}
    return Event(type=HELD, subject=str(workflow), tenant=tenant, partition=partition, data=data)


def received(endpoint: Endpoint, id: UUID, item: Mapping[str, Any], partition: int, replica: str) -> Event:
    """A call that starts a run: the event's id is the call's and becomes the run's. `replica` waits for the reply."""
    mode = endpoint.terms.respond
    data = {
        "endpointId": str(endpoint.id),
        "callId": str(id),
        "workflowId": str(endpoint.workflow),
        "release": endpoint.release,
        "node": endpoint.node,
        "item": item,
        "respond": {"mode": mode.value, "address": None if mode is Respond.NOW else replica},
    }
    return Event(type=RECEIVED, id=id, subject=str(id), tenant=endpoint.tenant, partition=partition, data=data)
