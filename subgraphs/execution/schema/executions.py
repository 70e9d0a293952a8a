"""Runs as the graph shows them, and what other subgraphs own of them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import UUID

import strawberry
from strawberry.dataloader import DataLoader
from strawberry.federation.schema_directives import Key
from strawberry.federation.types import FieldSet

from resolvers.connections import Connection, Page, connection, sized
from resolvers.ids import parse_id
from resolvers.scalars import JSON, DateTime
from subgraphs.engine.step import Reply
from subgraphs.execution import lists, measures, positions, queries, standing
from subgraphs.execution.desk import TenantDesk
from subgraphs.execution.domain import Filter, Head
from subgraphs.execution.limits.why import Why
from subgraphs.execution.schema.moments import Past
from subgraphs.execution.schema.statuses import ExecutionMode, ExecutionStatus, WaitKind
from subgraphs.execution.schema.steps import ExecutionError, Step
from subgraphs.execution.schema.waiting import Waits
from subgraphs.execution.waits import Delegation, OpenWait, approvers
from subgraphs.execution.watching import Watching
from subgraphs.platform.database import Database
from subgraphs.platform.domain import Caller


@dataclass(frozen=True, slots=True)
class Context:
    """What one operation works with."""

    caller: Caller
    database: Database
    desk: TenantDesk | None
    watching: Watching
    heads: DataLoader[UUID, Head | None]
    details: DataLoader[UUID, queries.Detail | None]
    whys: DataLoader[UUID, Why | None]
    waits: DataLoader[UUID, list[OpenWait] | None]
    delegations: DataLoader[standing.Place, list[Delegation] | None]

    def at_desk(self) -> TenantDesk:
        self.caller.signed_in()
        assert self.desk is not None  # noqa: S101 - who is signed in has a tenant
        return self.desk


Info = strawberry.Info[Context, None]


@strawberry.federation.type(keys=[Key(fields=FieldSet("id"), resolvable=False)])
class User:
    id: strawberry.ID


@strawberry.federation.type(keys=["id"])
class Workflow:
    id: strawberry.ID

    @connection(description="The workflow's runs, newest first.")
    async def executions(self, info: Info, first: int = 20, after: str | None = None) -> Connection["Execution"] | None:
        return await listed(info.context, Filter(workflow=parse_id(self.id)), first, after)

    @classmethod
    def resolve_reference(cls, id: strawberry.ID, **_: Any) -> Self:
        return cls(id=id)


@strawberry.type(description="Where a run began.")
class ExecutionTrigger:
    node: str = strawberry.field(description="The id of the trigger node.")
    items: JSON = strawberry.field(description="What it brought.")


@strawberry.type(description="What a run took, as its journal tells.")
class ExecutionMetrics:
    queue_ms: float = strawberry.field(description="From being accepted to its beginning.")
    wait_ms: float = strawberry.field(description="Between being ready and the first attempt, over all steps.")
    run_ms: float = strawberry.field(description="In bodies, over all steps; more than the run's time if they overlap.")
    steps: int = strawberry.field(description="Steps that were reached.")
    attempts: int = strawberry.field(description="Attempts, over all steps.")
    bytes_in: int = strawberry.field(description="Size of what arrived, as JSON, over all steps.")
    bytes_out: int = strawberry.field(description="Size of what left, as JSON, over all steps.")

    @classmethod
    def of(cls, found: measures.RunMeasure) -> Self:
        return cls(
            queue_ms=found.queue_ms,
            wait_ms=found.wait_ms,
            run_ms=found.run_ms,
            steps=found.steps,
            attempts=found.attempts,
            bytes_in=found.bytes_in,
            bytes_out=found.bytes_out,
        )


@strawberry.type(description="What the caller of the trigger got.")
class ExecutionReply:
    status: int = strawberry.field(description="HTTP status.")
    headers: JSON = strawberry.field(description="HTTP headers beside the content type.")
    content_type: str = strawberry.field(description="Media type of the body.")
    body: JSON | None = strawberry.field(description="JSON, or text when the media type is not JSON.")

    @classmethod
    def of(cls, reply: Reply) -> Self:
        return cls(
            status=reply.status,
            headers=JSON(reply.headers),
            content_type=reply.content_type,
            body=JSON(reply.body) if reply.body is not None else None,
        )


@strawberry.type(description="An approver let another decide as well.")
class ApprovalDelegation:
    by: User = strawberry.field(description="Who delegated.")
    approver: str = strawberry.field(description="Who may decide as well: a user's id.")
    at: DateTime = strawberry.field(description="When.")


@strawberry.type(description="A step that waits for an answer.")
class ExecutionWait:
    node: str = strawberry.field(description="The key of the step.")
    attempt: int = strawberry.field(description="Which attempt at the step waits.")
    kind: WaitKind = strawberry.field(description="For what.")
    name: str = strawberry.field(description="The signal's name, the event's type, or a title.")
    since: DateTime = strawberry.field(description="When it began to wait.")
    until: DateTime | None = strawberry.field(description="Its deadline, if it has one.")
    detail: JSON = strawberry.field(description="What else its node says of it.")
    wait: strawberry.Private[OpenWait]

    @strawberry.field(description="The run that waits.")
    async def execution(self, info: Info) -> "Execution | None":
        found = await info.context.heads.load(self.wait.run)
        return Execution.of(found) if found is not None else None

    @sized(at_most=2, description="To whom the decision was delegated.")
    async def delegations(self, info: Info) -> list[ApprovalDelegation] | None:
        found = await info.context.delegations.load((self.wait.run, self.wait.step)) or []
        return [
            ApprovalDelegation(by=User(id=strawberry.ID(str(each.by))), approver=each.approver, at=each.at)
            for each in found
            if each.attempt == self.wait.attempt
        ]

    @sized(at_most=5, description="Who may decide now, escalation included: user ids or mail addresses.")
    async def approvers(self, info: Info) -> list[str] | None:
        found = await info.context.delegations.load((self.wait.run, self.wait.step)) or []
        delegated = {each.approver for each in found if each.attempt == self.wait.attempt}
        return sorted(approvers(self.wait, delegated, datetime.now(UTC)))

    @classmethod
    def of(cls, wait: OpenWait) -> Self:
        return cls(
            node=wait.step,
            attempt=wait.attempt,
            kind=WaitKind(wait.kind),
            name=wait.name,
            since=wait.since,
            until=wait.until,
            detail=JSON(wait.detail),
            wait=wait,
        )


@strawberry.federation.type(keys=["id"], description="One run of a workflow.")
class Execution(Past, Waits):
    id: strawberry.ID = strawberry.field(description="Opaque; ordered by time.")
    status: ExecutionStatus = strawberry.field(description="Where it stands.")
    mode: ExecutionMode = strawberry.field(description="What began it.")
    workflow_name: str = strawberry.field(description="The workflow's name when the run began.")
    release: int | None = strawberry.field(description="The release it runs; nothing for a draft.")
    revision: int | None = strawberry.field(description="The draft's revision it runs; nothing for a release.")
    started_at: DateTime = strawberry.field(description="When it began.")
    finished_at: DateTime | None = strawberry.field(description="When it ended.")
    position: str = strawberry.field(
        description="Names what is shown here: send it as `atLeast` with a query to read your own write."
    )
    duration_ms: float | None = strawberry.field(description="From start to end; nothing while it runs.")
    error: ExecutionError | None = strawberry.field(description="Why it failed, was cancelled or timed out.")
    workflow: Workflow | None = strawberry.field(description="The workflow it runs.")
    started_by: User | None = strawberry.field(description="Who started it; nothing for a webhook.")
    rerun_of_id: strawberry.Private[UUID | None]
    parent_id: strawberry.Private[UUID | None]

    @strawberry.field(description="The run it repeats.")
    async def rerun_of(self, info: Info) -> "Execution | None":
        if self.rerun_of_id is None:
            return None
        found = await info.context.heads.load(self.rerun_of_id)
        return Execution.of(found) if found is not None else None

    @sized(at_most=5, description="The answers it waits for.")
    async def waits(self, info: Info) -> list[ExecutionWait] | None:
        return [ExecutionWait.of(wait) for wait in await info.context.waits.load(self.key) or []]

    @strawberry.field(description="The run that started it, if one did.")
    async def parent(self, info: Info) -> "Execution | None":
        if self.parent_id is None:
            return None
        found = await info.context.heads.load(self.parent_id)
        return Execution.of(found) if found is not None else None

    @connection(description="The runs it started, newest first.")
    async def children(self, info: Info, first: int = 20, after: str | None = None) -> Connection["Execution"] | None:
        tenant = info.context.caller.must("execution:read")
        page = Page.of(first, after)
        last = parse_id(page.after[0], "after") if page.after is not None else None
        async with info.context.database.read(tenant) as reading:
            rows = await standing.children(reading, self.key, page.limit, last)
        return Connection.of(page, rows, node=Execution.of, key=lambda head: [str(head.id)])

    @sized(at_most=20, weight=2, description="Every node of the definition, in the order they began.")
    async def steps(self, info: Info) -> list[Step] | None:
        detail = await info.context.details.load(self.key)
        return [Step.of(record) for record in detail.steps] if detail is not None else []

    @strawberry.field(description="What it took, all steps together.")
    async def metrics(self, info: Info) -> ExecutionMetrics | None:
        detail = await info.context.details.load(self.key)
        if detail is None:
            return None
        return ExecutionMetrics.of(measures.of_run(self.key, self.started_at, detail.steps))

    @strawberry.field(description="Where it began, and with what.")
    async def trigger(self, info: Info) -> ExecutionTrigger | None:
        detail = await info.context.details.load(self.key)
        return ExecutionTrigger(node=detail.trigger, items=JSON(detail.items)) if detail is not None else None

    @strawberry.field(description="What the caller of the trigger got, if anybody was answered.")
    async def reply(self, info: Info) -> ExecutionReply | None:
        detail = await info.context.details.load(self.key)
        return ExecutionReply.of(detail.reply) if detail is not None and detail.reply is not None else None

    @classmethod
    async def resolve_reference(cls, info: Info, id: strawberry.ID, **_: Any) -> "Execution | None":
        found = await info.context.heads.load(parse_id(id))
        return cls.of(found) if found is not None else None

    @classmethod
    def of(cls, head: Head) -> Self:
        ended = head.finished_at
        return cls(
            id=strawberry.ID(str(head.id)),
            status=ExecutionStatus(head.status),
            mode=ExecutionMode(head.mode),
            workflow_name=head.name,
            release=head.release,
            revision=head.revision,
            started_at=head.started_at,
            finished_at=ended,
            position=positions.of(head),
            duration_ms=(ended - head.started_at) / timedelta(milliseconds=1) if ended is not None else None,
            error=ExecutionError.of(head.error),
            workflow=Workflow(id=strawberry.ID(str(head.workflow))) if head.workflow is not None else None,
            started_by=User(id=strawberry.ID(str(head.started_by))) if head.started_by is not None else None,
            rerun_of_id=head.rerun_of,
            parent_id=head.parent,
            key=head.id,
        )


async def listed(context: Context, wanted: Filter, first: int, after: str | None) -> Connection[Execution]:
    """A page of runs: one statement."""
    tenant = context.caller.must("execution:read")
    page = Page.of(first, after)
    last = parse_id(page.after[0], "after") if page.after is not None else None
    async with context.database.read(tenant) as reading:
        rows = await lists.page(reading, context.database, wanted, page.limit, last)
    return Connection.of(page, rows, node=Execution.of, key=lambda head: [str(head.id)])
