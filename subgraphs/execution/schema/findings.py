"""What the standing check of the invariants found."""

from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import strawberry
from sqlalchemy import Column, RowMapping, Table, Text, Uuid, select, tuple_
from sqlalchemy import DateTime as Moment

from resolvers.connections import Connection, Page, connection
from resolvers.scalars import DateTime
from subgraphs.execution.invariants import INVARIANTS
from subgraphs.execution.storage import metadata
from subgraphs.platform.domain import Invalid

if TYPE_CHECKING:
    from subgraphs.execution.schema.executions import Execution

_Execution = Annotated["Execution", strawberry.lazy("subgraphs.execution.schema.executions")]

finding = Table(
    "finding",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("run", Uuid),
    Column("detail", Text, nullable=False),
    Column("since", Moment(timezone=True), nullable=False),
    Column("seen", Moment(timezone=True), nullable=False),
)


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
    async def execution(self, info: strawberry.Info[Any, None]) -> _Execution | None:
        from subgraphs.execution.schema.executions import Execution

        found = await info.context.heads.load(self.run) if self.run is not None else None
        return Execution.of(found) if found is not None else None

    @classmethod
    def of(cls, row: RowMapping) -> "InvariantFinding":
        return cls(
            kind=row["kind"],
            says=INVARIANTS.get(row["kind"], ""),
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
        place = tuple_(finding.c.kind, finding.c.subject)
        async with info.context.database.read(tenant) as reading:
            query = select(finding).where(reading.tenant_filter(finding.c.tenant))
            if page.after is not None:
                query = query.where(place > tuple_(*_key(page.after)))
            rows = await reading.rows(query.order_by(finding.c.kind, finding.c.subject).limit(page.limit))
        return Connection.of(page, rows, node=InvariantFinding.of, key=lambda row: [row["kind"], row["subject"]])


def _key(after: list[Any]) -> list[str]:
    if len(after) != 2 or not all(isinstance(part, str) and "\0" not in part for part in after):
        raise Invalid("This is not a cursor of this list.", code="cursor_malformed", field="after")
    return after
