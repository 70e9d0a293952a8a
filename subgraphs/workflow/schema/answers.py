"""Inputs of Workflow's mutations, and what they answer with."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Self

import strawberry

from resolvers.connections import sized
from resolvers.problems import AsData, Conflict, Forbidden, Invalid, Missing, Problem
from resolvers.scalars import JSON
from subgraphs.workflow import domain
from subgraphs.workflow.schema.types import Execution, Fault, Release, Revision, Workflow

_ID = "The workflow."
_MESSAGE = "What the author says about it, up to 2,000 characters."
_NAME = "1 to 200 characters."


@strawberry.input(description="A new workflow.")
class CreateWorkflowInput:
    name: str = strawberry.field(description=_NAME)
    definition: JSON | None = strawberry.field(
        default=None, description="Its first draft, format linkflow/1; empty if left out."
    )
    message: str = strawberry.field(default="", description=_MESSAGE)


@strawberry.input(description="A changed draft.")
class SaveDraftInput:
    workflow_id: strawberry.ID = strawberry.field(description=_ID)
    base_revision: int = strawberry.field(description="Number of the revision the changes were made to.")
    definition: JSON = strawberry.field(description="The whole definition, format linkflow/1.")
    message: str = strawberry.field(default="", description=_MESSAGE)


@strawberry.input(description="A definition to be checked.")
class ValidateDefinitionInput:
    definition: JSON = strawberry.field(description="The whole definition, format linkflow/1.")


@strawberry.input(description="What to publish.")
class PublishReleaseInput:
    workflow_id: strawberry.ID = strawberry.field(description=_ID)
    revision: int | None = strawberry.field(default=None, description="The newest if left out.")
    name: str | None = strawberry.field(default=None, description=_NAME)
    message: str = strawberry.field(default="", description=_MESSAGE)


@strawberry.input(description="The revision to bring back.")
class RestoreRevisionInput:
    workflow_id: strawberry.ID = strawberry.field(description=_ID)
    revision: int = strawberry.field(description="Number of the revision whose content becomes the draft.")
    message: str = strawberry.field(default="", description=_MESSAGE)


@strawberry.input(description="A name for a revision.")
class NameRevisionInput:
    workflow_id: strawberry.ID = strawberry.field(description=_ID)
    revision: int = strawberry.field(description="Number of the revision.")
    name: str | None = strawberry.field(default=None, description=f"{_NAME} Left out: its name is taken off.")


@strawberry.input(description="A new name.")
class RenameWorkflowInput:
    workflow_id: strawberry.ID = strawberry.field(description=_ID)
    name: str = strawberry.field(description=_NAME)


@strawberry.input(description="Whether a workflow is put aside.")
class ArchiveWorkflowInput:
    workflow_id: strawberry.ID = strawberry.field(description=_ID)
    archived: bool = strawberry.field(default=True, description="False takes it back.")


@strawberry.input(description="The workflow to delete.")
class DeleteWorkflowInput:
    workflow_id: strawberry.ID = strawberry.field(description=_ID)


@strawberry.input(description="How to run the draft.")
class RunDraftInput:
    workflow_id: strawberry.ID = strawberry.field(description=_ID)
    input: JSON | None = strawberry.field(
        default=None, description="An object: the values of the declared inputs, and the item the trigger emits."
    )
    trigger: str | None = strawberry.field(
        default=None,
        description="Id of the trigger node to start at; if left out the first manual one, else the first.",
    )
    idempotency_key: str | None = strawberry.field(
        default=None, description="The same key and content start one run, however often they are sent."
    )
    until: str | None = strawberry.field(
        default=None, description="Id of the node after which the run ends; what leads nowhere near it is not run."
    )
    only: str | None = strawberry.field(
        default=None, description="Id of the one node to run, on what is given or pinned to the nodes before it."
    )
    given: JSON | None = strawberry.field(
        default=None,
        description="Items taken for what nodes would put out, by node and output port: "
        '{"fetch": {"main": [{"id": 7}]}}. They go before pinned items.',
    )


@strawberry.type(description="A definition that is none, or that cannot run.")
class InvalidDefinition(Problem):
    faults: list[Fault] = sized(description="Everything that is wrong with it.", at_most=20)

    @classmethod
    def of(cls, unsound: domain.Unsound) -> Self:
        return cls(
            code=unsound.code,
            message=unsound.message,
            field=unsound.field,
            next_step=unsound.next_step,
            faults=[Fault.of(fault) for fault in unsound.faults],
        )


@strawberry.type(description="The draft moved on while you worked on it. Nothing was saved.")
class DraftConflict(Problem):
    yours: JSON = strawberry.field(description="The definition you sent.")
    theirs: Revision = strawberry.field(description="The newest revision: what others saved.")
    base: Revision = strawberry.field(description="The revision your changes were based on.")
    workflow: Workflow = strawberry.field(description="The workflow as it is.")


@strawberry.type(description="A run of a draft.")
class DraftRun:
    execution: Execution | None = strawberry.field(description="The run; follow it with executionEvents.")


@strawberry.type(description="A workflow that is no more.")
class DeletedWorkflow:
    id: strawberry.ID = strawberry.field(description="What its id was.")


CreateWorkflowResult = Annotated[
    Workflow | InvalidDefinition | Invalid | Forbidden, strawberry.union("CreateWorkflowResult")
]
SaveDraftResult = Annotated[
    Workflow | DraftConflict | InvalidDefinition | Invalid | Missing | Conflict | Forbidden,
    strawberry.union("SaveDraftResult"),
]
PublishReleaseResult = Annotated[
    Release | InvalidDefinition | Invalid | Missing | Conflict | Forbidden, strawberry.union("PublishReleaseResult")
]
ChangeWorkflowResult = Annotated[
    Workflow | Invalid | Missing | Conflict | Forbidden, strawberry.union("ChangeWorkflowResult")
]
DeleteWorkflowResult = Annotated[
    DeletedWorkflow | Invalid | Missing | Conflict | Forbidden, strawberry.union("DeleteWorkflowResult")
]
RunDraftResult = Annotated[
    DraftRun | InvalidDefinition | Invalid | Missing | Conflict | Forbidden, strawberry.union("RunDraftResult")
]


class AsFaults(AsData):
    """Like AsData, and an unsound definition becomes InvalidDefinition with its faults."""

    async def resolve_async(
        self, next_: Callable[..., Awaitable[Any]], source: Any, info: strawberry.Info, **arguments: Any
    ) -> Any:
        async def guarded(source: Any, info: strawberry.Info, **arguments: Any) -> Any:
            try:
                return await next_(source, info, **arguments)
            except domain.Unsound as unsound:
                return InvalidDefinition.of(unsound)

        return await super().resolve_async(guarded, source, info, **arguments)
