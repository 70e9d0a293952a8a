"""Execution's part of the graph: runs, their steps and attempts, starting and stopping them, watching them live."""

from collections.abc import AsyncGenerator
from typing import Annotated
from uuid import UUID

import strawberry

from resolvers.connections import Connection, connection
from resolvers.ids import parse_id
from resolvers.schema import federated
from subgraphs.execution import positions
from subgraphs.execution.domain import Filter
from subgraphs.execution.schema.bulk import BulkOperations, Bulks
from subgraphs.execution.schema.control import Control
from subgraphs.execution.schema.executions import (
    Context,
    Execution,
    Info,
    User,
    Workflow,
    listed,
)
from subgraphs.execution.schema.filters import ExecutionFilter
from subgraphs.execution.schema.findings import Findings
from subgraphs.execution.schema.forking import Forking
from subgraphs.execution.schema.happenings import ExecutionEvent
from subgraphs.execution.schema.lags import Lags
from subgraphs.execution.schema.retention import Retaining, RetentionRules
from subgraphs.execution.schema.starting import Starting
from subgraphs.execution.schema.waiting import WAITINGS
from subgraphs.execution.schema.waits import WaitQueries, Waits

__all__ = ["Context", "schema"]

AtLeast = Annotated[
    str | None,
    strawberry.argument(
        description="The `position` of what a mutation returned: the answer shows at least that, or comes after half a "
        "second as the error position_not_reached."
    ),
]


@strawberry.type
class Query(Lags, Findings, RetentionRules, WaitQueries, BulkOperations):
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
class Mutation(Starting, Forking, Retaining, Control, Waits, Bulks):
    pass


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


schema = federated(query=Query, mutation=Mutation, subscription=Subscription, types=[Workflow, User, *WAITINGS])
