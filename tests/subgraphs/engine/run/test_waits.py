"""Waits and what ends them, pauses, crashes and doubtful effects, joins, business keys, gates."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from subgraphs.engine.run import (
    Admit,
    Answer,
    Cancel,
    ChildEnded,
    Complete,
    Fire,
    Gate,
    Ignored,
    Pause,
    Recover,
    Resume,
    Settle,
    Signal,
    StepAmbiguous,
    StepFailed,
    StepsCancelled,
    StepStarted,
    StepSucceeded,
    Tag,
)
from subgraphs.engine.step import Item, StepError, StepOutcome
from tests.subgraphs.engine.run.course import SECOND, T0, Course, graph

LINE = graph("a:t b:p c:k d:p", "a>b b>c c>d")


def waiting(kind: str, name: str = "", edges: str = "a>b b>c", **own: Any) -> Course:
    course = Course(graph("a:t b:p c:p d:p", edges, b=own), {"n": 1}, {"n": 2})
    course.wait("b", None, kind, name)
    return course


@pytest.mark.shows("WF-22", "EX-20")
@pytest.mark.parametrize("kind", ["approval", "form", "webhook", "event"])
def test_an_answer_leaves_by_its_port_beside_the_items_that_were_held(kind: str) -> None:
    course = waiting(kind, "Release?", "a>b b.approved>c b.rejected>d")
    assert course.run.status == "waiting"
    assert course.run.timers == {}
    (wait,) = course.run.waits()
    assert (wait.key, wait.kind, wait.name, wait.attempt, wait.deadline) == ("b", kind, "Release?", 1, None)
    assert course.do(Answer(T0, "b", 2, "approved")) == []
    course.do(Answer(T0, "b", 1, "approved", {"note": "fine"}, UUID(int=5)))
    assert course.out("b", "approved") == [{"n": 1, kind: {"note": "fine"}}, {"n": 2, kind: {"note": "fine"}}]
    assert (list(course.run.ready), course.run.steps["d"].status) == (["c"], "skipped")
    assert course.do(Answer(T0, "b", 1, "rejected")) == []
    course.consistent()


@pytest.mark.shows("WF-22")
@pytest.mark.parametrize("kind", ["time", "approval", "signal", "child"])
def test_a_wait_that_outlasts_its_deadline_leaves_by_timeout_if_something_is_there(kind: str) -> None:
    course = Course(graph("a:t b:p c:p", "a>b b.timeout>c", b={"timeout": "PT10S"}))
    course.wait("b", 3600 if kind == "time" else None, kind)
    assert list(course.run.timers) == ["wait:b"]
    assert course.do(Fire(T0 + 9 * SECOND, "wait:b")) == []
    course.fire("wait:b")
    assert course.out("b", "timeout") == [{"n": 1}]
    assert list(course.run.ready) == ["c"]
    assert course.run.holds == {}
    course.consistent()


@pytest.mark.shows("WF-22")
def test_without_one_it_fails_as_its_error_settings_say_and_a_wait_may_bring_its_own_deadline() -> None:
    course = Course(graph("a:t b:p c:p", "a>b b.error>c", b={"onError": "output"}))
    course.wait("b", 60, "approval")
    assert course.run.waits()[0].until is None
    course.fire("wait:b")
    assert course.out("b", "error")[0]["error"]["code"] == "step.wait_timeout"


@pytest.mark.shows("EX-19")
def test_a_signal_ends_the_wait_that_is_oldest_and_is_kept_if_nobody_waits_yet() -> None:
    course = Course(graph("a:t b:p c:p d:p", "a>b a>c a>d"))
    course.do(Signal(T0, "s1", "go", {"first": True}, UUID(int=4)))
    course.do(Signal(T0, "s2", "other"))
    assert course.do(Signal(T0, "s1", "go")) == []
    course.wait("b", None, "signal", "go")
    assert course.out("b") == [{"n": 1, "signal": {"first": True}}]
    assert set(course.run.signals) == {"other"}
    course.wait("c", None, "signal", "go")
    course.wait("d", None, "signal", "go")
    course.do(Signal(T0, "s3", "go", 3))
    assert (course.out("c"), course.run.steps["d"].status) == ([{"n": 1, "signal": 3}], "waiting")
    course.do(Signal(T0, "s4", "go", 4))
    assert course.run.status == "succeeded"
    course.consistent()


@pytest.mark.shows("EX-19")
def test_signals_nobody_waits_for_are_kept_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subgraphs.engine.run.waits.SIGNALS", 2)
    course = Course(LINE)
    for number in range(3):
        course.do(Signal(T0, str(number), "go"))
    assert [event.source for event in course.named(Ignored)] == ["go"]
    assert len(course.run.signals["go"]) == 2


@pytest.mark.shows("WF-16")
def test_a_child_run_brings_its_items_or_its_error() -> None:
    course = waiting("child", edges="a>b b>c")
    course.do(ChildEnded(T0, "b", 1, "succeeded", [{"x": 1}, {"x": 2}], run=UUID(int=7)))
    assert course.out("b") == [{"x": 1}, {"x": 2}]
    assert [item.source[0].index for item in course.run.steps["b"].outputs["main"]] == [0, 1]
    assert course.do(ChildEnded(T0, "b", 1, "succeeded")) == []
    course.consistent()
    course = waiting("child", edges="a>b b>c")
    course.do(ChildEnded(T0, "b", 1, "failed", error=StepError("code.thrown", "No."), run=UUID(int=7)))
    assert course.run.error is not None
    assert (course.run.error.code, course.run.error.detail["execution"]) == ("code.thrown", str(UUID(int=7)))


@pytest.mark.shows("WF-16", "EX-04")
def test_a_call_that_failed_for_want_of_infrastructure_is_tried_again() -> None:
    course = waiting("child", edges="a>b b>c", retry={"attempts": 2, "delay": "PT1S"})
    course.do(ChildEnded(T0, "b", 1, "failed", error=StepError("net", "No.", "infrastructure")))
    course.fire("retry:b")
    assert course.run.running == {"b": 2}


@pytest.mark.shows("EX-09")
def test_a_paused_run_begins_nothing_lets_bodies_end_and_keeps_its_timers_for_later() -> None:
    course = Course(graph("a:t b:k c:k d:p e:k", "a>b a>d b>c d>e"))
    course.wait("d", 60)
    course.do(Pause(T0, UUID(int=5), "lunch"))
    assert course.do(Pause(T0)) == []
    assert (course.run.status, course.run.timers) == ("paused", {})
    assert course.do(Fire(T0 + 99 * SECOND, "wait:d")) == []
    course.ok("b")
    assert (course.run.running, dict(course.run.ready), list(course.run.held)) == ({}, {}, ["c"])
    events = course.do(Resume(T0))
    assert [event.node for event in events if isinstance(event, StepStarted)] == ["c"]
    assert list(course.run.timers) == ["wait:d"]
    course.fire("wait:d")
    course.ok("c", "e")
    assert course.run.status == "succeeded"
    course.consistent()


@pytest.mark.shows("EX-09")
def test_what_computes_only_is_held_too_and_cancel_works_while_paused() -> None:
    course = Course(LINE)
    course.do(Pause(T0))
    assert (dict(course.run.ready), list(course.run.held)) == ({}, ["b"])
    course.do(Resume(T0))
    assert list(course.run.ready) == ["b"]
    course.do(Pause(T0))
    course.do(Cancel(T0, "enough"))
    assert course.run.status == "cancelled"


@pytest.mark.shows("EX-09")
def test_a_crash_while_paused_begins_nothing_before_it_is_resumed() -> None:
    course = Course(LINE)
    course.ok("b")
    course.do(Pause(T0))
    course.do(Recover(T0))
    assert (course.run.running, list(course.run.held)) == ({}, ["c"])
    course.do(Resume(T0))
    assert course.run.running == {"c": 2}
    course.consistent()


@pytest.mark.shows("EX-23", "NO-11")
@pytest.mark.parametrize(
    ("kind", "crash", "parks"),
    [("k", None, False), ("x", None, True), ("x", "retry", False), ("k", "park", True)],
)
def test_what_becomes_of_an_attempt_that_was_cut_off(kind: str, crash: str | None, parks: bool) -> None:
    course = Course(graph(f"a:t b:{kind} c:p", "a>b b>c", b={"onCrash": crash} if crash else {}))
    (event,) = course.do(Recover(T0))
    assert isinstance(event, StepAmbiguous if parks else StepStarted)
    assert course.run.status == ("waiting" if parks else "running")
    assert course.run.ambiguous == ({"b": 1} if parks else {})
    course.consistent()


@pytest.mark.shows("EX-23")
def test_an_ambiguous_step_is_settled_by_whoever_knows() -> None:
    happened = Course(graph("a:t b:x c:p", "a>b b>c"))
    happened.do(Recover(T0))
    assert happened.do(Settle(T0, "b", 2, happened=True)) == []
    happened.do(Settle(T0, "b", 1, happened=True, outputs={"main": [{"id": 7}]}, by=UUID(int=5)))
    assert (happened.out("b"), list(happened.run.ready)) == ([{"id": 7}], ["c"])
    happened.consistent()
    not_yet = Course(graph("a:t b:x c:p", "a>b b>c"))
    not_yet.do(Recover(T0))
    not_yet.do(Settle(T0, "b", 1, happened=False))
    assert (not_yet.run.running, not_yet.run.ambiguous) == ({"b": 2}, {})
    not_yet.ok("b")
    assert list(not_yet.run.ready) == ["c"]
    not_yet.consistent()


@pytest.mark.shows("EX-23")
def test_a_step_that_takes_its_process_with_it_again_and_again_is_given_up() -> None:
    course = Course(graph("a:t b:k c:p", "a>b b.error>c", b={"onError": "output", "retry": {"attempts": 9}}))
    for _ in range(3):
        course.do(Recover(T0))
    assert course.run.running == {"b": 4}
    failed = course.do(Recover(T0))[0]
    assert isinstance(failed, StepFailed)
    assert (failed.error.code, failed.retry_at) == ("step.poison", None)
    assert list(course.run.ready) == ["c"]


@pytest.mark.shows("EX-01")
def test_a_new_owner_begins_what_was_ready_to_reach_outside_and_had_not_begun() -> None:
    course = Course(LINE)
    course.end("b", outputs={"main": [Item({})]})
    left_out = course.events.pop()
    assert isinstance(left_out, StepStarted)
    course.run = course.replayed(course.events)
    (begun,) = course.do(Recover(T0))
    assert isinstance(begun, StepStarted)
    assert (begun.node, begun.attempt, begun.recovered) == (left_out.node, left_out.attempt, False)


JOINED = "a:t s b:k c:k m:{} e:p"


def joined(join: str) -> Course:
    edges = "a>s s.left>b s.right>c b>m c>m m>e"
    course = Course(graph(JOINED.format("p"), edges, m={"join": join}))
    course.end("s", outputs={"left": [Item({"l": 1})], "right": [Item({"r": 1})]})
    return course


@pytest.mark.shows("WF-18")
def test_a_join_of_all_takes_everything_one_of_any_the_first_and_ignores_the_rest() -> None:
    every = joined("all")
    every.ok("b")
    assert list(every.run.ready) == []
    every.ok("c")
    assert [item.json["by"] for item in every.run.inputs("m")["main"]] == ["b", "c"]
    early = joined("any")
    early.ok("c")
    assert list(early.run.ready) == ["m"]
    early.ok("b")
    assert [(event.node, event.source, event.count) for event in early.named(Ignored)] == [("m", "b", 1)]
    assert [item.json["by"] for item in early.run.inputs("m")["main"]] == ["c"]
    early.passing("m", "e")
    assert early.out("e") == [{"by": "c"}]
    assert early.run.status == "succeeded"
    early.consistent()


@pytest.mark.shows("WF-18")
def test_a_join_of_the_first_stops_what_leads_only_to_it() -> None:
    course = joined("first")
    course.ok("b")
    assert [event.nodes for event in course.named(StepsCancelled)] == [("c",)]
    assert (course.run.running, course.run.steps["c"].status) == ({}, "cancelled")
    assert course.do(Complete(T0, "c", 1, StepOutcome({"main": [Item({})]}))) == []
    course.passing("m", "e")
    assert course.run.status == "succeeded"
    course.consistent()


@pytest.mark.shows("WF-18")
def test_a_loser_that_leads_elsewhere_too_goes_on() -> None:
    edges = "a>b a>c b>m c>m c>e"
    course = Course(graph("a:t b:k c:k m:p e:p", edges, m={"join": "first"}))
    course.ok("b")
    assert course.named(StepsCancelled) == []
    course.ok("c")
    course.passing("m", "e")
    assert course.run.status == "succeeded"


@pytest.mark.shows("WF-18")
@pytest.mark.parametrize("join", ["all", "any", "first"])
@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.parametrize("right", [0, 1])
@pytest.mark.parametrize("order", ["bc", "cb"])
def test_the_truth_table_of_joins_with_connections_that_bring_nothing(
    join: str, left: int, right: int, order: str
) -> None:
    """Whatever the order: the node runs if and only if some connection brings items, once, and the run ends."""
    course = Course(graph("a:t b:k c:k m:p", "a>b a>c b>m c>m", m={"join": join}))
    brings = {"b": left, "c": right}
    for key in order:
        if course.run.steps[key].status == "running":
            course.end(key, outputs={"main": [Item({"by": key})] * brings[key]})
    if left or right:
        taken = [item.json["by"] for item in course.run.inputs("m")["main"]]
        alive = [key for key in "bc" if brings[key]]
        first = next(key for key in order if brings[key])
        assert taken == (alive if join == "all" else [first])
        course.ok("m")
        assert len([event for event in course.named(StepSucceeded) if event.node == "m"]) == 1
    else:
        assert course.run.steps["m"].status == "skipped"
    assert course.run.status == "succeeded"
    course.consistent()


@pytest.mark.shows("WF-18")
def test_a_merge_node_says_by_a_parameter_what_it_waits_for() -> None:
    course = Course(graph("a:t b:k c:k m:core.merge", "a>b a>c b>m c>m", m={"parameters": {"wait": "any"}}))
    course.ok("c")
    assert list(course.run.ready) == ["m"]


@pytest.mark.shows("EX-26")
def test_business_keys_come_from_inside_and_outside_within_limits() -> None:
    course = Course(LINE)
    course.end("b", outputs={"main": [Item({})]}, keys={"order": "A1"})
    course.do(Tag(T0, {"customer": "C9"}))
    assert course.run.keys == {"order": "A1", "customer": "C9"}
    assert course.do(Tag(T0, {"x" * 65: "long"})) == []
    course.consistent()
    course = Course(LINE)
    course.end("b", keys={"k": "v" * 257})
    assert course.run.error is not None
    assert (course.run.error.code, course.run.error.kind) == ("run.keys_invalid", "limit")


@pytest.mark.shows("XR-22")
def test_more_items_than_a_step_may_put_out_fail_it_typed() -> None:
    course = Course(graph("a:t b:p c:p", "a>b b.error>c", b={"onError": "output"}))
    course.run.plan = replace(course.run.plan, items=3)
    course.end("b", outputs={"main": [Item({})] * 4})
    assert course.out("b", "error")[0]["error"]["code"] == "step.too_many_items"
    assert course.out("a") == [{"n": 1}]


def test_a_run_with_gates_begins_after_the_last() -> None:
    gates = (Gate(UUID(int=1), "concurrency", holds=True), Gate(UUID(int=2), "batch"))
    course = Course(graph("a:t b:k", "a>b", {"timeout": "PT1M"}), gates=gates)
    assert (course.run.status, course.run.timers, course.run.steps) == ("queued", {}, {})
    assert course.do(Admit(T0, UUID(int=2))) == []
    course.do(Admit(T0, UUID(int=1)))
    assert course.run.status == "queued"
    course.do(Admit(T0 + 5, UUID(int=2), [{"n": 1}, {"n": 2}]))
    assert (course.run.status, course.run.running, course.out("a")) == ("running", {"b": 1}, [{"n": 1}, {"n": 2}])
    assert course.run.timers == {"run": T0 + 5 + 60 * SECOND}
    course.consistent()
    refused = Course(graph("a:t b:k", "a>b"), gates=gates)
    refused.do(Cancel(T0, error=StepError("limit.dropped", "Too many.", "limit")))
    assert (refused.run.status, refused.run.error and refused.run.error.code) == ("cancelled", "limit.dropped")
