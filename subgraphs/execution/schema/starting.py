"""Mutations that begin runs and stop them."""

from typing import Annotated

import strawberry

from resolvers.ids import parse_id
from resolvers.problems import AsData, Conflict, Forbidden, Invalid, Missing, Unauthenticated
from resolvers.scalars import JSON
from subgraphs.execution import commands
from subgraphs.execution.schema.executions import Execution, Info
from subgraphs.execution.schema.forking import ForkEditInput, edited


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
    from_failed: bool = strawberry.field(
        default=False, description="Only from the step on that failed; what had succeeded before is kept."
    )
    edits: list[ForkEditInput] | None = strawberry.field(
        default=None, description="With `fromFailed`: steps that put out something else than they did."
    )
    release: int | None = strawberry.field(
        default=None,
        description="With `fromFailed`: go on by this release of the workflow, such as one that is mended.",
    )


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
class Starting:
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

    @strawberry.mutation(
        extensions=[AsData()],
        description="Runs the same again as a new run: definition, trigger and items; or goes on from where it failed.",
    )
    async def rerun_execution(self, info: Info, input: RerunExecutionInput) -> RerunExecutionResult | None:
        caller, desk, run = info.context.caller, info.context.at_desk(), parse_id(input.execution_id, "executionId")
        if not input.from_failed and not input.edits and input.release is None:
            return Execution.of(await commands.rerun(caller, desk, id=run, key=input.idempotency_key))
        head = await commands.mend(
            caller,
            desk,
            id=run,
            failed=input.from_failed,
            edits=edited(input.edits or []),
            release=input.release,
            key=input.idempotency_key,
        )
        return Execution.of(head)
