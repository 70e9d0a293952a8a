"""Execution's part of the graph: runs, their steps and attempts, starting and stopping them, watching them live."""

from collections.abc import AsyncGenerator
from typing import Annotated
from uuid import UUID

import strawberry

from resolvers.connections import Connection, connection
from resolvers.ids import parse_id
from resolvers.problems import AsData, Conflict, Forbidden, Invalid, Missing, Unauthenticated
from resolvers.scalars import JSON
from resolvers.schema import federated
from subgraphs.execution import commands, positions
from subgraphs.execution.domain import Filter
from subgraphs.execution.schema.executions import (
    Context,
    Execution,
    Info,
    User,
    Workflow,
    listed,
)
from subgraphs.execution.schema.filters import ExecutionFilter
from subgraphs.execution.schema.happenings import ExecutionEvent
from subgraphs.execution.schema.lags import Lags

__all__ = ["Context", "schema"]

AtLeast = Annotated[
    str | None,
    strawberry.argument(
        description="The `position` of what a mutation returned: the answer shows at least that, or comes after half a "
        "second as the error position_not_reached."
    ),
]


@strawberry.input(description="A start of a published workflow.")
class StartExecutionInput:
    workflow_id: strawberry.ID = strawberry.field(description="The workflow.")
    release: int | None = strawberry.field(default=None, description="One of its releases; the newest if left out.")
    input: JSON | None = strawberry.field(default=None, description="An object with the inputs the workflow declares.")
    trigger: str | None = strawberry.field(default=None, description="The trigger node to begin at.")
    idempotency_key: str | None = strawberry.field(
        default=None, description="The same key and input give the same run; another input is a Conflict. Kept 48 h."
    )


@strawberry.input(description="A run to stop.")
class CancelExecutionInput:
    execution_id: strawberry.ID = strawberry.field(description="The run.")
    reason: str | None = strawberry.field(default=None, description="Why, for those who read its history.")


@strawberry.input(description="A run to repeat.")
class RerunExecutionInput:
    execution_id: strawberry.ID = strawberry.field(description="The run to repeat; it stays as it is.")
    idempotency_key: str | None = strawberry.field(default=None, description="The same key gives the same new run.")


StartExecutionResult = Annotated[
    Execution | Invalid | Missing | Conflict | Forbidden | Unauthenticated, strawberry.union("StartExecutionResult")
]
CancelExecutionResult = Annotated[
    Execution | Invalid | Missing | Conflict | Forbidden | Unauthenticated, strawberry.union("CancelExecutionResult")
]
RerunExecutionResult = Annotated[
    Execution | Invalid | Missing | Conflict | Forbidden | Unauthenticated, strawberry.union("RerunExecutionResult")
]


@strawberry.type
class Query(Lags):
    @strawberry.field(description="One run.")
    async def execution(self, info: Info, id: strawberry.ID, at_least: AtLeast = None) -> Execution | None:
        tenant = info.context.caller.must("execution:read")
        if at_least is not None:
            await positions.reached(info.context.database, tenant, at_least)
        found = await info.context.heads.load(parse_id(id))
        return Execution.of(found) if found is not None else None

    @connection(description="Runs, newest first.")
    async def executions(
        self,
        info: Info,
        filter: ExecutionFilter | None = None,
        first: int = 20,
        after: str | None = None,
        at_least: AtLeast = None,
    ) -> Connection[Execution] | None:
        if at_least is not None:
            await positions.reached(info.context.database, info.context.caller.must("execution:read"), at_least)
        return await listed(info.context, filter.filter() if filter is not None else Filter(), first, after)


@strawberry.type
class Mutation:
    @strawberry.mutation(extensions=[AsData()], description="Starts a run of a published workflow.")
    async def start_execution(self, info: Info, input: StartExecutionInput) -> StartExecutionResult | None:
        begun = await commands.start(
            info.context.caller,
            info.context.at_desk(),
            workflow=parse_id(input.workflow_id, "workflowId"),
            release=input.release,
            input=input.input,
            key=input.idempotency_key,
            trigger=input.trigger,
        )
        return Execution.of(begun)

    @strawberry.mutation(
        extensions=[AsData()],
        description="Stops a run; steps under way are killed. Waits up to 2 s for that: a run whose owner is busy or "
        "just died may still show its status of before, and `executionEvents` tells when it is CANCELLED.",
    )
    async def cancel_execution(self, info: Info, input: CancelExecutionInput) -> CancelExecutionResult | None:
        run = parse_id(input.execution_id, "executionId")
        head = await commands.cancel(info.context.caller, info.context.at_desk(), id=run, reason=input.reason)
        return Execution.of(head)

    @strawberry.mutation(extensions=[AsData()], description="Runs the same again: definition, trigger and items.")
    async def rerun_execution(self, info: Info, input: RerunExecutionInput) -> RerunExecutionResult | None:
        run = parse_id(input.execution_id, "executionId")
        head = await commands.rerun(info.context.caller, info.context.at_desk(), id=run, key=input.idempotency_key)
        return Execution.of(head)


@strawberry.type
class Subscription:
    @strawberry.subscription(
        description="A run's events: first those after `afterSeq` that happened already, then the rest as they happen; "
        "ends after the one that is `last`."
    )
    async def execution_events(
        self, info: Info, execution_id: strawberry.ID, after_seq: int = 0
    ) -> AsyncGenerator[ExecutionEvent, None]:
        tenant = info.context.caller.must("execution:read")
        run: UUID = parse_id(execution_id, "executionId")
        async for happening in info.context.watching.watch(tenant, run, after_seq):
            if not happening.shown:
                happening.shown.append(ExecutionEvent.of(run, happening))
            event: ExecutionEvent = happening.shown[0]
            yield event


schema = federated(query=Query, mutation=Mutation, subscription=Subscription, types=[Workflow, User])
