"""Operations on many runs."""

import enum
from typing import Annotated, Any, Self

import strawberry

from resolvers.connections import Connection, Page, connection
from resolvers.ids import parse_id
from resolvers.problems import AsData, Forbidden, Invalid, Missing, Unauthenticated
from resolvers.scalars import DateTime
from subgraphs.execution import bulk
from subgraphs.execution.schema.executions import User
from subgraphs.execution.schema.filters import ExecutionFilter

Info = strawberry.Info[Any, None]


@strawberry.enum(description="What is done to every run that matches.")
class BulkAction(enum.Enum):
    CANCEL = strawberry.enum_value("cancel", description="Stop it, unless it has ended; needs execution:cancel.")
    RERUN = strawberry.enum_value("rerun", description="Run the same again; needs execution:start.")
    DELETE = strawberry.enum_value(
        "delete", description="Delete it, if it ended 8 days ago or more; needs tenant:write."
    )


@strawberry.enum(description="Where an operation on many runs stands.")
class BulkState(enum.Enum):
    DRY_RUN = strawberry.enum_value("dry_run", description="Nothing is done; `matched` says what would be.")
    RUNNING = strawberry.enum_value("running", description="Page after page is done.")
    DONE = strawberry.enum_value("done", description="Every run that matched was done.")
    STOPPED = strawberry.enum_value("stopped", description="It ended before that; `reason` says why.")


@strawberry.type(description="One thing done to many runs, newest first, page by page; it survives restarts.")
class BulkOperation:
    id: strawberry.ID | None = strawberry.field(description="Names it; nothing for a dry run.")
    action: BulkAction = strawberry.field(description="What is done.")
    state: BulkState = strawberry.field(description="Where it stands.")
    matched: int = strawberry.field(description="Runs that matched when it began.")
    done: int = strawberry.field(description="Runs it has come to.")
    failed: int = strawberry.field(description="Of those, the ones where it failed, as far as that is known.")
    reason: str | None = strawberry.field(description="Why it stopped.")
    at: DateTime | None = strawberry.field(description="When it began.")
    finished_at: DateTime | None = strawberry.field(description="When it ended.")
    by: User | None = strawberry.field(description="Who began it.")

    @classmethod
    def of(cls, row: Any) -> Self:
        return cls(
            id=strawberry.ID(str(row["id"])),
            action=BulkAction(row["action"]),
            state=BulkState(row["state"]),
            matched=row["matched"],
            done=row["done"],
            failed=row["failed"],
            reason=row["reason"],
            at=row["at"],
            finished_at=row["finished_at"],
            by=User(id=strawberry.ID(str(row["by"]))),
        )


@strawberry.input(description="One thing to do to every run that matches.")
class BulkExecutionsInput:
    action: BulkAction = strawberry.field(description="What to do.")
    filter: ExecutionFilter = strawberry.field(description="To which runs; error code and text are not supported.")
    dry_run: bool = strawberry.field(default=False, description="Only count what matches.")
    canary: int = strawberry.field(default=10, description="Runs that are done first and looked at, 1 to 100.")
    tolerated: float = strawberry.field(
        default=0.1, description="Share of failures, 0 to 1, beyond which it stops: runs that failed when run again, "
        "or that could not be cancelled or deleted."
    )  # fmt: skip


@strawberry.input(description="An operation to end where it stands.")
class StopBulkInput:
    bulk_id: strawberry.ID = strawberry.field(description="The operation.")


BulkResult = Annotated[BulkOperation | Invalid | Missing | Forbidden | Unauthenticated, strawberry.union("BulkResult")]


@strawberry.type
class BulkOperations:
    """A part of `Query`."""

    @connection(description="Operations on many runs, newest first. Needs the scope execution:control.")
    async def bulk_operations(
        self, info: Info, first: int = 20, after: str | None = None
    ) -> Connection[BulkOperation] | None:
        tenant = info.context.caller.must("execution:control")
        page = Page.of(first, after)
        last = parse_id(page.after[0], "after") if page.after is not None else None
        rows = await bulk.listed(info.context.database, tenant, page.limit, last)
        return Connection.of(page, rows, node=BulkOperation.of, key=lambda row: [str(row["id"])])


@strawberry.type
class Bulks:
    """A part of `Mutation`."""

    @strawberry.mutation(
        extensions=[AsData()],
        description="Does one thing to every run that matches: a few first, then page by page while they go well.",
    )
    async def bulk_executions(self, info: Info, input: BulkExecutionsInput) -> BulkResult | None:
        caller, database = info.context.caller, info.context.database
        tenant = caller.must(bulk.ACTIONS[str(input.action.value)])
        asked = bulk.checked(
            bulk.Asked(str(input.action.value), input.filter.filter(), caller.subject, input.canary, input.tolerated)
        )
        if input.dry_run:
            count = await bulk.matched(database, tenant, asked.filter)
            return BulkOperation(
                id=None, action=input.action, state=BulkState.DRY_RUN, matched=count, done=0, failed=0, reason=None,
                at=None, finished_at=None, by=None,
            )  # fmt: skip
        return await _shown(info, tenant, await bulk.begin(database, tenant, asked))

    @strawberry.mutation(extensions=[AsData()], description="Ends an operation on many runs where it stands.")
    async def stop_bulk(self, info: Info, input: StopBulkInput) -> BulkResult | None:
        tenant = info.context.caller.must("execution:control")
        id = parse_id(input.bulk_id, "bulkId")
        await bulk.stop(info.context.database, tenant, id)
        return await _shown(info, tenant, id)


async def _shown(info: Info, tenant: Any, id: Any) -> BulkOperation:
    (row,) = await bulk.listed(info.context.database, tenant, 1, None, id)
    return BulkOperation.of(row)
