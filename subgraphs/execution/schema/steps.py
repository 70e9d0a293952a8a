"""Steps of a run: attempts, console lines, errors."""

import enum
from typing import Self

import strawberry

from resolvers.connections import sized
from resolvers.scalars import JSON, DateTime
from subgraphs.engine import step as engine
from subgraphs.engine.run.keys import node_of, split
from subgraphs.execution import history as told
from subgraphs.execution import measures


@strawberry.enum(description="Where a step stands.")
class StepStatus(enum.Enum):
    PENDING = strawberry.enum_value("pending", description="Not reached yet.")
    READY = strawberry.enum_value("ready", description="Its inputs are there.")
    RUNNING = strawberry.enum_value("running", description="An attempt is under way.")
    RETRYING = strawberry.enum_value("retrying", description="An attempt failed; another one is due.")
    WAITING = strawberry.enum_value("waiting", description="It holds its items until a moment.")
    AMBIGUOUS = strawberry.enum_value(
        "ambiguous", description="An attempt was cut off, and whether it happened outside is not known."
    )
    SUCCEEDED = strawberry.enum_value("succeeded", description="It ended well.")
    FAILED = strawberry.enum_value("failed", description="Its last attempt failed.")
    SKIPPED = strawberry.enum_value("skipped", description="Nothing reached it.")
    CANCELLED = strawberry.enum_value("cancelled", description="The run ended while it was under way.")


@strawberry.type(description="Why a step or a run failed.")
class ExecutionError:
    code: str = strawberry.field(description="Stable, for programs: words joined by dots.")
    message: str = strawberry.field(description="For people.")
    kind: str = strawberry.field(description="user, limit, timeout or infrastructure.")
    field: str | None = strawberry.field(description="The parameter at fault, if one is.")
    detail: JSON | None = strawberry.field(description="What else the node told.")

    @classmethod
    def of(cls, error: engine.StepError | None) -> Self | None:
        if error is None:
            return None
        return cls(
            code=error.code,
            message=error.message,
            kind=error.kind,
            field=error.field,
            detail=JSON(error.detail) if error.detail else None,
        )


@strawberry.type(description="A line a step wrote to its console.")
class ConsoleLine:
    level: str = strawberry.field(description="debug, info, warn or error.")
    text: str = strawberry.field(description="What was written.")
    at: float = strawberry.field(description="Milliseconds since the attempt began.")

    @classmethod
    def of(cls, line: engine.Line) -> Self:
        return cls(level=line.level, text=line.text, at=line.at)


@strawberry.type(description="One try at a step.")
class Attempt:
    number: int = strawberry.field(description="1 for the first.")
    started_at: DateTime = strawberry.field(description="When it began.")
    finished_at: DateTime | None = strawberry.field(description="When it ended; nothing while it is under way.")
    recovered: bool = strawberry.field(description="Whether it repeats an attempt that was cut off with its process.")
    retry_at: DateTime | None = strawberry.field(description="When the next attempt was due, if it failed.")
    error: ExecutionError | None = strawberry.field(description="Why it failed.")
    lines_dropped: int = strawberry.field(description="Console lines beyond the limit.")
    lines: list[ConsoleLine] = sized(at_most=10, description="What it wrote to its console.")

    @classmethod
    def of(cls, attempt: told.Attempt) -> Self:
        return cls(
            number=attempt.number,
            started_at=attempt.started_at,
            finished_at=attempt.finished_at,
            recovered=attempt.recovered,
            retry_at=attempt.retry_at,
            error=ExecutionError.of(attempt.error),
            lines_dropped=attempt.lines_dropped,
            lines=[ConsoleLine.of(line) for line in attempt.lines],
        )


@strawberry.type(description="What one step of a run took, as its journal tells.")
class StepMetrics:
    wait_ms: float | None = strawberry.field(description="From being ready to the first attempt's start.")
    run_ms: float = strawberry.field(description="In its body, all attempts together.")
    attempts: int = strawberry.field(description="How many attempts there were.")
    items_in: int = strawberry.field(description="Items that arrived.")
    items_out: int = strawberry.field(description="Items that left.")
    bytes_in: int = strawberry.field(description="Size of what arrived, as JSON.")
    bytes_out: int = strawberry.field(description="Size of what left, as JSON.")

    @classmethod
    def of(cls, found: measures.StepMeasure) -> Self:
        return cls(
            wait_ms=found.wait_ms,
            run_ms=found.run_ms,
            attempts=found.attempts,
            items_in=found.items_in,
            items_out=found.items_out,
            bytes_in=found.bytes_in,
            bytes_out=found.bytes_out,
        )


@strawberry.type(description="One node in one run.")
class Step:
    node: str = strawberry.field(description="The node's id in the definition.")
    key: str = strawberry.field(description="The step's key: the node's id, inside a loop with its rounds, as n5@3.")
    name: str = strawberry.field(description="The node's name.")
    type: str = strawberry.field(description="Its node type.")
    status: StepStatus = strawberry.field(description="Where it stands.")
    trigger: bool = strawberry.field(description="Whether the run began here.")
    input: JSON | None = strawberry.field(description="The items that arrived, by input port.")
    output: JSON | None = strawberry.field(description="The items that left, by output port.")
    error: ExecutionError | None = strawberry.field(description="Why its last attempt failed.")
    started_at: DateTime | None = strawberry.field(description="When its first attempt began.")
    duration_ms: float | None = strawberry.field(description="From its first start to its end, waits included.")
    rounds: list[int] = sized(at_most=2, description="Its rounds of the loops it stands in, outermost first.")
    attempts: list[Attempt] = sized(at_most=2, description="Every try, in order.")
    lines: list[ConsoleLine] = sized(at_most=10, description="What its attempts wrote to their consoles, in order.")
    record: strawberry.Private[told.StepRecord]

    @strawberry.field(description="What it took; nothing for a node that nothing has reached.")
    def metrics(self) -> StepMetrics | None:
        found = measures.of_step(self.record)
        return StepMetrics.of(found) if found is not None else None

    @classmethod
    def of(cls, record: told.StepRecord) -> Self:
        return cls(
            record=record,
            node=node_of(record.node),
            key=record.node,
            rounds=list(split(record.node)[1]),
            name=record.name,
            type=record.type,
            status=StepStatus(record.status),
            trigger=record.trigger,
            input=JSON(record.input) if record.input is not None else None,
            output=JSON(record.output) if record.output is not None else None,
            error=ExecutionError.of(record.error),
            started_at=record.started_at,
            duration_ms=record.duration_ms,
            attempts=[Attempt.of(attempt) for attempt in record.attempts],
            lines=[ConsoleLine.of(line) for attempt in record.attempts for line in attempt.lines],
        )
