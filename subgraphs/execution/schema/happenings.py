"""What happens in a run, as its watchers see it."""

import enum
from typing import Any, Self
from uuid import UUID

import strawberry

from resolvers.connections import sized
from resolvers.scalars import JSON, DateTime
from subgraphs.engine.run.keys import node_of
from subgraphs.execution.history import Happening, Preview
from subgraphs.execution.schema.executions import Execution, ExecutionReply
from subgraphs.execution.schema.statuses import ExecutionStatus
from subgraphs.execution.schema.steps import ConsoleLine, ExecutionError


@strawberry.enum(description="What happened in a run.")
class ExecutionEventType(enum.Enum):
    STARTED = strawberry.enum_value("STARTED", description="The run began; items are the trigger's.")
    STEP_STARTED = strawberry.enum_value("STEP_STARTED", description="An attempt that reaches outside began.")
    STEP_SUCCEEDED = strawberry.enum_value("STEP_SUCCEEDED", description="A step ended well.")
    STEP_FAILED = strawberry.enum_value(
        "STEP_FAILED", description="An attempt failed; `until` says when the next is due."
    )
    STEP_WAITING = strawberry.enum_value("STEP_WAITING", description="A step waits until `until`.")
    ADMITTED = strawberry.enum_value("ADMITTED", description="A limit the run had queued at let it through.")
    FORKED = strawberry.enum_value("FORKED", description="The run goes on from where another one stood.")
    STEP_RESUMED = strawberry.enum_value("STEP_RESUMED", description="What a step waited for came.")
    STEP_AMBIGUOUS = strawberry.enum_value(
        "STEP_AMBIGUOUS", description="An attempt was cut off, and whether it happened outside is not known."
    )
    STEPS_HELD = strawberry.enum_value(
        "STEPS_HELD", description="Attempts that were cut off while the run was paused; they begin again with it."
    )
    STEP_SETTLED = strawberry.enum_value("STEP_SETTLED", description="It became known whether it had happened.")
    STEPS_CANCELLED = strawberry.enum_value("STEPS_CANCELLED", description="These steps are not needed any more.")
    ROUND_STARTED = strawberry.enum_value("ROUND_STARTED", description="A round of a loop began.")
    ROUND_ENDED = strawberry.enum_value("ROUND_ENDED", description="A round of a loop ended.")
    IGNORED = strawberry.enum_value("IGNORED", description="Items or a signal came too late to be of use.")
    SIGNALLED = strawberry.enum_value("SIGNALLED", description="A signal reached the run.")
    PAUSED = strawberry.enum_value("PAUSED", description="Somebody held the run.")
    RESUMED = strawberry.enum_value("RESUMED", description="The run goes on.")
    TAGGED = strawberry.enum_value("TAGGED", description="Business keys were set.")
    COMPENSATING = strawberry.enum_value("COMPENSATING", description="What had succeeded is being undone.")
    CONCLUDING = strawberry.enum_value("CONCLUDING", description="The finally section runs.")
    STEPS_SKIPPED = strawberry.enum_value("STEPS_SKIPPED", description="Nothing reached these nodes.")
    REPLIED = strawberry.enum_value("REPLIED", description="The caller of the trigger was answered.")
    FINISHED = strawberry.enum_value("FINISHED", description="The run ended; nothing follows.")


@strawberry.type(description="What left a step by one port: the count, and the first few items if they are small.")
class ItemsPreview:
    port: str = strawberry.field(description="The output port.")
    count: int = strawberry.field(description="How many items left.")
    items: JSON = strawberry.field(description="The first of them.")
    whole: bool = strawberry.field(description="Whether that is all of them.")

    @classmethod
    def of(cls, preview: Preview) -> Self:
        return cls(port=preview.port, count=preview.count, items=JSON(preview.items), whole=preview.whole)


@strawberry.type(description="One event of a run, complete in itself.")
class ExecutionEvent:
    seq: int = strawberry.field(description="1 for the first; send it as `afterSeq` to go on after this event.")
    type: ExecutionEventType = strawberry.field(description="What happened.")
    execution_id: strawberry.ID = strawberry.field(description="The run.")
    workflow_id: strawberry.ID | None = strawberry.field(description="The workflow it runs.")
    workflow_name: str = strawberry.field(description="That workflow's name when the run began.")
    at: DateTime = strawberry.field(description="When it happened.")
    last: bool = strawberry.field(
        description="Whether nothing follows. A stream that ends without it is to be resumed."
    )
    status: ExecutionStatus = strawberry.field(description="Where the run stands after it.")
    node: str | None = strawberry.field(description="The node it concerns, if it is one.")
    key: str | None = strawberry.field(description="The step's key: the node's id, inside a loop with its rounds.")
    node_name: str | None = strawberry.field(description="That node's name.")
    attempt: int | None = strawberry.field(description="Which attempt at that node.")
    until: DateTime | None = strawberry.field(description="When the wait ends, or the next attempt is due.")
    error: ExecutionError | None = strawberry.field(description="What went wrong.")
    reply: ExecutionReply | None = strawberry.field(description="What the caller of the trigger got.")
    detail: JSON | None = strawberry.field(description="What else the event says: by whom, which round, which keys.")
    nodes: list[str] = sized(at_most=2, description="The keys of the steps it concerns.")
    items: list[ItemsPreview] = sized(at_most=2, description="What left the step, by port.")
    lines: list[ConsoleLine] = sized(at_most=10, description="What the attempt wrote to its console.")

    @strawberry.field(description="The run as it stands now.")
    async def execution(self, info: strawberry.Info[Any, None]) -> Execution | None:
        found = await info.context.heads.load(UUID(self.execution_id))
        return Execution.of(found) if found is not None else None

    @classmethod
    def of(cls, run: UUID, happening: Happening) -> Self:
        return cls(
            seq=happening.seq,
            type=ExecutionEventType(happening.type),
            execution_id=strawberry.ID(str(run)),
            workflow_id=strawberry.ID(str(happening.workflow)) if happening.workflow is not None else None,
            workflow_name=happening.workflow_name,
            at=happening.at,
            last=happening.last,
            status=ExecutionStatus(happening.status),
            node=node_of(happening.nodes[0]) if len(happening.nodes) == 1 else None,
            key=happening.nodes[0] if len(happening.nodes) == 1 else None,
            detail=JSON(happening.detail) if happening.detail else None,
            node_name=happening.name,
            attempt=happening.attempt,
            until=happening.until,
            error=ExecutionError.of(happening.error),
            reply=ExecutionReply.of(happening.reply) if happening.reply is not None else None,
            nodes=list(happening.nodes),
            items=[ItemsPreview.of(preview) for preview in happening.items],
            lines=[ConsoleLine.of(line) for line in happening.lines],
        )
