"""The mutation that begins a run where another stood."""

import enum
from typing import Annotated

import strawberry

from resolvers.ids import parse_id
from resolvers.problems import AsData, Conflict, Forbidden, Invalid, Missing, Unauthenticated
from resolvers.scalars import JSON
from subgraphs.execution import commands
from subgraphs.execution.schema.executions import Execution, Info
from subgraphs.execution.schema.moments import traveller
from subgraphs.platform.domain import Invalid as Wrong
from subgraphs.platform.domain import Missing as Absent

MOST_EDITS = 100


@strawberry.enum(description="What becomes of steps that reach outside, after the event a run is forked at.")
class ForkEffects(enum.Enum):
    LIVE = strawberry.enum_value("live", description="They run, and reach outside again.")
    RECORD = strawberry.enum_value(
        "record", description="They put out what they put out in the original; one that never ran there fails."
    )


@strawberry.input(description="Other items in the place of what a step had put out.")
class ForkEditInput:
    key: str = strawberry.field(description="The step's key: its node's id, inside a loop with its rounds.")
    items: JSON = strawberry.field(description="A list with an object for each item.")
    port: str = strawberry.field(default="main", description="The output port they leave by.")


@strawberry.input(description="Where a run goes on from another one.")
class ForkExecutionInput:
    execution_id: strawberry.ID = strawberry.field(description="The original; it stays as it is.")
    event: int = strawberry.field(description="Everything up to this event counts as done; 1 is the start.")
    edits: list[ForkEditInput] | None = strawberry.field(
        default=None, description="Steps that put out something else; what followed from them is done anew."
    )
    effects: ForkEffects = strawberry.field(default=ForkEffects.LIVE, description="Steps that reach outside.")
    release: int | None = strawberry.field(
        default=None, description="Go on by this release of the workflow; by the original's if left out."
    )
    idempotency_key: str | None = strawberry.field(default=None, description="The same key gives the same new run.")


ForkExecutionResult = Annotated[
    Execution | Invalid | Missing | Conflict | Forbidden | Unauthenticated, strawberry.union("ForkExecutionResult")
]


@strawberry.type
class Forking:
    """A part of `Mutation`."""

    @strawberry.mutation(
        extensions=[AsData()],
        description="Goes on from where a run stood after one of its events, as a new run that names it as `rerunOf`. "
        "What was settled there comes from the record, unless it is edited or follows from an edit.",
    )
    async def fork_execution(self, info: Info, input: ForkExecutionInput) -> ForkExecutionResult | None:
        info.context.caller.must("execution:start")
        desk, id = info.context.at_desk(), parse_id(input.execution_id, "executionId")
        head = await desk.head(id)
        if head is None:
            raise Absent("There is no such run.", field="executionId")
        origin = (await traveller(info).at(id, input.event)).run
        made = await commands.fork(
            info.context.caller,
            desk,
            origin=origin,
            head=head,
            edits=edited(input.edits or []),
            effects=str(input.effects.value),
            release=input.release,
            key=input.idempotency_key,
        )
        return Execution.of(made)


def edited(given: list[ForkEditInput]) -> commands.Edits:
    """Edits by step and port."""
    if len(given) > MOST_EDITS:
        raise Wrong(f"At most {MOST_EDITS} outputs are edited at once.", code="edits_many", field="edits")
    found: dict[str, dict[str, list[dict[str, object]]]] = {}
    for edit in given:
        found.setdefault(edit.key, {})[edit.port] = edit.items  # type: ignore[assignment]
    return found
