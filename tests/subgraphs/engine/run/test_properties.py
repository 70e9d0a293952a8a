"""Laws of a run that hold for every graph and every order in which its steps end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subgraphs.engine.run import (
    FINAL,
    Command,
    Finished,
    Recover,
    Run,
    Started,
    StepAmbiguous,
    StepFailed,
    StepsSkipped,
    StepStarted,
    StepSucceeded,
    decide,
    evolve,
    replay,
    restore,
    snapshot,
)
from tests.subgraphs.engine.run import model

ITEMS = st.lists(st.fixed_dictionaries({"n": st.integers(0, 9)}), min_size=1, max_size=3)
ENDS = {"succeeded", "failed", "cancelled", "timed_out"}
MOVES = {
    "queued": {"running", "waiting", "paused"} | ENDS,
    "running": {"running", "waiting", "paused"} | ENDS,
    "waiting": {"running", "waiting", "paused"} | ENDS,
    "paused": {"running", "waiting", "paused"} | ENDS,
}


def _driver(data: st.DataObject, definition: dict[str, Any]) -> Any:
    return model.Driver(definition, lambda n: data.draw(st.integers(0, n - 1)))


@pytest.mark.shows("EX-01")
@settings(max_examples=150, deadline=None)
@given(st.data(), model.definitions(), ITEMS)
def test_any_order_gives_what_a_plain_interpreter_gives_and_each_step_commits_once(
    data: st.DataObject, definition: dict[str, Any], items: list[dict[str, Any]]
) -> None:
    driver = _driver(data, definition)
    driver.start(items)
    driver.finish()
    assert driver.run.status == "succeeded"
    assert model.outputs(driver.run) == model.expected(definition, items)
    settled: list[str] = []
    for event in driver.events:
        match event:
            case StepSucceeded(node=node):
                settled.append(node)
            case StepFailed(node=node, outputs=outputs) if outputs is not None:
                settled.append(node)
            case StepsSkipped(nodes=nodes):
                settled.extend(nodes)
            case Started(trigger=trigger):
                settled.append(trigger)
    assert sorted(settled) == sorted(driver.plan.nodes)


@pytest.mark.shows("EX-02")
@settings(max_examples=150, deadline=None)
@given(st.data(), model.definitions(stopping=True), ITEMS, st.lists(model.commands, max_size=25))
def test_only_legal_moves_and_a_final_state_never_changes(
    data: st.DataObject, definition: dict[str, Any], items: list[dict[str, Any]], strange: list[Command]
) -> None:
    driver = _driver(data, definition)
    driver.start(items)
    for command in strange:
        if not driver.run.final and data.draw(st.booleans()):
            driver.step()
        before, version = driver.run.status, driver.run.version
        driver.ask(command)
        if before in FINAL:
            assert (driver.run.status, driver.run.version) == (before, version)
        else:
            assert driver.run.status in MOVES[before]
    driver.finish()
    assert sum(isinstance(event, Finished) for event in driver.events) == 1
    assert isinstance(driver.events[-1], Finished)


@pytest.mark.shows("ES-02", "ES-03")
@settings(max_examples=100, deadline=None)
@given(st.data(), model.definitions(stopping=True), ITEMS)
def test_a_snapshot_and_its_tail_equal_the_whole_replay(
    data: st.DataObject, definition: dict[str, Any], items: list[dict[str, Any]]
) -> None:
    driver = _driver(data, definition)
    driver.start(items)
    for _ in range(data.draw(st.integers(0, 12))):
        if not driver.run.final:
            driver.step()
    live = snapshot(driver.run)
    whole = replay(Run.blank(model.RUN, model.TENANT, driver.plan), driver.events)
    assert snapshot(whole) == live
    cut = data.draw(st.integers(0, len(driver.events)))
    head = replay(Run.blank(model.RUN, model.TENANT, driver.plan), driver.events[:cut])
    restored = restore(model.RUN, model.TENANT, driver.plan, snapshot(head))
    assert restored.version == cut
    assert snapshot(replay(restored, driver.events[cut:])) == live


@settings(max_examples=60, deadline=None)
@given(st.data(), model.definitions(), ITEMS)
def test_deciding_changes_nothing(data: st.DataObject, definition: dict[str, Any], items: list[dict[str, Any]]) -> None:
    driver = _driver(data, definition)
    driver.start(items)
    while not driver.run.final:
        before = snapshot(driver.run)
        for command in data.draw(st.lists(model.commands, max_size=3)):
            decide(driver.run, command)
        assert snapshot(driver.run) == before
        driver.step()


@pytest.mark.shows("EX-01")
@settings(max_examples=100, deadline=None)
@given(st.data(), model.definitions(), ITEMS)
def test_a_takeover_at_any_instant_still_gives_the_same_outputs(
    data: st.DataObject, definition: dict[str, Any], items: list[dict[str, Any]]
) -> None:
    """The owner dies after any event; the next one folds the journal and begins again what had begun."""
    driver = _driver(data, definition)
    driver.start(items)
    while not driver.run.final:
        if data.draw(st.integers(0, 3)) == 0:
            driver.run = replay(Run.blank(model.RUN, model.TENANT, driver.plan), driver.events)
            began = dict(driver.run.running)
            for event in driver.ask(Recover(at=driver.now)):
                assert isinstance(event, StepStarted | StepAmbiguous | StepFailed)
                if isinstance(event, StepFailed):
                    assert event.error.code == "step.poison"
                    return
                parked = isinstance(event, StepAmbiguous)
                assert parked == driver.plan.nodes[event.node].type.endswith("unsafe")
                assert event.attempt == began[event.node] + (not parked)
        driver.step()
    assert model.outputs(driver.run) == model.expected(definition, items)


def test_evolving_counts_versions() -> None:
    driver = model.Driver({"nodes": [{"id": "n0", "type": "test.trigger", "version": "1"}]}, lambda n: 0)
    driver.start([{"n": 1}])
    assert driver.run.version == len(driver.events) == 2
    assert evolve(Run.blank(model.RUN, model.TENANT, driver.plan), driver.events[0]).version == 1
