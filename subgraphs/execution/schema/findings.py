"""What the standing check of the invariants found."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import strawberry

from resolvers.connections import Connection, Page, connection
from resolvers.scalars import DateTime
from subgraphs.execution import invariants
from subgraphs.execution.schema.executions import Execution
from subgraphs.platform.domain import Invalid


@strawberry.type(description="Something that must always hold, and does not.")
class InvariantFinding:
    kind: str = strawberry.field(description="Stable, for programs, such as run.stuck.")
    says: str = strawberry.field(description="What must hold, in one sentence.")
    subject: str = strawberry.field(description="The id of what it is about.")
    detail: str = strawberry.field(description="What is the case instead.")
    since: DateTime = strawberry.field(description="When it was first seen.")
    seen: DateTime = strawberry.field(description="When it was last seen.")
    run: strawberry.Private[UUID | None]

    @strawberry.field(description="The run, if it is about one.")
    async def execution(self, info: strawberry.Info[Any, None]) -> Execution | None:
        found = await info.context.heads.load(self.run) if self.run is not None else None
        return Execution.of(found) if found is not None else None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "InvariantFinding":
        return cls(
            kind=row["kind"],
            says=invariants.INVARIANTS.get(row["kind"], ""),
            subject=row["subject"],
            detail=row["detail"],
            since=row["since"],
            seen=row["seen"],
            run=row["run"],
        )


@strawberry.type
class Findings:
    """A part of `Query`."""

    @connection(
        description="What the standing check of the engine's invariants found amiss in your runs; empty when all is "
        "well. Needs the scope execution:control."
    )
    async def invariant_findings(
        self, info: strawberry.Info[Any, None], first: int = 20, after: str | None = None
    ) -> Connection[InvariantFinding] | None:
        tenant = info.context.caller.must("execution:control")
        page = Page.of(first, after)
        rows = await invariants.findings(info.context.database, tenant, page.limit, _key(page.after))
        return Connection.of(page, rows, node=InvariantFinding.of, key=lambda row: [row["kind"], row["subject"]])


def _key(after: list[Any] | None) -> tuple[str, str]:
    if after is None:
        return "", ""
    if len(after) != 2 or not all(isinstance(part, str) and "\0" not in part for part in after):
        raise Invalid(
            "This is not a cursor of this list.",
            code="cursor_malformed",
            field="after",
            next_step="Send endCursor of the page before, or nothing.",
        )
    return after[0], after[1]
