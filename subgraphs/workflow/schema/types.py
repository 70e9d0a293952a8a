"""What Workflow shows: workflows, revisions, releases, faults."""

from enum import Enum
from typing import Annotated, Any, Self
from uuid import UUID

import strawberry
from strawberry.federation.schema_directives import Key
from strawberry.federation.types import FieldSet

from resolvers.connections import Connection, Page, Unpageable, connection, sized
from resolvers.ids import MalformedId, parse_id
from resolvers.scalars import JSON, DateTime
from subgraphs.engine.faults import MAX_FAULTS
from subgraphs.engine.faults import Fault as EngineFault
from subgraphs.workflow import queries
from subgraphs.workflow.schema.context import Context

Info = strawberry.Info[Context, None]


@strawberry.federation.type(keys=[Key(fields=FieldSet("id"), resolvable=False)])
class User:
    id: strawberry.ID


@strawberry.federation.type(keys=[Key(fields=FieldSet("id"), resolvable=False)])
class Execution:
    id: strawberry.ID


@strawberry.enum(description="Whether a fault keeps a definition from running.")
class FaultSeverity(Enum):
    ERROR = strawberry.enum_value("error", description="It cannot be published or run.")
    WARNING = strawberry.enum_value("warning", description="It runs, though probably not as meant.")


@strawberry.type(description="One thing wrong with a definition.")
class Fault:
    code: str = strawberry.field(description="Stable, for programs: `node.type_unknown`, `graph.loop`.")
    message: str = strawberry.field(description="For people: what is wrong, in one sentence.")
    pointer: str = strawberry.field(description="Where it is: a JSON pointer (RFC 6901) into the definition.")
    node: str | None = strawberry.field(description="Id of the node it belongs to, if it belongs to one.")
    severity: FaultSeverity = strawberry.field(description="Whether it keeps the definition from running.")
    next_step: str | None = strawberry.field(description="What to do about it.")
    position: int | None = strawberry.field(
        description="Offset in characters within the text at `pointer`, for expressions."
    )

    @classmethod
    def of(cls, fault: EngineFault) -> Self:
        return cls(
            code=fault.code,
            message=fault.message,
            pointer=fault.pointer,
            node=fault.node,
            severity=FaultSeverity(fault.severity),
            next_step=fault.next_step,
            position=fault.position,
        )

    @classmethod
    def stored(cls, fault: Any) -> Self:
        """From what a revision keeps."""
        return cls.of(EngineFault(**fault))


@strawberry.type(description="A saved state of a workflow; it never changes.")
class Revision:
    number: int = strawberry.field(description="1 for the first save, then counting up.")
    parent: int | None = strawberry.field(description="The revision it was based on.")
    restored_from: int | None = strawberry.field(description="The revision whose content it brought back.")
    name: str | None = strawberry.field(description="A name somebody gave it.")
    message: str = strawberry.field(description="What the author said about it.")
    saved_at: DateTime = strawberry.field(description="When it was saved.")
    hash: str = strawberry.field(
        description="SHA-256 of the definition's canonical form: equal for definitions that mean the same."
    )
    valid: bool = strawberry.field(description="Whether it could run when it was saved.")
    faults: list[Fault] = sized(
        description="What validation found when it was saved, errors first, 100 at most. A later catalogue may differ.",
        at_most=20,
    )
    author_id: strawberry.Private[UUID]
    digest: strawberry.Private[str]

    @strawberry.field(description="Who saved it.")
    def author(self) -> User | None:
        return User(id=strawberry.ID(str(self.author_id)))

    @strawberry.field(description="The definition as it was saved, format linkflow/1.")
    async def definition(self, info: Info) -> JSON:
        return JSON(await info.context.documents.load(self.digest))

    @classmethod
    def of(cls, row: queries.RevisionRow) -> Self:
        return cls(
            number=row.number,
            parent=row.parent,
            restored_from=row.source,
            name=row.name,
            message=row.message,
            saved_at=row.at,
            hash=row.hash,
            valid=not any(fault.get("severity", "error") == "error" for fault in row.faults),
            faults=[Fault.stored(fault) for fault in row.faults],
            author_id=row.author,
            digest=row.digest,
        )


@strawberry.enum(description="Whether a release is held by everybody who runs it.")
class ActivationState(Enum):
    ACTIVE = strawberry.enum_value("active", description="Starts and webhook calls reach it.")
    PENDING = strawberry.enum_value("pending", description="Somebody has not taken it over yet; ask again in a second.")


@strawberry.type(description="How far a release has come to those who run it.")
class Activation:
    state: ActivationState = strawberry.field(description="Active when Execution and Webhook both hold it.")
    execution: bool = strawberry.field(description="Whether it can be started.")
    webhook: bool = strawberry.field(description="Whether its webhook URLs answer.")


@strawberry.type(description="A published revision: what runs. Saving drafts does not touch it.")
class Release:
    number: int = strawberry.field(description="1 for the first release, then counting up.")
    revision: int = strawberry.field(description="Number of the revision that was published.")
    name: str | None = strawberry.field(description="A name given at publishing.")
    message: str = strawberry.field(description="What the author said about it.")
    published_at: DateTime = strawberry.field(description="When it was published.")
    activation: Activation = strawberry.field(description="How far it has come to those who run it.")
    author_id: strawberry.Private[UUID]
    digest: strawberry.Private[str]

    @strawberry.field(description="Who published it.")
    def author(self) -> User | None:
        return User(id=strawberry.ID(str(self.author_id)))

    @strawberry.field(description="The definition that runs, format linkflow/1.")
    async def definition(self, info: Info) -> JSON:
        return JSON(await info.context.documents.load(self.digest))

    @classmethod
    def of(cls, row: queries.ReleaseRow, heard: frozenset[str] = frozenset()) -> Self:
        """`heard`: who was heard to hold it, though the row may not say so yet."""
        execution = row.execution_at is not None or "execution" in heard
        webhook = row.webhook_at is not None or "webhook" in heard
        state = ActivationState.ACTIVE if execution and webhook else ActivationState.PENDING
        return cls(
            number=row.number,
            revision=row.revision,
            name=row.name,
            message=row.message,
            published_at=row.at,
            activation=Activation(state=state, execution=execution, webhook=webhook),
            author_id=row.author,
            digest=row.digest,
        )


@strawberry.type(description="A node of a workflow's newest release that calls another workflow.")
class WorkflowCall:
    node: str = strawberry.field(description="Id of the node that calls.")
    release: int | None = strawberry.field(description="The release it calls; nothing: whatever is newest.")
    caller_id: strawberry.Private[UUID]

    @strawberry.field(description="The workflow that calls.")
    async def workflow(
        self, info: Info
    ) -> Annotated["Workflow", strawberry.lazy("subgraphs.workflow.schema.types")] | None:
        row = await info.context.workflows.load(self.caller_id)
        return Workflow.of(row) if row else None

    @classmethod
    def of(cls, row: queries.CallRow) -> Self:
        return cls(node=row.node, release=row.pinned, caller_id=row.workflow)


@strawberry.federation.type(keys=["id"], description="A graph of nodes that can be run: a draft, and releases of it.")
class Workflow:
    id: strawberry.ID = strawberry.field(description="Stable and opaque.")
    name: str = strawberry.field(description="For people; need not be unique.")
    archived: bool = strawberry.field(description="Whether it is put aside: neither run nor changed.")
    created_at: DateTime = strawberry.field(description="When it was created.")
    updated_at: DateTime = strawberry.field(description="When it last changed in any way.")
    draft: Revision = strawberry.field(description="The newest revision: what the next save is based on.")
    current_release: Release | None = strawberry.field(description="The newest release, if it was ever published.")
    author_id: strawberry.Private[UUID]

    @strawberry.field(description="Who created it.")
    def created_by(self) -> User | None:
        return User(id=strawberry.ID(str(self.author_id)))

    @connection(description="Every save, newest first.")
    async def revisions(self, info: Info, first: int = 20, after: str | None = None) -> Connection[Revision] | None:
        page = Page.of(first, after)
        rows = await info.context.revisions.load((UUID(self.id), page.limit, _number(page)))
        return Connection.of(page, rows or [], node=Revision.of, key=lambda row: [row.number])

    @connection(description="Every release, newest first.")
    async def releases(self, info: Info, first: int = 20, after: str | None = None) -> Connection[Release] | None:
        page = Page.of(first, after)
        rows = await info.context.releases.load((UUID(self.id), page.limit, _number(page)))
        return Connection.of(page, rows or [], node=Release.of, key=lambda row: [row.number])

    @connection(description="Who calls it: nodes of the newest releases of other workflows.")
    async def callers(self, info: Info, first: int = 20, after: str | None = None) -> Connection[WorkflowCall] | None:
        page = Page.of(first, after)
        rows = await info.context.callers.load((UUID(self.id), page.limit, _call(page)))
        return Connection.of(page, rows or [], node=WorkflowCall.of, key=lambda row: [str(row.workflow), row.node])

    @classmethod
    def of(cls, row: queries.WorkflowRow) -> Self:
        return cls(
            id=strawberry.ID(str(row.id)),
            name=row.name,
            archived=row.archived_at is not None,
            created_at=row.created_at,
            updated_at=row.updated_at,
            draft=Revision.of(row.draft),
            current_release=Release.of(row.release) if row.release else None,
            author_id=row.created_by,
        )

    @classmethod
    async def resolve_reference(cls, info: Info, id: strawberry.ID, **rest: Any) -> Self | None:
        info.context.caller.must("workflow:read")
        try:
            row = await info.context.workflows.load(parse_id(id))
        except MalformedId:
            return None  # a reference made elsewhere: nothing of that id is here
        return cls.of(row) if row else None


def _number(page: Page) -> int | None:
    """The revision or release number inside a cursor."""
    if page.after is None:
        return None
    match page.after:
        case [int(number)] if not isinstance(number, bool) and 0 <= number < 2**31:
            return number
    raise foreign_cursor()


def _call(page: Page) -> tuple[UUID, str] | None:
    """The workflow and node inside a cursor."""
    match page.after:
        case None:
            return None
        case [str(workflow), str(node)]:
            try:
                return parse_id(workflow), node.replace("\0", "")
            except MalformedId:
                pass
    raise foreign_cursor()


def foreign_cursor() -> Unpageable:
    return Unpageable(
        "This is not a cursor of this list.",
        code="cursor_malformed",
        field="after",
        next_step="Send endCursor of the page before, or leave it out to start at the beginning.",
    )


@strawberry.type(description="What validation says of a definition.")
class ValidationReport:
    valid: bool = strawberry.field(description="Whether it could be published and run.")
    faults: list[Fault] = sized(description=f"Everything found, {MAX_FAULTS} at most.", at_most=20)

    @classmethod
    def of(cls, faults: list[EngineFault]) -> Self:
        valid = not any(fault.severity == "error" for fault in faults)
        return cls(valid=valid, faults=[Fault.of(fault) for fault in faults])
