"""Two runs compared."""

import enum
from typing import Self

import strawberry

from resolvers.connections import Connection, Page, connection
from resolvers.scalars import JSON
from subgraphs.engine.run import Run
from subgraphs.execution import compare
from subgraphs.execution.schema.statuses import position


@strawberry.enum(description="How a step of two runs compares.")
class StepVerdict(enum.Enum):
    EQUAL = strawberry.enum_value("equal", description="The same status, output and error.")
    DIFFERENT = strawberry.enum_value("different", description="They part where `parting` says.")
    ONLY_LEFT = strawberry.enum_value("only_left", description="Only this run reached it.")
    ONLY_RIGHT = strawberry.enum_value("only_right", description="Only the other run reached it.")


@strawberry.enum(description="In what two steps part.")
class PartingKind(enum.Enum):
    STATUS = strawberry.enum_value("status", description="Where they stand.")
    OUTPUT = strawberry.enum_value("output", description="An item that left.")
    ERROR = strawberry.enum_value("error", description="Why the last attempt failed.")


@strawberry.type(description="The first place where two steps differ.")
class StepParting:
    kind: PartingKind = strawberry.field(description="In what.")
    port: str | None = strawberry.field(description="The output port, if it is an output.")
    item: int | None = strawberry.field(description="The item's position at that port, from 0.")
    field: str | None = strawberry.field(description="JSON pointer (RFC 6901) into the item; empty for the whole item.")
    left: JSON | None = strawberry.field(description="What this run has there; the beginning of it, if it is large.")
    right: JSON | None = strawberry.field(description="What the other run has there.")


@strawberry.type(description="A step of two runs.")
class StepComparison:
    key: str = strawberry.field(description="The step's key: its node's id, inside a loop with its rounds.")
    name: str = strawberry.field(description="The node's name.")
    verdict: StepVerdict = strawberry.field(description="How they compare.")
    parting: StepParting | None = strawberry.field(description="Where they part, if they differ.")

    @classmethod
    def of(cls, match: compare.Match) -> Self:
        found = match.parting
        parting = None
        if found is not None:
            parting = StepParting(
                kind=PartingKind(found.what),
                port=found.port,
                item=found.item,
                field=found.field,
                left=JSON(found.left) if found.left is not None else None,
                right=JSON(found.right) if found.right is not None else None,
            )
        return cls(key=match.key, name=match.name, verdict=StepVerdict(match.verdict), parting=parting)


@strawberry.type(description="This run (left) beside another (right), as both stand now.")
class ExecutionComparison:
    same: bool = strawberry.field(description="Whether every step compares equal.")
    first: StepComparison | None = strawberry.field(description="The first step that does not compare equal.")
    left: strawberry.Private[Run]
    right: strawberry.Private[Run]

    @connection(description="Every step of either run, in the order this run reached them.")
    def steps(self, first: int = 20, after: str | None = None) -> Connection[StepComparison] | None:
        page = Page.of(first, after)
        begin = position(page)
        rows = [
            (at, match)
            for at, match in enumerate(compare.compared(self.left, self.right))
            if begin <= at < begin + page.limit
        ]
        return Connection.of(page, rows, node=lambda row: StepComparison.of(row[1]), key=lambda row: [row[0] + 1])

    @classmethod
    def of(cls, left: Run, right: Run) -> Self:
        parted = next((match for match in compare.compared(left, right) if match.verdict != "equal"), None)
        first = StepComparison.of(parted) if parted is not None else None
        return cls(same=parted is None, first=first, left=left, right=right)
