"""How runs end: compensations in reverse order, the finally section, cancel and kill; runs of a part, and forks."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from subgraphs.engine.run import (
    Cancel,
    Compensating,
    Concluding,
    Event,
    Finished,
    Fire,
    Fork,
    Pause,
    Recover,
    Replied,
    Respond,
    Resume,
    Run,
    Start,
    StepsSkipped,
    StepStarted,
    StepSucceeded,
    Undo,
    Unrunnable,
    decide,
    evolve,
    recorded,
)
from subgraphs.engine.step import StepError
from tests.subgraphs.engine.run.course import ID, SECOND, T0, TENANT, Course, graph

SAGA = graph(
    "a:t b:k c:k d:k ub:k uc:k f:k",
    "a>b b>c c>d",
    {"finally": ["f"], "timeout": "PT1H"},
    b={"compensate": "ub"},
    c={"compensate": "uc"},
)


def saga(**more: Any) -> Course:
    course = Course(SAGA, **more)
    course.ok("b", "c")
    return course


@pytest.mark.shows("EX-05")
def test_what_succeeded_is_undone_in_reverse_order_then_the_finally_section_runs_then_the_run_has_failed() -> None:
    course = saga()
    course.fail("d", "card.declined")
    (compensating,) = course.named(Compensating)
    assert compensating.undo == (Undo("uc@0", "c"), Undo("ub@1", "b"))
    assert (course.run.status, course.run.running, course.run.timers) == ("running", {"uc@0": 1}, {})
    assert course.run.inputs("uc@0")["main"][0].json == {"by": "c"}
    course.ok("uc@0")
    assert course.run.inputs("ub@1")["main"][0].json == {"by": "b"}
    course.ok("ub@1")
    assert course.run.running == {"f": 1}
    (given,) = course.run.inputs("f")["main"]
    assert given.json["status"] == "failed"
    assert given.json["error"] == {"code": "card.declined", "message": "No.", "kind": "user"}
    course.ok("f")
    assert (course.run.status, course.run.error and course.run.error.code) == ("failed", "card.declined")
    course.consistent()


@pytest.mark.shows("EX-05")
def test_a_compensation_that_fails_is_recorded_and_the_others_go_on() -> None:
    course = saga()
    course.fail("d")
    course.fail("uc@0", "undo.broken")
    assert course.run.running == {"ub@1": 1}
    course.ok("ub@1", "f")
    assert course.run.steps["uc@0"].status == "failed"
    assert course.run.error is not None
    assert course.run.error.code == "x"
    course.consistent()


@pytest.mark.shows("EX-05")
def test_a_run_that_succeeds_undoes_nothing_and_still_runs_its_finally_section() -> None:
    course = saga()
    course.ok("d")
    assert course.named(Compensating) == []
    assert course.run.inputs("f")["main"][0].json == {"status": "succeeded", "error": None, "executionId": str(ID)}
    course.ok("f")
    assert course.run.status == "succeeded"
    course.consistent()


@pytest.mark.shows("WF-20")
def test_a_finally_section_that_fails_fails_a_run_that_had_succeeded_after_all_its_branches() -> None:
    definition = graph("a:t f:k g:k h:p", "f>h", {"finally": ["f", "g"]})
    course = Course(definition)
    course.fail("f", "clean.up")
    assert course.run.steps["h"].status == "skipped"
    course.ok("g")
    assert (course.run.status, course.run.error and course.run.error.code) == ("failed", "clean.up")
    assert course.named(Finished)[0].node == "f"
    course.consistent()


@pytest.mark.shows("EX-08", "EX-05")
def test_cancel_cleans_up_and_kill_does_not() -> None:
    cancelled = saga()
    cancelled.do(Cancel(T0, "enough", UUID(int=5)))
    assert cancelled.run.running == {"uc@0": 1}
    assert cancelled.do(Cancel(T0, "again")) == []
    cancelled.ok("uc@0", "ub@1", "f")
    assert cancelled.run.status == "cancelled"
    assert cancelled.named(Finished)[0].by == UUID(int=5)
    killed = saga()
    (last,) = killed.do(Cancel(T0, kill=True))
    assert isinstance(last, Finished)
    during = saga()
    during.do(Cancel(T0))
    during.do(Cancel(T0, kill=True))
    assert (during.run.status, during.run.running) == ("cancelled", {})


@pytest.mark.shows("EX-10", "EX-05")
def test_a_run_that_takes_too_long_is_undone_too() -> None:
    course = saga()
    course.do(Fire(T0 + 3600 * SECOND, "run"))
    course.ok("uc@0", "ub@1", "f")
    assert course.run.status == "timed_out"


@pytest.mark.shows("EX-05")
def test_each_round_of_a_loop_is_undone_once_with_what_it_had_put_out() -> None:
    edges = "a>l l.each>b b>l.next l.done>c"
    course = Course(graph("a:t l:loop b:k c:k u:k", edges, b={"compensate": "u"}), {"n": 0}, {"n": 1})
    course.ok("b@0", n=0)
    course.ok("b@1", n=1)
    course.fail("c")
    seen = []
    for key in ("u@0", "u@1"):
        seen.append(course.run.inputs(key)["main"][0].json)
        course.ok(key)
    assert seen == [{"by": "b@1", "n": 1}, {"by": "b@0", "n": 0}]
    assert course.run.status == "failed"
    course.consistent()


@pytest.mark.shows("EX-05")
def test_a_compensation_retries_recovers_and_can_be_paused() -> None:
    definition = graph("a:t b:k c:k u:k", "a>b b>c", b={"compensate": "u"}, u={"retry": {"attempts": 2}})
    course = Course(definition)
    course.ok("b")
    course.fail("c")
    course.fail("u@0", "net", "infrastructure")
    course.fire("retry:u@0")
    course.do(Recover(T0))
    course.do(Pause(T0))
    course.ok("u@0")
    assert course.run.status == "failed"
    course.consistent()


@pytest.mark.shows("WH-19")
def test_whoever_waits_for_the_answer_does_not_wait_for_the_cleaning_up() -> None:
    course = saga(respond=Respond("done", "me"))
    course.ok("d", total=3)
    assert course.named(Replied)[0].reply.body == {"by": "d", "total": 3}
    assert course.named(Concluding)
    course.ok("f")
    assert len(course.named(Replied)) == 1
    looped = Course(graph("a:t l:loop b:p", "a>l l.each>b b>l.next"), {"n": 0}, {"n": 1}, respond=Respond("done", "me"))
    looped.passing("b@0", "b@1")
    assert looped.named(Replied)[0].reply.body == [{"n": 0}, {"n": 1}]


@pytest.mark.parametrize(
    ("edges", "settings", "own"),
    [
        ("a>b b>u", {}, {"b": {"compensate": "u"}}),
        ("a>b a>u", {"finally": ["u"]}, {}),
        ("a>b u>b", {"finally": ["u"]}, {}),
        ("a>b", {"finally": ["gone"]}, {}),
    ],
)
def test_an_ending_that_is_entangled_with_the_rest_cannot_be_run(edges: str, settings: Any, own: Any) -> None:
    with pytest.raises(Unrunnable):
        Course(graph("a:t b:k u:k", edges, settings, **own))


PARTS = graph("a:t b:k c:k d:k e:k", "a>b b>c c>d b>e")


@pytest.mark.shows("EX-12")
def test_a_run_until_a_node_runs_what_leads_to_it_and_skips_the_rest() -> None:
    course = Course(PARTS, mode="draft", until="c")
    assert {key for event in course.named(StepsSkipped) for key in event.nodes} == {"d", "e"}
    course.ok("b", "c")
    assert course.run.status == "succeeded"
    assert course.named(StepStarted)[-1].node == "c"
    course.consistent()
    side = Course(graph("a:t b c", "a>b a>c"), mode="draft", until="b")
    assert list(side.run.ready) == ["b"]


@pytest.mark.shows("EX-12")
def test_one_node_alone_runs_on_what_is_given_for_those_before_it() -> None:
    course = Course(PARTS, mode="draft", only="c", given={"b": {"main": [{"cached": True}]}})
    assert course.run.running == {"c": 1}
    assert course.run.inputs("c")["main"][0].json == {"cached": True}
    course.ok("c")
    assert course.run.status == "succeeded"
    assert course.statuses() == {"a": "succeeded", "b": "succeeded", "c": "succeeded", "d": "skipped", "e": "skipped"}
    course.consistent()


@pytest.mark.shows("EX-12")
def test_a_part_inside_a_loop_means_the_loop() -> None:
    edges = "a>l l.each>b b>l.next l.done>c"
    course = Course(graph("a:t l:loop b:k c:k", edges), mode="draft", until="b")
    course.ok("b@0")
    assert course.run.status == "succeeded"
    assert course.run.steps["c"].status == "skipped"


@pytest.mark.shows("WF-21")
@pytest.mark.parametrize("mode", ["draft", "manual", "webhook", "schedule"])
def test_given_items_stand_for_a_node_that_is_reached_in_drafts_only(mode: str) -> None:
    course = Course(PARTS, mode=mode, given={"b": {"main": [{"pinned": True}]}})
    if mode == "draft":
        assert course.named(StepSucceeded)[0].taken == "given"
        assert course.run.inputs("c")["main"][0].json == {"pinned": True}
        course.consistent()
    else:
        assert course.run.running == {"b": 1}
        assert course.run.started is not None
        assert course.run.started.given == {}


@pytest.mark.shows("WF-21")
def test_what_is_pinned_behind_a_branch_that_is_not_taken_stays_unused_and_a_plan_sees_no_pins() -> None:
    definition = graph("a:t b:p c:k d:k", "a>b b.left>c b.right>d")
    course = Course(definition, mode="draft", given={"c": {"main": [{"pinned": 1}]}})
    course.end("b", outputs={"right": course.run.inputs("b")["main"]})
    assert course.run.steps["c"].status == "skipped"
    definition["nodes"][2]["pinned"] = [{"pinned": 1}]
    released = Course(definition, mode="webhook")
    released.end("b", outputs={"left": released.run.inputs("b")["main"]})
    assert released.run.running == {"c": 1}


def forked(course: Course, version: int, definition: Any = None, **fork: Any) -> Course:
    """A run that goes on from where `course` stood after so many events."""
    after = Course(definition or course.definition, started=False)
    after.run = Run.blank(UUID(int=77), TENANT, after.plan)
    origin = course.replayed(course.events[:version])
    items = [{"n": 1}]
    after.do(Start(at=T0 + 9, seed=9, trigger="a", items=items, mode="manual", fork=Fork(run=origin, **fork)))
    return after


def alone(course: Course) -> None:
    """The journal of a fork tells its state without the original's."""
    run = Run.blank(UUID(int=77), TENANT, course.plan)
    for event in course.events:
        evolve(run, event)
    assert (run.status, run.running, run.ready) == (course.run.status, course.run.running, course.run.ready)
    assert {key: step.outputs for key, step in run.steps.items()} == {
        key: step.outputs for key, step in course.run.steps.items()
    }


def version_after(course: Course, key: str) -> int:
    return next(n for n, e in enumerate(course.events, 1) if isinstance(e, StepSucceeded) and e.node == key)


@pytest.mark.shows("ES-06", "EX-11")
def test_a_fork_goes_on_from_a_point_with_edited_outputs_and_the_original_stays() -> None:
    course = Course(PARTS)
    course.ok("b", "c", "d", "e")
    before = list(course.events)
    fork = forked(course, version_after(course, "c"), edits={"b": {"main": [{"edited": True}]}})
    assert fork.run.running == {"c": 1, "e": 1}
    assert fork.run.inputs("c")["main"][0].json == {"edited": True}
    alone(fork)
    fork.ok("e", "c", "d")
    assert fork.run.status == "succeeded"
    assert course.events == before
    alone(fork)


@pytest.mark.shows("EX-11")
def test_a_run_that_failed_is_begun_again_at_the_node_that_failed_on_a_later_release_too() -> None:
    course = Course(PARTS)
    course.ok("b")
    course.fail("c")
    assert course.run.status == "failed"
    later = graph("a:t b:k c:k d:k e:k x:k", "a>b b>c c>x x>d b>e")
    for definition in (None, later):
        fork = forked(course, len(course.events), definition)
        assert fork.run.running == {"c": 1, "e": 1}
        assert fork.out("b") == [{"by": "b"}]
        fork.ok("c", *(["x"] if definition else []), "d", "e")
        assert fork.run.status == "succeeded"
        alone(fork)


@pytest.mark.shows("ES-06")
def test_effects_of_a_fork_can_come_from_the_record_and_what_is_not_recorded_fails_typed() -> None:
    course = Course(PARTS)
    course.ok("b", "c", "d", "e")
    record = recorded(Run.blank(ID, TENANT, course.plan), course.events)
    edits = {"b": {"main": [{"edited": True}]}}
    fork = forked(course, version_after(course, "b"), edits=edits, effects="record", record=record)
    assert fork.named(StepStarted) == []
    assert (fork.run.status, fork.out("d")) == ("succeeded", [{"by": "d"}])
    alone(fork)
    del record["d"]
    fork = forked(course, version_after(course, "b"), edits=edits, effects="record", record=record)
    assert fork.run.error is not None
    assert fork.run.error.code == "fork.no_record"


@pytest.mark.shows("ES-06")
def test_at_every_event_a_fork_of_a_run_with_loops_joins_and_waits_comes_to_its_end() -> None:
    edges = "a>l a>w l.each>b b>c c>l.next l.done>m w>m m>e"
    own = {"l": {"parameters": {"parallel": 2}}, "b": {"retry": {"attempts": 2}}}
    course = Course(graph("a:t l:loop b:k c:p w:p m:p e:k", edges, **own), *({"n": n} for n in range(3)))
    course.wait("w", 60)
    course.passing("b@0", "c@0")
    course.fail("b@1", "net", "infrastructure")
    course.passing("b@2")
    course.fire("retry:b@1")
    course.passing("b@1", "c@2", "c@1")
    course.fire("wait:w")
    course.passing("m", "e")
    assert course.run.status == "succeeded"
    for version in range(1, len(course.events) + 1):
        fork = forked(course, version)
        alone(fork)
        for _ in range(40):
            if fork.run.final:
                break
            fork.passing(next(iter([*fork.run.ready, *fork.run.running])))
        assert fork.run.status == "succeeded", version
        assert [item["n"] for item in fork.out("l", "done")] == [0, 1, 2], version
        alone(fork)


def test_an_edit_of_what_had_not_happened_is_refused() -> None:
    course = Course(PARTS)
    with pytest.raises(Unrunnable, match="no outputs"):
        forked(course, 2, edits={"c": {"main": [{}]}})


def test_deciding_an_ending_changes_nothing() -> None:
    course = saga()
    events: list[Event] = decide(course.run, Cancel(T0))
    assert course.run.ending is None
    assert isinstance(events[0], Compensating)
    course.do(Pause(T0))
    course.do(Resume(T0))
    assert course.run.error is None or isinstance(course.run.error, StepError)
