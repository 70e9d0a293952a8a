"""Mutations that hold runs, kill them, and say what became of an effect nobody saw the end of."""

from typing import Annotated, Self

import strawberry

from resolvers.ids import parse_id
from resolvers.problems import AsData, Conflict, Forbidden, Invalid, Missing, Unauthenticated
from resolvers.scalars import JSON, DateTime
from subgraphs.execution import commands
from subgraphs.execution.domain import Pause
from subgraphs.execution.schema.executions import Execution, Info, User, Workflow


@strawberry.type(description="All runs of a workflow, or of the whole organisation, are held; new ones wait in line.")
class ExecutionPause:
    workflow: Workflow | None = strawberry.field(description="The workflow; nothing if it is the whole organisation.")
    reason: str = strawberry.field(description="Why, as whoever paused it said.")
    at: DateTime = strawberry.field(description="Since when.")
    by: User | None = strawberry.field(description="Who paused it.")

    @classmethod
    def of(cls, pause: Pause) -> Self:
        return cls(
            workflow=Workflow(id=strawberry.ID(str(pause.workflow))) if pause.workflow.int else None,
            reason=pause.reason,
            at=pause.at,
            by=User(id=strawberry.ID(str(pause.by))) if pause.by is not None else None,
        )


@strawberry.input(description="A run to stop without cleaning up.")
class KillExecutionInput:
    execution_id: strawberry.ID = strawberry.field(description="The run.")
    reason: str | None = strawberry.field(default=None, description="Why, for those who read its history.")


@strawberry.input(description="A run to hold.")
class PauseExecutionInput:
    execution_id: strawberry.ID = strawberry.field(description="The run.")
    reason: str | None = strawberry.field(default=None, description="Why, for those who read its history.")


@strawberry.input(description="A paused run.")
class ResumeExecutionInput:
    execution_id: strawberry.ID = strawberry.field(description="The run.")


@strawberry.input(description="The word on a step whose effect may or may not have happened.")
class SettleStepInput:
    execution_id: strawberry.ID = strawberry.field(description="The run.")
    node: str = strawberry.field(description="The key of the ambiguous step.")
    happened: bool = strawberry.field(description="Whether the effect happened. If not, the step begins again.")
    outputs: JSON | None = strawberry.field(
        default=None, description="What the step put out, if it happened: items by port, or a list for `main`."
    )
    attempt: int | None = strawberry.field(
        default=None, description="The attempt you mean; the present one if left out."
    )


@strawberry.input(description="A workflow whose runs to hold.")
class PauseWorkflowInput:
    workflow_id: strawberry.ID = strawberry.field(description="The workflow.")
    reason: str | None = strawberry.field(default=None, description="Why.")


@strawberry.input(description="A workflow whose runs may go on.")
class ResumeWorkflowInput:
    workflow_id: strawberry.ID = strawberry.field(description="The workflow.")


@strawberry.input(description="Holds every run of the organisation.")
class PauseTenantInput:
    reason: str | None = strawberry.field(default=None, description="Why.")


_Ended = Execution | Invalid | Missing | Conflict | Forbidden | Unauthenticated
KillExecutionResult = Annotated[_Ended, strawberry.union("KillExecutionResult")]
PauseExecutionResult = Annotated[_Ended, strawberry.union("PauseExecutionResult")]
ResumeExecutionResult = Annotated[_Ended, strawberry.union("ResumeExecutionResult")]
SettleStepResult = Annotated[_Ended, strawberry.union("SettleStepResult")]
_Paused = ExecutionPause | Invalid | Missing | Forbidden | Unauthenticated
PauseWorkflowResult = Annotated[_Paused, strawberry.union("PauseWorkflowResult")]
ResumeWorkflowResult = Annotated[_Paused, strawberry.union("ResumeWorkflowResult")]
PauseTenantResult = Annotated[_Paused, strawberry.union("PauseTenantResult")]
ResumeTenantResult = Annotated[_Paused, strawberry.union("ResumeTenantResult")]


@strawberry.type
class Control:
    @strawberry.mutation(
        extensions=[AsData()],
        description="Stops a run and its children at once: no compensation and no finally section runs.",
    )
    async def kill_execution(self, info: Info, input: KillExecutionInput) -> KillExecutionResult | None:
        run = parse_id(input.execution_id, "executionId")
        return Execution.of(
            await commands.kill(info.context.caller, info.context.at_desk(), id=run, reason=input.reason)
        )

    @strawberry.mutation(
        extensions=[AsData()],
        description="Holds a run: steps under way end, none begins, and timers that come due fire when it goes on.",
    )
    async def pause_execution(self, info: Info, input: PauseExecutionInput) -> PauseExecutionResult | None:
        run = parse_id(input.execution_id, "executionId")
        return Execution.of(
            await commands.pause(info.context.caller, info.context.at_desk(), id=run, reason=input.reason)
        )

    @strawberry.mutation(extensions=[AsData()], description="Lets a paused run go on where it stood.")
    async def resume_execution(self, info: Info, input: ResumeExecutionInput) -> ResumeExecutionResult | None:
        run = parse_id(input.execution_id, "executionId")
        return Execution.of(await commands.resume(info.context.caller, info.context.at_desk(), id=run))

    @strawberry.mutation(
        extensions=[AsData()],
        description="Says whether the effect of an AMBIGUOUS step happened: the process that ran it died, and its "
        "node cannot tell.",
    )
    async def settle_step(self, info: Info, input: SettleStepInput) -> SettleStepResult | None:
        head = await commands.settle(
            info.context.caller,
            info.context.at_desk(),
            run=parse_id(input.execution_id, "executionId"),
            node=input.node,
            happened=input.happened,
            outputs=input.outputs,
            attempt=input.attempt,
        )
        return Execution.of(head)

    @strawberry.mutation(
        extensions=[AsData()], description="Holds the runs of a workflow; what triggers it meanwhile waits in line."
    )
    async def pause_workflow(self, info: Info, input: PauseWorkflowInput) -> PauseWorkflowResult | None:
        workflow = parse_id(input.workflow_id, "workflowId")
        return ExecutionPause.of(
            await commands.pause_all(
                info.context.caller, info.context.at_desk(), workflow=workflow, reason=input.reason
            )
        )

    @strawberry.mutation(extensions=[AsData()], description="Lets the runs of a workflow go on; the pause that ended.")
    async def resume_workflow(self, info: Info, input: ResumeWorkflowInput) -> ResumeWorkflowResult | None:
        workflow = parse_id(input.workflow_id, "workflowId")
        return ExecutionPause.of(
            await commands.resume_all(info.context.caller, info.context.at_desk(), workflow=workflow)
        )

    @strawberry.mutation(
        extensions=[AsData()], description="Holds every run of the organisation; new ones wait in line."
    )
    async def pause_tenant(self, info: Info, input: PauseTenantInput) -> PauseTenantResult | None:
        return ExecutionPause.of(
            await commands.pause_all(info.context.caller, info.context.at_desk(), workflow=None, reason=input.reason)
        )

    @strawberry.mutation(extensions=[AsData()], description="Lets the organisation's runs go on; the pause that ended.")
    async def resume_tenant(self, info: Info) -> ResumeTenantResult | None:
        return ExecutionPause.of(await commands.resume_all(info.context.caller, info.context.at_desk(), workflow=None))
