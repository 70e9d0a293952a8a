"""Laws of runs with loops, early joins, endings, waits, pauses and crashes, for graphs and courses drawn at random."""

from __future__ import annotations

from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subgraphs.engine.run import (
    Answer,
    Cancel,
    Finished,
    Pause,
    Recover,
    Resume,
    RoundEnded,
    Run,
    Settle,
    Signal,
    StepFailed,
    StepsSkipped,
    StepSucceeded,
    decide,
    evolve,
    restore,
    snapshot,
)
from subgraphs.engine.run.events import encode_one
from subgraphs.engine.run.gate import replay
from subgraphs.engine.step import StepError
from tests.subgraphs.engine.run import model
from tests.subgraphs.engine.run.course import ID, TENANT, Course, graph

NUMBERS = st.lists(st.integers(0, 9), min_size=1, max_size=5)


@st.composite
def constructs(draw: st.DrawFn) -> dict[str, Any]:
    """A sequence of plain nodes, loops (one may lie in another) and joins, with compensations and a finally section."""
    nodes, edges = ["a:t"], list[str]()
    own: dict[str, dict[str, Any]] = {}
    before = "a"
    for index in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["node", "loop", "nested", "join"]))
        name = f"n{index}"
        if kind == "node":
            nodes.append(f"{name}:{draw(st.sampled_from('pkx'))}")
            edges.append(f"{before}>{name}")
            if draw(st.booleans()):
                nodes.append(f"u{name}:k")
                own[name] = {"compensate": f"u{name}"}
            before = name
        elif kind == "join":
            nodes += [f"{name}l:k", f"{name}r:p", f"{name}:p"]
            edges += [f"{before}>{name}l", f"{before}>{name}r", f"{name}l>{name}", f"{name}r>{name}"]
            own[name] = {"join": draw(st.sampled_from(["all", "any", "first"]))}
            before = name
        else:
            parameters = {
                "batchSize": draw(st.integers(1, 2)),
                "parallel": draw(st.integers(1, 3)),
                "tolerated": "100%",
            }
            own[name] = {"parameters": parameters}
            nodes += [f"{name}:loop", f"{name}b:{draw(st.sampled_from('pkx'))}"]
            edges.append(f"{before}>{name}")
            if kind == "nested":
                nodes += [f"{name}i:loop", f"{name}c:{draw(st.sampled_from('pk'))}"]
                own[f"{name}i"] = {"parameters": {"parallel": 2}}
                edges += [f"{name}.each>{name}i", f"{name}i.each>{name}c", f"{name}c>{name}i.next"]
                edges += [f"{name}i.done>{name}b", f"{name}b>{name}.next"]
            else:
                edges += [f"{name}.each>{name}b", f"{name}b>{name}.next"]
            before = f"{name}.done"
    last = {"finally": ["z"]} if draw(st.booleans()) else {}
    if last:
        nodes.append("z:k")
    return graph(" ".join(nodes), " ".join(edges), last, **own)


def move(course: Course, draw: Any, *, kind: bool = True) -> None:
    """One thing that can happen now. `kind`: nothing that fails or stops."""
    run = course.run
    if run.paused:
        course.do(Resume(course.now))
        return
    able = [*run.ready, *run.running, *run.ambiguous, *run.holds, *(n for n in run.timers if n.startswith("retry"))]
    chosen, luck = able[draw(len(able))], draw(20)
    if chosen.startswith("retry:"):
        course.fire(chosen)
    elif chosen in run.ambiguous:
        course.do(Settle(course.now, chosen, run.ambiguous[chosen], happened=False))
    elif chosen in run.holds:
        course.do(Answer(course.now, chosen, run.holds[chosen].attempt, "main", {"ok": True}))
    elif luck == 14:
        course.do(Pause(course.now))
    elif luck == 15:
        course.do(Recover(course.now))
    elif luck == 16:
        course.do(Signal(course.now, str(len(course.events)), "go", 1))
    elif luck == 17 and "@" not in chosen:
        course.wait(chosen, None, "approval")
    elif luck == 18 and not kind:
        course.fail(chosen)
    elif luck == 19 and not kind:
        course.do(Cancel(course.now, kill=bool(draw(2))))
    else:
        course.passing(chosen)


def through(data: st.DataObject, definition: dict[str, Any], numbers: list[int], *, kind: bool) -> Course:
    course = Course(definition, *({"n": n} for n in numbers))
    draw = data.draw(st.integers(0, 2**32).map(Random)).randrange
    for _ in range(2_000):
        if course.run.final:
            return course
        move(course, draw, kind=kind)
    raise AssertionError("the run does not end")


@pytest.mark.shows("WF-17", "WF-18", "EX-01")
@settings(max_examples=80, deadline=None)
@given(st.data(), constructs(), NUMBERS)
def test_whatever_the_order_every_item_comes_through_in_its_place_and_each_step_settles_once(
    data: st.DataObject, definition: dict[str, Any], numbers: list[int]
) -> None:
    """All nodes pass their items on, so loops change nothing, and joins of all double what their branches share."""
    course = through(data, definition, numbers, kind=True)
    if any(isinstance(event, StepFailed) for event in course.events):
        return  # a step that crashed too often
    assert course.run.status == "succeeded"
    expected = numbers
    for node in definition["nodes"]:
        if node["settings"].get("join") == "all":
            expected = expected * 2
    end = [node["id"] for node in definition["nodes"] if node["id"].startswith("n") and len(node["id"]) == 2][-1]
    step = course.run.steps[end]
    assert [item.json["n"] for item in (step.outputs.get("main") or step.outputs["done"])] == expected
    settled = [event.node for event in course.events if isinstance(event, StepSucceeded)]
    settled += [key for event in course.events if isinstance(event, StepsSkipped) for key in event.nodes]
    assert len(settled) == len(set(settled))
    rounds = [(event.node, event.round) for event in course.events if isinstance(event, RoundEnded)]
    assert len(rounds) == len(set(rounds))
    assert not course.run.rounds


@pytest.mark.shows("ES-03", "EX-02")
@settings(max_examples=60, deadline=None)
@given(st.data(), constructs(), NUMBERS)
def test_any_course_ends_once_and_a_snapshot_and_its_tail_equal_the_whole_replay(
    data: st.DataObject, definition: dict[str, Any], numbers: list[int]
) -> None:
    course = through(data, definition, numbers, kind=False)
    assert sum(isinstance(event, Finished) for event in course.events) == 1
    whole = course.replayed(course.events)
    assert snapshot(whole) == snapshot(course.run)
    for cut in data.draw(st.lists(st.integers(0, len(course.events)), max_size=4)):
        restored = restore(ID, TENANT, course.plan, snapshot(course.replayed(course.events[:cut])))
        for event in course.events[cut:]:
            evolve(restored, event)
        assert snapshot(restored) == snapshot(course.run)


@pytest.mark.shows("ES-11")
@settings(max_examples=60, deadline=None)
@given(st.data(), constructs(), NUMBERS)
def test_the_gate_lets_every_course_through(
    data: st.DataObject, definition: dict[str, Any], numbers: list[int]
) -> None:
    course = through(data, definition, numbers, kind=False)
    verdict = replay(course.plan, [b"[" + b",".join(map(encode_one, course.events)) + b"]"], ID, TENANT)
    assert verdict.divergence is None
    assert verdict.run.status == course.run.status


@pytest.mark.shows("EX-01")
@settings(max_examples=100, deadline=None)
@given(
    st.data(),
    model.definitions(stopping=True),
    st.lists(st.fixed_dictionaries({"n": st.integers(0, 9)}), min_size=1, max_size=3),
)
def test_the_short_way_for_plain_steps_decides_what_the_long_way_does(
    data: st.DataObject, definition: dict[str, Any], items: list[dict[str, Any]]
) -> None:
    driver = model.Driver(definition, lambda n: data.draw(st.integers(0, n - 1)))
    driver.start(items)
    asked: list[Any] = []

    def twice(command: Any) -> Any:
        short = decide(driver.run, command)
        plain, driver.run.plain = driver.run.plain, False
        assert decide(driver.run, command) == short
        driver.run.plain = plain
        asked.append(command)
        return Driver_ask(driver, command)

    Driver_ask = model.Driver.ask
    driver.ask = twice  # type: ignore[method-assign]
    driver.finish()
    assert driver.run.final


def test_a_blank_run_of_another_id_is_not_changed_by_deciding() -> None:
    run = Run.blank(UUID(int=9), TENANT, Course(graph("a:t", "")).plan)
    assert decide(run, Cancel(0, error=StepError("x", "y"))) == []
    assert run.version == 0
