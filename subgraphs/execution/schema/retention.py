"""Rules about how long runs are kept."""

from typing import Annotated, Any, Self

import strawberry

from resolvers.connections import sized
from resolvers.ids import parse_id
from resolvers.problems import AsData, Forbidden, Invalid, Missing, Unauthenticated
from resolvers.scalars import DateTime
from subgraphs.execution import retention
from subgraphs.execution.schema.executions import Info, User, Workflow
from subgraphs.execution.schema.statuses import ExecutionStatus
from subgraphs.platform.domain import Missing as Absent


@strawberry.type(description="How long what is kept of runs. Of several rules the most particular holds.")
class RetentionRule:
    workflow: Workflow | None = strawberry.field(description="For runs of this workflow; of all if there is none.")
    outcome: ExecutionStatus | None = strawberry.field(description="For runs that ended so; however, if nothing.")
    payload_days: int | None = strawberry.field(
        description="Days after its end at which the data of a run goes: items, bodies, console lines."
    )
    keep_days: int | None = strawberry.field(description="Days after its end at which the run itself goes.")
    by: User | None = strawberry.field(description="Who set it.")
    at: DateTime | None = strawberry.field(description="When it was set.")

    @classmethod
    def of(cls, rule: retention.Rule) -> Self:
        return cls(
            workflow=Workflow(id=strawberry.ID(str(rule.workflow))) if rule.workflow is not None else None,
            outcome=ExecutionStatus(rule.outcome) if rule.outcome is not None else None,
            payload_days=rule.payload_days,
            keep_days=rule.keep_days,
            by=User(id=strawberry.ID(str(rule.by))) if rule.by is not None else None,
            at=rule.at,
        )


@strawberry.input(description="A rule; without days there is none any more for this workflow and outcome.")
class SetRetentionInput:
    workflow_id: strawberry.ID | None = strawberry.field(default=None, description="One workflow; all if left out.")
    outcome: ExecutionStatus | None = strawberry.field(default=None, description="A final status; any if left out.")
    payload_days: int | None = strawberry.field(default=None, description="1 to 36500; left out: with the run.")
    keep_days: int | None = strawberry.field(default=None, description="8 to 36500; left out: for ever.")


SetRetentionResult = Annotated[
    RetentionRule | Invalid | Missing | Forbidden | Unauthenticated, strawberry.union("SetRetentionResult")
]


@strawberry.type
class RetentionRules:
    """A part of `Query`."""

    @sized(at_most=3, description="The rules there are, general ones first. Needs the scope tenant:write.")
    async def retention_rules(self, info: strawberry.Info[Any, None]) -> list[RetentionRule] | None:
        tenant = info.context.caller.must("tenant:write")
        return [RetentionRule.of(rule) for rule in await retention.listed(info.context.database, tenant)]


@strawberry.type
class Retaining:
    """A part of `Mutation`."""

    @strawberry.mutation(
        extensions=[AsData()],
        description="Says how long runs and their data are kept after they ended. What goes cannot be brought back.",
    )
    async def set_retention(self, info: Info, input: SetRetentionInput) -> SetRetentionResult | None:
        tenant = info.context.caller.must("tenant:write")
        workflow = parse_id(input.workflow_id, "workflowId") if input.workflow_id is not None else None
        if workflow is not None and await info.context.at_desk().held(workflow, None) is None:
            raise Absent("There is no such workflow with a release.", field="workflowId")
        rule = retention.Rule(
            workflow,
            str(input.outcome.value) if input.outcome is not None else None,
            input.payload_days,
            input.keep_days,
            info.context.caller.subject,
        )
        await retention.put(info.context.database, tenant, retention.checked(rule))
        return RetentionRule.of(rule)
