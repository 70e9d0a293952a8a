"""Loops: rounds, failures borne and not, lineage, nesting, and that their length costs no memory."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from subgraphs.engine.run import (
    Cancel,
    Complete,
    RoundEnded,
    RoundStarted,
    StepsCancelled,
    ancestor,
    decide,
    evolve,
    snapshot,
)
from subgraphs.engine.run.compiling import MOST_ROUNDS
from subgraphs.engine.run.parts import Unrunnable
from subgraphs.engine.step import Item, StepError, StepOutcome
from tests.subgraphs.engine.run.course import Course, graph

EDGES = "a>l l.each>b b>c c>l.next l.done>d"


def looped(count: int, *, body: str = "p", settings: dict[str, Any] | None = None, **parameters: Any) -> Course:
    own = {"l": {"parameters": parameters, **(settings or {})}}
    return Course(graph(f"a:t l:loop b:{body} c d", EDGES, **own), *({"n": n} for n in range(count)))


@pytest.mark.shows("WF-17")
def test_rounds_come_one_after_another_and_what_comes_back_leaves_in_their_order() -> None:
    course = looped(3)
    assert list(course.run.ready) == ["b@0"]
    for number in range(3):
        assert [item.json for item in course.run.inputs(f"b@{number}")["main"]] == [{"n": number}]
        course.passing(f"b@{number}")
        course.ok(f"c@{number}", n=number)
    assert list(course.run.ready) == ["d"]
    assert [item["n"] for item in course.out("l", "done")] == [0, 1, 2]
    course.ok("d")
    assert course.run.status == "succeeded"
    assert set(course.run.steps) == {"a", "l", "d"}
    course.consistent()


@pytest.mark.shows("WF-17")
def test_batches_side_by_side_leave_in_the_order_of_rounds_whatever_ends_first() -> None:
    course = looped(7, body="k", batchSize=2, parallel=3)
    assert list(course.run.running) == ["b@0", "b@1", "b@2"]
    course.passing("b@2", "c@2", "b@0", "c@0")
    assert sorted(course.run.running) == ["b@1", "b@3"]
    course.passing("b@3", "c@3", "b@1", "c@1")
    assert [item["n"] for item in course.out("l", "done")] == list(range(7))
    assert [(event.first, event.count) for event in course.named(RoundStarted)] == [(0, 2), (2, 2), (4, 2), (6, 1)]
    course.consistent()


@pytest.mark.shows("WF-17", "EX-05")
def test_a_failure_borne_leaves_by_done_with_its_error_and_one_too_many_fails_the_loop() -> None:
    course = looped(4, tolerated=1)
    course.passing("b@0", "c@0")
    course.fail("b@1", "net.down")
    course.passing("b@2", "c@2", "b@3", "c@3")
    done = course.out("l", "done")
    assert [item["n"] for item in done] == [0, 1, 2, 3]
    assert done[1]["error"] == {"code": "net.down", "message": "No.", "kind": "user"}
    course.consistent()

    course = looped(4, tolerated=1)
    course.fail("b@0", "net.down")
    course.fail("b@1")
    error = course.run.error
    assert course.run.status == "failed"
    assert error is not None
    assert (error.code, error.detail["failed"], error.detail["rounds"]) == ("loop.too_many_failures", 2, 4)
    assert error.detail["first"]["code"] == "net.down"


@pytest.mark.shows("WF-17")
def test_the_share_that_may_fail_counts_all_rounds_and_a_failed_loop_can_carry_on() -> None:
    course = looped(10, tolerated="20%", settings={"onError": "continue"})
    for number in range(3):
        course.fail(f"b@{number}")
    assert course.statuses()["l"] == "failed"
    assert [item["n"] for item in course.out("l")] == list(range(10))
    assert course.out("l")[0]["error"]["code"] == "loop.too_many_failures"
    assert course.statuses()["d"] == "skipped"
    assert course.run.status == "succeeded"


@pytest.mark.shows("WF-17")
def test_a_failed_round_stops_what_runs_of_it_and_leaves_the_others_alone() -> None:
    own = {"l": {"parameters": {"parallel": 2, "tolerated": 5}}}
    course = Course(
        graph("a:t l:loop b:k c:k d:k", "a>l l.each>b l.each>c b>d c>d d>l.next", **own), {"n": 0}, {"n": 1}
    )
    course.ok("b@0")
    course.fail("c@0")
    assert [event.nodes for event in course.named(StepsCancelled)] == []
    course.fail("b@1")
    assert [event.nodes for event in course.named(StepsCancelled)] == [("c@1",)]
    assert course.run.running == {}
    assert course.run.status == "succeeded"
    assert [event.status for event in course.named(RoundEnded)] == ["failed", "failed"]
    course.consistent()


@pytest.mark.shows("WF-17")
def test_a_step_that_carries_on_with_its_error_fails_no_round() -> None:
    course = Course(graph("a:t l:loop b:k", "a>l l.each>b b.error>l.next", b={"onError": "output"}))
    course.fail("b@0")
    assert course.out("l", "done") == [{"n": 1, "error": {"code": "x", "message": "No.", "kind": "user"}}]
    assert course.run.status == "succeeded"


@pytest.mark.shows("WF-17")
def test_a_loop_that_collects_nothing_tells_its_figures() -> None:
    course = looped(3, collect=False, tolerated=1)
    course.passing("b@0", "c@0")
    course.fail("b@1")
    course.passing("b@2", "c@2")
    assert course.out("l", "done") == [{"rounds": 3, "failed": 1}]
    course.consistent()


@pytest.mark.shows("WF-17")
def test_loops_in_loops_and_lineage_through_them() -> None:
    edges = "a>l l.each>m m.each>b b>m.next m.done>c c>l.next l.done>d"
    course = Course(
        graph("a:t l:loop m:loop b c d", edges, l={"parameters": {"batchSize": 2}}), {"n": 0}, {"n": 1}, {"n": 2}
    )
    for outer, inner in ((0, 0), (0, 1), (1, 0)):
        key = f"b@{outer}.{inner}"
        (item,) = course.run.inputs(key)["main"]
        assert ancestor(course.run, item, "a") is not None
        assert course.run.seen(key, "m") is course.run.rounds[f"m@{outer}.{inner}"]
        assert course.run.seen(key, "l") is course.run.rounds[f"l@{outer}"]
        assert course.run.seen(key, "a") is course.run.steps["a"]
        course.end(key, outputs={"main": [Item({"m": item.json["n"]})]})
        if (outer, inner) != (0, 0):
            course.passing(f"c@{outer}")
    done = course.run.steps["l"].outputs["done"]
    assert [item.json for item in done] == [{"m": 0}, {"m": 1}, {"m": 2}]
    assert [item.source[0].index for item in done] == [0, 1, 2]
    assert all(
        ancestor(course.run, item, "a") is course.run.steps["a"].outputs["main"][n] for n, item in enumerate(done)
    )
    course.consistent()


@pytest.mark.shows("EX-27")
def test_an_item_that_a_round_made_of_several_names_them_all() -> None:
    course = looped(4, batchSize=2)
    for number in range(2):
        course.passing(f"b@{number}")
        course.ok(f"c@{number}")
    assert [tuple(each.index for each in item.source) for item in course.run.steps["l"].outputs["done"]] == [
        (0, 1),
        (2, 3),
    ]


@pytest.mark.shows("WF-17", "EX-10")
def test_too_many_rounds_fail_the_loop_before_the_first() -> None:
    course = looped(3, maxRounds=2)
    assert course.run.error is not None
    assert (course.run.error.code, course.run.error.kind) == ("loop.too_many_rounds", "limit")
    assert course.named(RoundStarted) == []
    assert MOST_ROUNDS == 1_000_000


def test_a_wait_and_a_retry_within_a_round() -> None:
    course = looped(2, body="k")
    course.wait("b@0", 60)
    assert course.run.timers == {"wait:b@0": course.run.holds["b@0"].until}
    course.fire("wait:b@0")
    course.passing("c@0")
    own = {"b": {"retry": {"attempts": 2, "delay": "PT1S"}, "totalTimeout": "PT9S"}}
    course = Course(graph("a:t l:loop b:k", "a>l l.each>b b>l.next", **own))
    course.end("b@0", error=StepError("net", "", "infrastructure"))
    assert set(course.run.timers) == {"retry:b@0", "node:b@0"}
    course.fire("retry:b@0")
    course.passing("b@0")
    assert (course.run.status, course.run.alarms) == ("succeeded", {})
    course.consistent()


@pytest.mark.shows("EX-08")
def test_cancelling_ends_all_rounds() -> None:
    course = looped(5, body="k", parallel=3)
    course.do(Cancel(course.now, "enough"))
    assert course.run.status == "cancelled"
    assert course.run.running == {}


@pytest.mark.parametrize(
    ("nodes", "edges"),
    [
        ("a:t l:loop b", "a>l l>b"),
        ("a:t l:loop b c", "a>l l.each>b b>l.next a>b"),
        ("a:t l:loop b c", "a>l l.each>b b>l.next b>c l.done>c"),
        ("a:t l:loop b c", "a>l l.each>b b>l.next a>c c>l.next"),
    ],
)
def test_a_body_that_is_none_cannot_be_run(nodes: str, edges: str) -> None:
    with pytest.raises(Unrunnable):
        Course(graph(nodes, edges))


@pytest.mark.shows("EX-22")
def test_a_hundred_thousand_rounds_finish_and_leave_nothing_behind() -> None:
    course, most = looped(100_000, collect=False), 0
    run, items = course.run, {"main": [Item({"n": 1})]}
    course.events.clear()
    for number in range(100_000):
        for id in ("b", "c"):
            _step(course, f"{id}@{number}", items)
        most = max(most, len(run.steps) + len(run.rounds) + len(run.pending) + len(run.fed) + len(run.alarms))
    assert list(run.ready) == ["d"]
    assert most < 30
    assert len(snapshot(run)) < 60 * 100_000 + 10_000  # the items the loop was given
    assert course.out("l", "done") == [{"rounds": 100_000, "failed": 0}]


@pytest.mark.shows("EX-22")
def test_a_round_costs_the_same_whether_it_is_the_tenth_or_the_twenty_thousandth() -> None:
    course, calls = looped(20_000), 0
    items = {"main": [Item({"n": 1})]}

    def counted(*_: object) -> None:
        nonlocal calls
        calls += 1

    found = []
    for number in range(20_000):
        if number in (10, 19_990):
            calls = 0
            sys.setprofile(counted)
        for id in ("b", "c"):
            _step(course, f"{id}@{number}", items)
        if number in (10, 19_990):
            sys.setprofile(None)
            found.append(calls)
    assert found[0] == found[1]


def _step(course: Course, key: str, items: dict[str, list[Item]]) -> None:
    for event in decide(course.run, Complete(course.now, key, 1, StepOutcome(items))):
        evolve(course.run, event)
