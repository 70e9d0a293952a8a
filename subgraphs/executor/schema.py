"""The executor subgraph, as its clients see it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Self

import strawberry

from resolvers.connections import sized
from resolvers.problems import AsData, Forbidden, Invalid, Missing, Unauthenticated
from resolvers.scalars import JSON
from resolvers.schema import federated
from subgraphs.engine.expression import plain
from subgraphs.engine.step import Line, Reply, StepError, Wait
from subgraphs.executor import commands, domain, queries
from subgraphs.executor.runner import Runner
from subgraphs.platform.domain import Caller


@dataclass(frozen=True)
class Context:
    """What a resolver here may lean on, for the length of one request."""

    caller: Caller
    runner: Runner
    workers: domain.Workers


Info = strawberry.Info[Context, None]


@strawberry.type(description="A process that runs steps.")
class Worker:
    id: strawberry.ID = strawberry.field(description="New each time the process starts.")
    name: str = strawberry.field(description="Host and process id.")
    alive: bool = strawberry.field(description="Whether it gave a sign of life within the last 15 seconds.")
    started_at: datetime = strawberry.field(description="When it began.")
    seen_at: datetime = strawberry.field(description="Its last sign of life.")
    slots: int = strawberry.field(description="How many waiting steps it runs at the same time.")
    busy: int = strawberry.field(description="How many it ran at its last sign of life.")
    done: float = strawberry.field(description="Steps it ended since it began.")
    failed: float = strawberry.field(description="Of those, the ones that failed.")
    catalogue: str = strawberry.field(description="Fingerprint of the node types it can run.")

    @classmethod
    def of(cls, row: domain.Worker) -> Self:
        return cls(
            id=strawberry.ID(str(row.id)),
            name=row.name,
            alive=row.alive,
            started_at=row.started,
            seen_at=row.beat,
            slots=row.slots,
            busy=row.busy,
            done=row.done,
            failed=row.failed,
            catalogue=row.catalogue,
        )


@strawberry.type(description="Why a tried node failed.")
class TestError:
    code: str = strawberry.field(description="Stable, for programs: dotted lower case words, as http.status.404.")
    message: str = strawberry.field(description="For people.")
    kind: str = strawberry.field(description="user, limit, timeout or infrastructure.")
    field: str | None = strawberry.field(description="The parameter at fault, as a dotted path.")
    retryable: bool = strawberry.field(description="Whether another attempt may end better.")
    retry_after: float | None = strawberry.field(description="Seconds after which to try again, if that was told.")
    detail: JSON | None = strawberry.field(description="More about it; what, depends on the code.")

    @classmethod
    def of(cls, error: StepError) -> Self:
        return cls(
            code=error.code,
            message=error.message,
            kind=error.kind,
            field=error.field,
            retryable=error.retryable or error.kind == "infrastructure",
            retry_after=error.retry_after,
            detail=JSON(error.detail) if error.detail else None,
        )


@strawberry.type(description="A line a tried node printed.")
class TestLine:
    level: str = strawberry.field(description="debug, info, warn or error.")
    text: str = strawberry.field(description="What it printed.")
    at: float = strawberry.field(description="Milliseconds since the node began.")

    @classmethod
    def of(cls, line: Line) -> Self:
        return cls(level=line.level, text=line.text, at=line.at)


@strawberry.type(description="What a tried node would answer the caller of a webhook.")
class TestReply:
    status: int = strawberry.field(description="HTTP status.")
    headers: JSON = strawberry.field(description="Header names and values.")
    body: JSON | None = strawberry.field(description="The body; text if the content type is not JSON.")
    content_type: str = strawberry.field(description="The body's media type.")

    @classmethod
    def of(cls, reply: Reply) -> Self:
        body = None if reply.body is None else JSON(reply.body)
        return cls(status=reply.status, headers=JSON(reply.headers), body=body, content_type=reply.content_type)


@strawberry.type(description="What a tried node would wait for.")
class TestWait:
    kind: str = strawberry.field(description="time, signal, event, approval, form, webhook or child.")
    name: str = strawberry.field(description="What is waited for, as the name of a signal.")
    until: datetime | None = strawberry.field(description="When the wait would end by itself.")
    detail: JSON = strawberry.field(description="The rest of it; what, depends on the kind.")

    @classmethod
    def of(cls, wait: Wait) -> Self:
        return cls(kind=wait.kind, name=wait.name, until=wait.until, detail=JSON(plain(wait.detail)))


@strawberry.type(description="How a node fared with sample items. What it did wrong is `error`, not a problem.")
class TestResult:
    outputs: JSON = strawberry.field(description="The JSON of the items that left, by port.")
    error: TestError | None = strawberry.field(description="Why it failed, if it did.")
    lines: list[TestLine] | None = sized(description="What it printed.", at_most=1000)
    lines_dropped: int = strawberry.field(description="Lines beyond what is kept.")
    waits_until: datetime | None = strawberry.field(description="Until when it would hold its items, if it would.")
    waits_for: TestWait | None = strawberry.field(description="What it would wait for, if it would.")
    keys: JSON | None = strawberry.field(description="Business keys it would set on the execution, by name.")
    reply: TestReply | None = strawberry.field(description="What it would answer a webhook's caller, if it would.")
    duration_ms: float = strawberry.field(description="How long it took.")

    @classmethod
    def of(cls, tried: commands.Tried) -> Self:
        outcome = tried.outcome
        outputs: Mapping[str, Any] = {port: [item.json for item in items] for port, items in outcome.outputs.items()}
        return cls(
            outputs=JSON(plain(outputs)),
            error=TestError.of(outcome.error) if outcome.error else None,
            lines=[TestLine.of(line) for line in outcome.lines],
            lines_dropped=outcome.lines_dropped,
            waits_until=outcome.wait.until if outcome.wait else None,
            waits_for=TestWait.of(outcome.wait) if outcome.wait else None,
            keys=None if outcome.keys is None else JSON(outcome.keys),
            reply=TestReply.of(outcome.reply) if outcome.reply else None,
            duration_ms=round(tried.milliseconds, 3),
        )


@strawberry.input(description="A node and what to try it with.")
class TestNodeInput:
    type: str = strawberry.field(description="Name of the node type, as core.set.")
    version: str | None = strawberry.field(default=None, description="The newest, if none is named.")
    parameters: JSON = strawberry.field(description="The node's parameters; strings may hold expressions.")
    items: JSON = strawberry.field(description="Up to 100 JSON objects, the items of its input main.")
    inputs: JSON | None = strawberry.field(
        default=None, description='Items of further input ports, as of core.merge: {"right": [{"id": 7}]}.'
    )
    context: JSON | None = strawberry.field(
        default=None, description="What expressions see beside items: nodes ({id: [items]}), trigger, vars."
    )


TestNodeResult = Annotated[
    TestResult | Invalid | Missing | Forbidden | Unauthenticated,
    strawberry.union("TestNodeResult", description="How the trial ended, or why there was none."),
]


@strawberry.type
class Query:
    @sized(description="The processes that run steps, the oldest first.", at_most=100)
    async def workers(self, info: Info) -> list[Worker] | None:
        rows = await queries.workers(info.context.workers, caller=info.context.caller)
        return [Worker.of(row) for row in rows]


@strawberry.type
class Mutation:
    @strawberry.mutation(
        extensions=[AsData()],
        description="Tries one node with sample items, outside any execution. It does what it does: a request is sent.",
    )
    async def test_node(self, info: Info, input: TestNodeInput) -> TestNodeResult | None:
        sample = commands.Sample(input.type, input.version, input.parameters, input.items, input.context, input.inputs)
        tried = await commands.try_node(sample, caller=info.context.caller, runner=info.context.runner)
        return TestResult.of(tried)


schema = federated(query=Query, mutation=Mutation)
