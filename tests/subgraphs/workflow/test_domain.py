"""The aggregate over random histories."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from subgraphs.engine.faults import Fault
from subgraphs.platform.domain import Conflict, Missing, Problem, uuid7
from subgraphs.workflow.domain import AnyChange, Document, DraftSaved, Stale, State, Unsound, Workflow
from tests.subgraphs.workflow.workflow_graph import flow

AUTHOR = uuid4()
DOCUMENTS = [Document.read(flow(name)) for name in "abcd"]
ERROR = Fault(code="graph.loop", message="Nodes wait for each other.")
documents = st.sampled_from(DOCUMENTS)
revisions = st.integers(1, 8)


class Histories(RuleBasedStateMachine):
    """Any order of commands; a plain list of revisions and releases is the model."""

    def __init__(self) -> None:
        super().__init__()
        first = DOCUMENTS[0]
        self.workflow = Workflow.create(uuid7(), name="Flow", author=AUTHOR, message="", document=first, faults=[])
        self.revisions = [first.digest]
        self.releases: list[int] = []
        self.archived = False

    def attempt(self, command: Any, *allowed: type[Problem]) -> bool:
        """Whether it was done; an archived workflow refuses and changes nothing."""
        before = len(self.workflow.fresh)
        try:
            command()
        except Conflict if self.archived else allowed or ():  # noqa: B030 - what may be raised here
            assert len(self.workflow.fresh) == before
            return False
        assert not self.archived
        return True

    @rule(document=documents, base=revisions)
    def save(self, document: Document, base: int) -> None:
        newest = len(self.revisions)
        repeated = base == newest - 1 and self.revisions[-1] == document.digest
        saved = self.attempt(
            lambda: self.workflow.save(document, [], base=base, author=AUTHOR, message="m"), Stale, Missing
        )
        assert saved == ((base == newest or repeated) and not self.archived)
        if saved and not repeated:
            self.revisions.append(document.digest)

    @rule(revision=revisions)
    def restore(self, revision: int) -> None:
        if self.attempt(lambda: self.workflow.restore(revision, [], author=AUTHOR, message=""), Missing):
            self.revisions.append(self.revisions[revision - 1])

    @rule(revision=revisions, faulty=st.booleans())
    def publish(self, revision: int, faulty: bool) -> None:
        faults = [ERROR] if faulty else []
        words: dict[str, Any] = {"document": DOCUMENTS[0], "author": AUTHOR, "name": None, "message": ""}
        if self.attempt(lambda: self.workflow.publish(revision, faults, {}, **words), Missing, Unsound):
            assert not faulty
            self.releases.append(revision)

    @rule(revision=revisions, name=st.sampled_from(["a", "b", None]))
    def name(self, revision: int, name: str | None) -> None:
        self.attempt(lambda: self.workflow.name_revision(revision, name, author=AUTHOR), Missing, Conflict)

    @rule(name=st.sampled_from(["Flow", "Other"]))
    def rename(self, name: str) -> None:
        self.attempt(lambda: self.workflow.rename(name, author=AUTHOR))

    @rule(archived=st.booleans())
    def archive(self, archived: bool) -> None:
        self.workflow.archive(archived, author=AUTHOR)
        self.archived = archived

    @invariant()
    def no_revision_ever_changes(self) -> None:
        state = self.workflow.state
        assert [state.digests[number] for number in range(1, state.draft + 1)] == self.revisions
        assert state.release == len(self.releases)
        assert len(set(state.names.values())) == len(state.names)

    @invariant()
    def a_snapshot_and_its_tail_are_the_whole_history(self) -> None:
        stored = [msgspec.convert(msgspec.to_builtins(each), AnyChange) for each in self.workflow.fresh]
        whole = Workflow.replay(self.workflow.id, stored)
        assert (whole.state, whole.version) == (self.workflow.state, len(stored))
        cut = len(stored) // 2
        early = Workflow.replay(self.workflow.id, stored[:cut])
        kept = msgspec.json.decode(msgspec.json.encode(early.state), type=State)
        later = Workflow.resume(self.workflow.id, kept, cut, stored[cut:])
        assert (later.state, later.version) == (whole.state, whole.version)


TestHistories = pytest.mark.shows("ES-02", "ES-03", "WF-03")(Histories.TestCase)


@pytest.mark.shows("WF-01")
def test_a_stale_save_says_what_is_newest() -> None:
    workflow = Workflow.create(uuid7(), name="F", author=AUTHOR, message="", document=DOCUMENTS[0], faults=[])
    workflow.save(DOCUMENTS[1], [], base=1, author=AUTHOR, message="")
    with pytest.raises(Stale) as caught:
        workflow.save(DOCUMENTS[2], [], base=1, author=AUTHOR, message="")
    assert (caught.value.base, caught.value.newest) == (1, 2)


@pytest.mark.shows("WF-12")
def test_warnings_do_not_keep_a_revision_from_being_published() -> None:
    workflow = Workflow.create(uuid7(), name="F", author=AUTHOR, message="", document=DOCUMENTS[0], faults=[])
    warning = Fault(code="respond.unheard", message="Nobody waits.", severity="warning")
    assert workflow.publish(1, [warning], {}, document=DOCUMENTS[0], author=AUTHOR, name=None, message="") == 1


@pytest.mark.shows("WF-12")
def test_of_many_faults_the_errors_are_kept_first() -> None:
    warning = Fault(code="respond.unheard", message="Nobody waits.", severity="warning")
    faults = [warning] * 200 + [ERROR]
    workflow = Workflow.create(uuid7(), name="F", author=AUTHOR, message="", document=DOCUMENTS[0], faults=faults)
    saved = workflow.fresh[-1]
    assert isinstance(saved, DraftSaved)
    assert saved.faults == (ERROR, *[warning] * 99)
