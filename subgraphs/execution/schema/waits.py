"""What runs wait for, and the mutations that answer it."""

from typing import Annotated

import strawberry

from resolvers.connections import Connection, Page, connection, sized
from resolvers.ids import parse_id
from resolvers.problems import AsData, Conflict, Forbidden, Invalid, Missing, Unauthenticated
from resolvers.scalars import JSON
from subgraphs.execution import commands, standing
from subgraphs.execution.schema.control import ExecutionPause
from subgraphs.execution.schema.executions import Context, Execution, ExecutionWait, Info
from subgraphs.execution.schema.statuses import WaitKind


@strawberry.input(description="A signal for a run.")
class SignalExecutionInput:
    execution_id: strawberry.ID = strawberry.field(description="The run.")
    name: str = strawberry.field(description="The signal's name, as the waiting step says it.")
    data: JSON | None = strawberry.field(default=None, description="What it brings.")
    id: str | None = strawberry.field(
        default=None, description="Your id of this message: sent twice, it has one effect. Any text."
    )


@strawberry.input(description="An event for every run of the organisation that waits for it.")
class SendEventInput:
    type: str = strawberry.field(description="The event's type, as waiting steps name it.")
    data: JSON | None = strawberry.field(default=None, description="What it says; steps match on it.")
    idempotency_key: str | None = strawberry.field(default=None, description="The same key twice is one event.")


@strawberry.input(description="The answer a step waits for.")
class AnswerWaitInput:
    execution_id: strawberry.ID = strawberry.field(description="The run.")
    node: str = strawberry.field(description="The key of the step that waits.")
    data: JSON | None = strawberry.field(default=None, description="What the step goes on with.")


@strawberry.input(description="The decision on an approval.")
class AnswerApprovalInput:
    execution_id: strawberry.ID = strawberry.field(description="The run.")
    node: str = strawberry.field(description="The key of the step that waits.")
    approved: bool = strawberry.field(description="Whether it may go on.")
    comment: str | None = strawberry.field(default=None, description="Why; the run sees it.")


@strawberry.input(description="Somebody else who may decide an approval.")
class DelegateApprovalInput:
    execution_id: strawberry.ID = strawberry.field(description="The run.")
    node: str = strawberry.field(description="The key of the step that waits.")
    user_id: strawberry.ID = strawberry.field(description="Who may decide as well.")


@strawberry.type(description="An event that was sent.")
class SentEvent:
    id: strawberry.ID = strawberry.field(description="The event's id; the first one's, if its key came before.")
    type: str = strawberry.field(description="Its type.")


_Ended = Execution | Invalid | Missing | Conflict | Forbidden | Unauthenticated
SignalExecutionResult = Annotated[_Ended, strawberry.union("SignalExecutionResult")]
AnswerWaitResult = Annotated[_Ended, strawberry.union("AnswerWaitResult")]
AnswerApprovalResult = Annotated[_Ended, strawberry.union("AnswerApprovalResult")]
DelegateApprovalResult = Annotated[_Ended, strawberry.union("DelegateApprovalResult")]
SendEventResult = Annotated[
    SentEvent | Invalid | Conflict | Forbidden | Unauthenticated, strawberry.union("SendEventResult")
]


@strawberry.type
class WaitQueries:
    @connection(description="What the organisation's runs wait for, newest runs first.")
    async def execution_waits(
        self,
        info: Info,
        kind: WaitKind | None = None,
        name: str | None = None,
        first: int = 20,
        after: str | None = None,
    ) -> Connection[ExecutionWait] | None:
        return await listed(info.context, kind, name, first, after)

    @sized(at_most=10, description="The pauses that stand: of workflows, or of the whole organisation.")
    async def execution_pauses(self, info: Info) -> list[ExecutionPause] | None:
        tenant = info.context.caller.must("execution:read")
        async with info.context.database.read(tenant) as reading:
            return [ExecutionPause.of(pause) for pause in await standing.pauses(reading)]


async def listed(
    context: Context, kind: WaitKind | None, name: str | None, first: int, after: str | None
) -> Connection[ExecutionWait]:
    """A page of waits: one statement."""
    tenant = context.caller.must("execution:read")
    page = Page.of(first, after)
    place = (parse_id(page.after[0], "after"), str(page.after[-1])) if page.after else None
    kinds = [str(kind.value)] if kind is not None else [str(each.value) for each in WaitKind]
    async with context.database.read(tenant) as reading:
        rows = await standing.page(reading, kinds, name and name.replace("\0", ""), page.limit, place)
    return Connection.of(page, rows, node=ExecutionWait.of, key=lambda wait: [str(wait.run), wait.step])


@strawberry.type
class Waits:
    @strawberry.mutation(
        extensions=[AsData()],
        description="Sends a run a signal. If nothing in the run waits for it yet, it is kept for the step that will.",
    )
    async def signal_execution(self, info: Info, input: SignalExecutionInput) -> SignalExecutionResult | None:
        head = await commands.signal(
            info.context.caller,
            info.context.at_desk(),
            run=parse_id(input.execution_id, "executionId"),
            name=input.name,
            data=input.data,
            id=input.id,
        )
        return Execution.of(head)

    @strawberry.mutation(
        extensions=[AsData()],
        description="Sends an event of your own to every run of the organisation that waits for its type and whose "
        "condition it meets. Runs that begin to wait later do not get it.",
    )
    async def send_event(self, info: Info, input: SendEventInput) -> SendEventResult | None:
        id = await commands.send(
            info.context.caller, info.context.at_desk(), type=input.type, data=input.data, key=input.idempotency_key
        )
        return SentEvent(id=strawberry.ID(str(id)), type=input.type)

    @strawberry.mutation(
        extensions=[AsData()], description="Answers a step that waits for a signal, an event, a form or a call."
    )
    async def answer_wait(self, info: Info, input: AnswerWaitInput) -> AnswerWaitResult | None:
        run = parse_id(input.execution_id, "executionId")
        desk = info.context.at_desk()
        return Execution.of(await commands.answer(info.context.caller, desk, run=run, node=input.node, data=input.data))

    @strawberry.mutation(
        extensions=[AsData()],
        description="Decides an approval; for its approvers, those it was delegated or escalated to, and "
        "administrators. Of several decisions the first counts.",
    )
    async def answer_approval(self, info: Info, input: AnswerApprovalInput) -> AnswerApprovalResult | None:
        head = await commands.approve(
            info.context.caller,
            info.context.at_desk(),
            run=parse_id(input.execution_id, "executionId"),
            node=input.node,
            approved=input.approved,
            comment=input.comment,
        )
        return Execution.of(head)

    @strawberry.mutation(
        extensions=[AsData()], description="Lets another person decide an approval too; for those who may decide it."
    )
    async def delegate_approval(self, info: Info, input: DelegateApprovalInput) -> DelegateApprovalResult | None:
        head = await commands.delegate(
            info.context.caller,
            info.context.at_desk(),
            run=parse_id(input.execution_id, "executionId"),
            node=input.node,
            approver=parse_id(input.user_id, "userId"),
        )
        return Execution.of(head)
