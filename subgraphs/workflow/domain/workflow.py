"""The aggregate: a definition under a name, kept in revisions, published in releases.

The draft is the newest revision. Every save makes a revision, a restore too; nothing that was saved changes. A release
pins one revision: it is what runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self
from uuid import UUID

from subgraphs.engine.faults import Fault
from subgraphs.engine.validation import blocking
from subgraphs.platform.domain import Aggregate, Conflict, Invalid, Missing
from subgraphs.workflow.domain.calls import Known
from subgraphs.workflow.domain.changes import (
    AnyChange,
    DraftSaved,
    ReleasePublished,
    RevisionNamed,
    RevisionRestored,
    State,
    WorkflowArchived,
    WorkflowCreated,
    WorkflowDeleted,
    WorkflowRenamed,
    WorkflowUnarchived,
)
from subgraphs.workflow.domain.definitions import Document
from subgraphs.workflow.domain.problems import Stale, Unsound

NAME_LENGTH, MESSAGE_LENGTH = 200, 2000
KEPT_FAULTS = 100
"""Faults kept with a revision, errors first; validateDefinition tells more."""


class Workflow(Aggregate[AnyChange]):
    """The aggregate. Commands check, then record; `apply` only ever believes."""

    def __init__(self, id: UUID) -> None:
        super().__init__(id)
        self.state = State()
        self.documents: dict[str, Document] = {}
        """Documents that changes not yet stored refer to, by digest."""

    @classmethod
    def create(
        cls, id: UUID, *, name: str, author: UUID, message: str, document: Document, faults: list[Fault]
    ) -> Self:
        workflow = cls(id)
        workflow.record(WorkflowCreated(author=author, name=named(name)))
        workflow.save(document, faults, base=0, author=author, message=message)
        return workflow

    @classmethod
    def resume(cls, id: UUID, state: State, version: int, changes: list[AnyChange]) -> Self:
        """From a snapshot at `version` and the changes after it."""
        workflow = cls(id)
        workflow.state, workflow.version = state, version
        for change in changes:
            workflow.apply(change)
            workflow.version += 1
        return workflow

    def save(self, document: Document, faults: list[Fault], *, base: int, author: UUID, message: str) -> int:
        """A new revision; its number. The same content sent twice from the same base is one save."""
        self._must_live()
        draft = self.state.draft
        if base != draft:
            if base == draft - 1 and self.state.digests.get(draft) == document.digest:
                return draft
            if base not in self.state.digests:
                raise Missing(
                    f"There is no revision {base}.",
                    field="input.baseRevision",
                    next_step=f"The newest revision is {draft}.",
                )
            raise Stale(base, draft)
        self.documents[document.digest] = document
        self.record(
            DraftSaved(
                author=author,
                revision=draft + 1,
                parent=draft or None,
                message=noted(message),
                digest=document.digest,
                hash=document.definition.hash,
                faults=_kept(faults),
            )
        )
        return draft + 1

    def restore(self, revision: int, faults: list[Fault], *, author: UUID, message: str) -> int:
        """A new revision with the content of `revision`; its number."""
        self._must_live()
        digest = self.digest_of(revision)
        self.record(
            RevisionRestored(
                author=author,
                revision=self.state.draft + 1,
                parent=self.state.draft,
                source=revision,
                message=noted(message) or f"Restored revision {revision}",
                digest=digest,
                hash=self.state.hashes[revision],
                faults=_kept(faults),
            )
        )
        return self.state.draft

    def name_revision(self, revision: int, name: str | None, *, author: UUID) -> None:
        self._must_live()
        self.digest_of(revision)
        cleaned = named(name) if name is not None else None
        holder = next((number for number, other in self.state.names.items() if other == cleaned), revision)
        if holder != revision:
            raise Conflict(
                f"Revision {holder} has that name.",
                code="name_taken",
                field="input.name",
                next_step="Choose another name, or take it off that revision first.",
            )
        if self.state.names.get(revision) != cleaned:
            self.record(RevisionNamed(author=author, revision=revision, name=cleaned))

    def publish(
        self,
        revision: int,
        faults: list[Fault],
        node_types: Mapping[str, Any],
        *,
        document: Document,
        author: UUID,
        name: str | None,
        message: str,
    ) -> int:
        """A release of `revision`; its number. `document` is what it runs. Errors among the faults refuse it."""
        self._must_live()
        self.digest_of(revision)
        if blocking(faults):
            raise Unsound(f"Revision {revision} cannot run as it stands.", tuple(faults), field="input.revision")
        self.documents[document.digest] = document
        self.record(
            ReleasePublished(
                author=author,
                release=self.state.release + 1,
                revision=revision,
                name=named(name) if name is not None else None,
                message=noted(message),
                digest=document.digest,
                node_types=dict(node_types),
            )
        )
        return self.state.release

    def rename(self, name: str, *, author: UUID) -> None:
        self._must_live()
        cleaned = named(name)
        if cleaned != self.state.name:
            self.record(WorkflowRenamed(author=author, name=cleaned))

    def archive(self, archived: bool, *, author: UUID) -> None:
        """Puts it aside, or takes it back; an archived workflow is not run and not changed."""
        if self.state.archived != archived:
            self.record(WorkflowArchived(author=author) if archived else WorkflowUnarchived(author=author))

    def delete(self, *, author: UUID) -> None:
        self.record(WorkflowDeleted(author=author))

    def digest_of(self, revision: int) -> str:
        """The stored document of a revision; raises Missing."""
        try:
            return self.state.digests[revision]
        except KeyError:
            raise Missing(
                f"There is no revision {revision}.",
                field="input.revision",
                next_step=f"Revisions are numbered 1 to {self.state.draft}.",
            ) from None

    def must_run(self) -> None:
        """Raises when it is archived."""
        self._must_live()

    def _must_live(self) -> None:
        if self.state.archived:
            raise Conflict(
                "This workflow is archived.",
                code="workflow_archived",
                field="input.workflowId",
                next_step="Take it back with archiveWorkflow(archived: false).",
            )

    def apply(self, change: AnyChange) -> None:
        state = self.state
        match change:
            case WorkflowCreated() | WorkflowRenamed():
                state.name = change.name
            case DraftSaved():  # a restored revision is one too
                state.draft = change.revision
                state.digests[change.revision] = change.digest
                state.hashes[change.revision] = change.hash
            case RevisionNamed(name=None):
                state.names.pop(change.revision, None)
            case RevisionNamed():
                state.names[change.revision] = str(change.name)
            case ReleasePublished():
                state.release = change.release
            case WorkflowArchived() | WorkflowUnarchived():
                state.archived = isinstance(change, WorkflowArchived)
            case WorkflowDeleted():
                state.deleted = True


class Workflows(Known, Protocol):
    """Where workflows are kept, within one transaction of one tenant, with what is known of them all."""

    async def load(self, id: UUID) -> Workflow:
        """As of the last change; raises Missing."""

    async def document(self, digest: str) -> Document:
        """A stored document."""

    async def save(self, workflow: Workflow) -> None:
        """Appends the fresh changes at the version they were decided on, or raises Raced and stores nothing."""


def named(name: str) -> str:
    """A name with its outer white space off; raises Invalid when nothing is left, or too much."""
    return _text(name.strip(), "input.name", "A name", least=1, most=NAME_LENGTH)


def noted(message: str) -> str:
    return _text(message.strip(), "input.message", "A message", least=0, most=MESSAGE_LENGTH)


def _text(text: str, field: str, what: str, *, least: int, most: int) -> str:
    if not least <= len(text) <= most or "\0" in text or not _encodable(text):
        raise Invalid(
            f"{what} has {least} to {most} characters of plain Unicode text.",
            code="text_invalid",
            field=field,
            next_step="Send another text.",
        )
    return text


def _kept(faults: list[Fault]) -> tuple[Fault, ...]:
    return tuple(sorted(faults, key=lambda fault: fault.severity != "error")[:KEPT_FAULTS])


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
