"""The past of a run: its events page by page, its state after any of them, expressions evaluated there."""

from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import strawberry
from strawberry.federation.schema_directives import Cost

from resolvers.connections import Connection, Page, connection, sized
from resolvers.ids import parse_id
from resolvers.scalars import JSON, DateTime
from subgraphs.engine.run import Run
from subgraphs.engine.run.keys import node_of
from subgraphs.execution import travel
from subgraphs.execution.domain import moment
from subgraphs.execution.schema.comparisons import ExecutionComparison
from subgraphs.execution.schema.statuses import ExecutionStatus, kind, position
from subgraphs.execution.schema.steps import ExecutionError, StepStatus
from subgraphs.platform.domain import Invalid

Info = strawberry.Info[Any, None]

if TYPE_CHECKING:
    _Event = Any
else:
    _Event = Annotated["ExecutionEvent", strawberry.lazy("subgraphs.execution.schema.happenings")]  # noqa: F821 - named late

LONGEST = 4_096
"""Characters of an expression that is evaluated in the past; as in a node."""


@strawberry.type(description="What an expression gave at a moment, or why it gave nothing.")
class MomentValue:
    value: JSON | None = strawberry.field(description="Its value as JSON; nothing if it failed, or if it is null.")
    code: str | None = strawberry.field(description="Why it failed, for programs; nothing if it did not.")
    message: str | None = strawberry.field(description="Why it failed, for people.")
    position: int | None = strawberry.field(description="Where in the expression, in characters from 0, if known.")


@strawberry.type(description="A timer that ran at a moment.")
class MomentTimer:
    name: str = strawberry.field(description="run (its deadline), or retry:STEP, wait:STEP, node:STEP.")
    due: DateTime = strawberry.field(description="When it was due.")


@strawberry.type(description="A step as it stood at a moment.")
class MomentStep:
    key: str = strawberry.field(description="The node's id; inside a loop with its rounds, such as n5@3.")
    node: str = strawberry.field(description="The node's id in the definition.")
    name: str = strawberry.field(description="The node's name.")
    type: str = strawberry.field(description="Its node type.")
    status: StepStatus = strawberry.field(description="Where it stood.")
    attempt: int = strawberry.field(description="How many attempts had begun.")
    run: strawberry.Private[Run]

    @strawberry.field(description="The items that had arrived, by input port.")
    def input(self) -> JSON:
        return JSON({port: [item.json for item in items] for port, items in self.run.inputs(self.key).items()})

    @strawberry.field(description="The items that had left, by output port.")
    def output(self) -> JSON:
        step = self.run.steps.get(self.key)
        outputs = step.outputs if step is not None else {}
        return JSON({port: [item.json for item in items] for port, items in outputs.items()})

    @strawberry.field(description="Why its last attempt had failed.")
    def error(self) -> ExecutionError | None:
        step = self.run.steps.get(self.key)
        return ExecutionError.of(step.error) if step is not None else None

    @classmethod
    def of(cls, run: Run, key: str) -> "MomentStep":
        node = run.plan.nodes[node_of(key)]
        step = run.steps.get(key)
        return cls(
            key=key,
            node=node.id,
            name=node.name,
            type=node.type,
            status=StepStatus(step.status if step is not None else "pending"),
            attempt=step.attempt if step is not None else 0,
            run=run,
        )


@strawberry.type(description="A run as it was right after one of its events. Nothing outside is ever asked for it.")
class ExecutionMoment:
    event: int = strawberry.field(description="The number of the event.")
    events: int = strawberry.field(description="How many events the run has had by now.")
    previous: int | None = strawberry.field(description="The event before it; nothing at the first.")
    next: int | None = strawberry.field(description="The event after it; nothing at the last so far.")
    at: DateTime = strawberry.field(description="When it happened.")
    status: ExecutionStatus = strawberry.field(description="Where the run stood then.")
    key: strawberry.Private[UUID]
    moment: strawberry.Private[travel.Moment]

    @strawberry.field(description="The event itself.")
    def happened(self, info: Info) -> _Event:
        return kind(info, "ExecutionEvent").of(self.key, self.moment.happening)

    @connection(description="Every step there was, in the order they were reached; nodes nothing had reached last.")
    def steps(self, first: int = 20, after: str | None = None) -> Connection[MomentStep] | None:
        page, run = Page.of(first, after), self.moment.run
        known = [*run.steps, *(node for node in run.plan.nodes if node not in run.steps)]
        begin = position(page)
        found = list(enumerate(known))[begin : begin + page.limit]
        return Connection.of(page, found, node=lambda row: MomentStep.of(run, row[1]), key=lambda row: [row[0] + 1])

    @strawberry.field(description="One step by its key; nothing if the workflow has no such node.")
    def step(self, key: str) -> MomentStep | None:
        run = self.moment.run
        return MomentStep.of(run, key) if key in run.steps or key in run.plan.nodes else None

    @sized(at_most=10, description="The timers that ran: deadlines, pauses before the next attempt, waits.")
    def timers(self) -> list[MomentTimer] | None:
        timers = sorted(self.moment.run.timers.items(), key=lambda timer: timer[1])
        return [MomentTimer(name=name, due=moment(due)) for name, due in timers[:100]]

    @strawberry.field(
        description="The names an expression sees there, at a node with the item of its input `main` at this position: "
        "item, items, trigger, execution, vars, now, and the ids of the nodes that had settled."
    )
    def scope(self, node: str | None = None, item: int | None = None) -> JSON | None:
        return JSON(travel.Scope(self.moment, node, item).told())

    @strawberry.federation.field(
        directives=[Cost(weight=50)],
        description="Evaluates an expression (CEL, or a text with {{ }}) there, as the node would have, within the "
        "budget of every expression.",
    )
    def evaluate(self, expression: str, node: str | None = None, item: int | None = None) -> MomentValue | None:
        if len(expression) > LONGEST:
            raise Invalid(
                f"An expression has at most {LONGEST} characters.",
                code="too_long",
                field="expression",
                next_step="Shorten the expression.",
            )
        found = travel.Scope(self.moment, node, item).evaluate(expression)
        if found.fault is None:
            return MomentValue(value=JSON(found.value), code=None, message=None, position=None)
        fault = found.fault
        place = max(0, fault.position - 3) if "{{" not in expression else fault.position
        return MomentValue(
            value=None, code=fault.code, message=fault.message, position=place if fault.position >= 0 else None
        )

    @classmethod
    def of(cls, key: UUID, found: travel.Moment) -> "ExecutionMoment":
        return cls(
            event=found.event,
            events=found.events,
            previous=found.event - 1 if found.event > 1 else None,
            next=found.event + 1 if found.event < found.events else None,
            at=found.happening.at,
            status=ExecutionStatus(found.run.status),
            key=key,
            moment=found,
        )


@strawberry.type
class Past:
    """What a run tells of its past; a part of `Execution`."""

    key: strawberry.Private[UUID]

    @strawberry.federation.field(
        directives=[Cost(weight=20)], description="The run right after one of its events, the first of which is 1."
    )
    async def at(self, info: Info, event: int) -> ExecutionMoment | None:
        return ExecutionMoment.of(self.key, await traveller(info).at(self.key, event))

    @connection(weight=20, description="Its events, in order; their `seq` is what `at` takes.")
    async def events(self, info: Info, first: int = 20, after: str | None = None) -> Connection[_Event] | None:
        page, event = Page.of(first, after), kind(info, "ExecutionEvent")
        found = await traveller(info).events(self.key, position(page), page.limit)
        return Connection.of(page, found, node=lambda told: event.of(self.key, told), key=lambda told: [told.seq])

    @strawberry.federation.field(
        directives=[Cost(weight=40)],
        description="This run beside another one: the first step, item and field in which they differ, and how each "
        "step compares. Its own rerun, or a fork, shows what a change did.",
    )
    async def comparison(
        self,
        info: Info,
        with_: Annotated[strawberry.ID, strawberry.argument(name="with", description="The other run.")],
    ) -> ExecutionComparison | None:
        past = traveller(info)
        left, right = [await past.now(id) for id in (self.key, parse_id(with_, "with"))]
        return ExecutionComparison.of(left, right)


def traveller(info: Info) -> travel.Travel:
    tenant = info.context.caller.must("execution:read")
    return travel.Travel(info.context.database, info.context.watching.loading(), tenant)
