"""The workflow subgraph, as its clients see it."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

import strawberry

from resolvers.connections import Connection, Page, connection
from resolvers.ids import MalformedId, parse_id
from resolvers.problems import AsData
from resolvers.schema import federated
from subgraphs.platform.domain import Caller, Missing, uuid7
from subgraphs.workflow import commands, domain, queries
from subgraphs.workflow.schema import answers
from subgraphs.workflow.schema.context import Context, Kept
from subgraphs.workflow.schema.types import (
    Execution,
    Info,
    Release,
    Revision,
    ValidationReport,
    Workflow,
    foreign_cursor,
)

Result = TypeVar("Result")
ATTEMPTS = 4
"""How often a change is tried that loses the race for a version."""
EMPTY = {"format": "linkflow/1", "nodes": []}


@strawberry.type
class Query:
    @connection(description="The workflows of your organisation, newest first.")
    async def workflows(
        self,
        info: Info,
        first: int = 20,
        after: str | None = None,
        search: str | None = None,
        archived: bool | None = False,
    ) -> Connection[Workflow] | None:
        info.context.caller.must("workflow:read")
        page = Page.of(first, after)
        async with info.context.reading() as reading:
            rows = await queries.workflows(
                reading, limit=page.limit, after=_last(page), search=search, archived=archived
            )
        return Connection.of(page, rows, node=Workflow.of, key=lambda row: [str(row.id)])

    @strawberry.field(description="Nothing, if your organisation has no such workflow.")
    async def workflow(self, info: Info, id: strawberry.ID) -> Workflow | None:
        info.context.caller.must("workflow:read")
        row = await info.context.workflows.load(parse_id(id))
        return Workflow.of(row) if row else None

    @strawberry.field(description="Everything that keeps a definition from running; nothing is saved.")
    async def validate_definition(self, info: Info, input: answers.ValidateDefinitionInput) -> ValidationReport | None:
        caller = info.context.caller
        caller.must("workflow:read")
        catalogue = await info.context.catalogue()
        async with info.context.reading() as reading:
            known = queries.known(reading)
            faults = await commands.validate(input.definition, caller=caller, catalogue=catalogue, known=known)
        return ValidationReport.of(faults)


@strawberry.type
class Mutation:
    @strawberry.mutation(extensions=[answers.AsFaults()], description="A new workflow with its first draft.")
    async def create_workflow(
        self, info: Info, input: answers.CreateWorkflowInput
    ) -> answers.CreateWorkflowResult | None:
        caller = info.context.caller
        caller.must("workflow:write")
        definition = EMPTY if input.definition is None else input.definition
        draft = await commands.checked(definition, await info.context.catalogue())
        async with info.context.kept() as kept:
            workflow = await commands.create(
                uuid7(), caller=caller, workflows=kept, name=input.name, message=input.message, draft=draft
            )
        return await _shown(info, workflow.id)

    @strawberry.mutation(
        extensions=[answers.AsFaults()],
        description="A new revision of the draft. It may have faults: they are kept with it. A save that is based on "
        "another revision than the newest saves nothing and answers with both versions and their base.",
    )
    async def save_draft(self, info: Info, input: answers.SaveDraftInput) -> answers.SaveDraftResult | None:
        caller, workflow_id = _who_and_what(info, input)
        caller.must("workflow:write")
        draft = await commands.checked(input.definition, await info.context.catalogue())
        words: dict[str, Any] = {"base": input.base_revision, "message": input.message, "draft": draft}
        try:
            await _tried(info, lambda kept: commands.save_draft(workflow_id, caller=caller, workflows=kept, **words))
        except domain.Stale as stale:
            return await _conflict(info, workflow_id, stale, input.definition)
        return await _shown(info, workflow_id)

    @strawberry.mutation(
        extensions=[answers.AsFaults()],
        description="Makes a revision the one that runs, unless it has errors; waits 2 s at most until it is active.",
    )
    async def publish_release(
        self, info: Info, input: answers.PublishReleaseInput
    ) -> answers.PublishReleaseResult | None:
        caller, workflow_id = _who_and_what(info, input)
        catalogue = await info.context.catalogue()
        words: dict[str, Any] = {"revision": input.revision, "name": input.name, "message": input.message}
        with info.context.activations.watch(workflow_id) as watch:
            workflow = await _tried(
                info,
                lambda kept: commands.publish(workflow_id, caller=caller, workflows=kept, catalogue=catalogue, **words),
            )
            heard = await watch.all(workflow.state.release)
        async with info.context.reading() as reading:
            row = await queries.release(reading, workflow_id, workflow.state.release)
        return Release.of(row, heard) if row else None

    @strawberry.mutation(
        extensions=[AsData()], description="A new revision with the content of an old one; nothing is overwritten."
    )
    async def restore_revision(
        self, info: Info, input: answers.RestoreRevisionInput
    ) -> answers.ChangeWorkflowResult | None:
        caller, workflow_id = _who_and_what(info, input)
        catalogue = await info.context.catalogue()
        words: dict[str, Any] = {"revision": input.revision, "message": input.message}
        await _tried(
            info,
            lambda kept: commands.restore(workflow_id, caller=caller, workflows=kept, catalogue=catalogue, **words),
        )
        return await _shown(info, workflow_id)

    @strawberry.mutation(extensions=[AsData()], description="Gives a revision a name, or takes its name off.")
    async def name_revision(self, info: Info, input: answers.NameRevisionInput) -> answers.ChangeWorkflowResult | None:
        caller, workflow_id = _who_and_what(info, input)
        words: dict[str, Any] = {"revision": input.revision, "name": input.name}
        await _tried(info, lambda kept: commands.name_revision(workflow_id, caller=caller, workflows=kept, **words))
        return await _shown(info, workflow_id)

    @strawberry.mutation(extensions=[AsData()], description="Another name for a workflow.")
    async def rename_workflow(
        self, info: Info, input: answers.RenameWorkflowInput
    ) -> answers.ChangeWorkflowResult | None:
        caller, workflow_id = _who_and_what(info, input)
        await _tried(info, lambda kept: commands.rename(workflow_id, caller=caller, workflows=kept, name=input.name))
        return await _shown(info, workflow_id)

    @strawberry.mutation(
        extensions=[AsData()], description="Puts a workflow aside, or takes it back: aside it neither runs nor changes."
    )
    async def archive_workflow(
        self, info: Info, input: answers.ArchiveWorkflowInput
    ) -> answers.ChangeWorkflowResult | None:
        caller, workflow_id = _who_and_what(info, input)
        await _tried(
            info, lambda kept: commands.archive(workflow_id, caller=caller, workflows=kept, archived=input.archived)
        )
        return await _shown(info, workflow_id)

    @strawberry.mutation(
        extensions=[AsData()], description="Deletes a workflow for good. Its executions stay with their results."
    )
    async def delete_workflow(
        self, info: Info, input: answers.DeleteWorkflowInput
    ) -> answers.DeleteWorkflowResult | None:
        caller, workflow_id = _who_and_what(info, input)
        await _tried(info, lambda kept: commands.delete(workflow_id, caller=caller, workflows=kept))
        return answers.DeletedWorkflow(id=strawberry.ID(str(workflow_id)))

    @strawberry.mutation(
        extensions=[answers.AsFaults()],
        description="Runs the draft as it is, without publishing it, whole or in part. Items that are pinned to nodes "
        "are taken for what these would put out. A draft with errors is refused with its faults.",
    )
    async def run_draft(self, info: Info, input: answers.RunDraftInput) -> answers.RunDraftResult | None:
        caller, workflow_id = _who_and_what(info, input)
        catalogue = await info.context.catalogue()
        words: dict[str, Any] = {"input": input.input, "trigger": input.trigger, "key": input.idempotency_key}
        given: Any = {} if input.given is None else input.given
        words["part"] = domain.Part(input.until, input.only, given)
        execution = await _tried(
            info,
            lambda kept: commands.run_draft(
                workflow_id, caller=caller, workflows=kept, drafts=kept, catalogue=catalogue, **words
            ),
        )
        return answers.DraftRun(execution=Execution(id=strawberry.ID(str(execution))))


def _who_and_what(info: Info, input: Any) -> tuple[Caller, UUID]:
    return info.context.caller, parse_id(input.workflow_id, "input.workflowId")


async def _tried(info: Info, change: Callable[[Kept], Awaitable[Result]]) -> Result:
    """The change in a transaction of its own; once more on the new state when another writer was first."""
    for _ in range(ATTEMPTS - 1):
        try:
            async with info.context.kept() as kept:
                return await change(kept)
        except domain.Raced:
            continue
    async with info.context.kept() as kept:
        return await change(kept)


async def _shown(info: Info, id: UUID) -> Workflow:
    """The workflow as it is now, after a change."""
    async with info.context.reading() as reading:
        row = (await queries.by_ids(reading, [id])).get(id)
    info.context.workflows.prime(id, row, force=True)
    if row is None:
        raise Missing("The workflow was deleted a moment ago.", field="input.workflowId")
    return Workflow.of(row)


async def _conflict(info: Info, id: UUID, stale: domain.Stale, yours: Any) -> answers.DraftConflict:
    workflow = await _shown(info, id)
    async with info.context.reading() as reading:
        theirs = await queries.revision(reading, id, stale.newest)
        base = await queries.revision(reading, id, stale.base)
    if theirs is None or base is None:
        raise Missing("The workflow was deleted a moment ago.", field="input.workflowId")
    return answers.DraftConflict(
        code=stale.code,
        message=stale.message,
        field=stale.field,
        next_step=stale.next_step,
        yours=yours,
        theirs=Revision.of(theirs),
        base=Revision.of(base),
        workflow=workflow,
    )


def _last(page: Page) -> UUID | None:
    """The id inside a cursor."""
    if page.after is None:
        return None
    try:
        return parse_id(page.after[0] if len(page.after) == 1 else None)
    except MalformedId:
        raise foreign_cursor() from None


schema = federated(query=Query, mutation=Mutation)

__all__ = ["Context", "Mutation", "Query", "schema"]
