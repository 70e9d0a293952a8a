"""The runner as the run's owner sees it: what bodies get, and what becomes of bodies that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest

from subgraphs.engine.step import Item, Source
from subgraphs.executor.domain import Manifest, NodeType, Out, StepFailed, fail
from subgraphs.executor.runner import Runner
from subgraphs.executor.step import Step
from tests.subgraphs.executor.steps import NOON, request


def pure(body: Any, **words: Any) -> Runner:
    node = NodeType(Manifest(type="test.one", title="Test", summary="Test.", category="flow", **words), body)
    return Runner(types={node.key: node})


def waiting(body: Any) -> Runner:
    return pure(body, effect="read")


def set_field(value: Any) -> dict[str, Any]:
    return {"others": "drop", "fields": [{"name": "v", "value": value}]}


def values(parameters: dict[str, Any], *items: dict[str, Any], **changes: Any) -> list[Any]:
    outcome = Runner().run_pure(request("core.set", parameters, *items, **changes))
    assert outcome.error is None, outcome.error
    return [item.json["v"] for item in outcome.outputs["main"]]


@pytest.mark.parametrize(
    ("type", "parameters", "field"),
    [
        ("core.respond", {"body": "{{ item }}"}, "body"),
        ("core.respond", {"body": "everything"}, "body"),
        ("core.set", {"others": "{{ 'some' }}"}, "others"),
        ("core.switch", {"rules": [], "match": "{{ 1 }}"}, "match"),
    ],
)
def test_a_choice_that_does_not_exist_is_told(type: str, parameters: dict[str, Any], field: str) -> None:
    error = Runner().run_pure(request(type, parameters, {"n": 1})).error
    assert error is not None
    assert (error.code, error.field) == ("parameter.invalid", field)


def test_a_choice_may_be_an_expression() -> None:
    outcome = Runner().run_pure(request("core.respond", {"body": "{{ item.form }}"}, {"form": "items"}))
    assert outcome.reply is not None
    assert outcome.reply.body == [{"form": "items"}]


def test_expressions_see_the_item_that_the_item_descends_from() -> None:
    first, second = Item({"n": 1}), Item({"n": 2})
    items = [Item({}, source=(Source("hook", "main", 1),)), Item({}, source=(Source("hook", "main", 0),)), Item({})]
    asked = request("core.set", set_field("{{ nodes.hook.item.n }}"), inputs={"main": items})
    asked.scope = {"nodes": {"hook": [first, second]}}
    outcome = Runner().run_pure(asked)
    assert [item.json["v"] for item in outcome.outputs["main"]] == [2, 1, 1]


def test_an_owner_that_knows_lineage_is_asked() -> None:
    class Nodes(dict[str, Any]):
        def ancestor(self, item: Item, id: str) -> Item | None:
            return self[id][1] if item.json["n"] == 2 else None

    nodes = Nodes(hook=[Item({"m": "a"}), Item({"m": "b"})])
    asked = {"scope": {"nodes": nodes}}
    assert values(set_field("{{ nodes.hook.item.m }}"), {"n": 1}, {"n": 2}, **asked) == ["a", "b"]


def test_all_names_are_there() -> None:
    scope = {"nodes": {"a": [Item({"x": 1})]}, "trigger": {"t": 1}, "vars": {"v": 2}}
    scope["execution"] = {"id": "e", "workflowId": None, "mode": "manual", "startedAt": NOON - timedelta(hours=1)}
    text = "{{ [item.n, items.size(), nodes.a.items.size(), trigger.t, vars.v, now - execution.startedAt] }}"
    assert values(set_field(text), {"n": 1}, scope=scope) == [[1, 1, 1, 1, 2, "3600s"]]


def test_a_node_without_items_is_told() -> None:
    outcome = Runner().run_pure(request("core.set", set_field("{{ nodes.a.item }}"), {}))
    assert outcome.error is not None
    assert outcome.error.message == "The node a has brought no items here."


def test_items_that_pass_are_the_same_objects() -> None:
    asked = request("core.filter", {"expression": "{{ item.n > 1 }}"}, {"n": 1}, {"n": 2})
    outcome = Runner().run_pure(asked)
    assert outcome.outputs["main"][0] is asked.inputs["main"][1]


def test_nothing_a_node_writes_changes_its_input() -> None:
    asked = request("core.set", {"fields": [{"name": "a.b.c", "value": 1}]}, {"a": {"b": {"x": 0}}})
    made = Runner().run_pure(asked).outputs["main"][0]
    assert made.json == {"a": {"b": {"x": 0, "c": 1}}}
    assert asked.inputs["main"][0].json == {"a": {"b": {"x": 0}}}


@pytest.mark.shows("EX-05")
@pytest.mark.parametrize(("on_error", "ports"), [("continue", {"main": 3}), ("output", {"main": 2, "error": 1})])
def test_an_item_that_fails_leaves_with_its_error(on_error: str, ports: dict[str, int]) -> None:
    asked = request("core.set", set_field("{{ 10 / item.n }}"), {"n": 5}, {"n": 0}, {"n": 2}, on_error=on_error)
    outcome = Runner().run_pure(asked)
    assert {port: len(items) for port, items in outcome.outputs.items()} == ports
    failed = next(item for items in outcome.outputs.values() for item in items if "error" in item.json)
    assert failed.json["n"] == 0
    assert failed.json["error"]["code"] == "expression.division_by_zero"
    assert failed.json["error"]["detail"] == {"pointer": "/fields/0/value", "position": 6}


@pytest.mark.shows("X05")
def test_one_budget_for_all_items_of_a_step() -> None:
    bomb = "{{ item.l.map(a, item.l.map(b, a + b)).size() }}"
    asked = request("core.set", set_field(bomb), *({"l": list(range(150))} for _ in range(50)))
    outcome = Runner().run_pure(asked)
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.kind) == ("expression.limit", "limit")


def test_bodies_that_wait_are_refused_as_pure() -> None:
    error = Runner().run_pure(request("core.http", {"url": "http://example.org"}, {})).error
    assert error is not None
    assert error.code == "executor.not_pure"


def test_an_unknown_type_is_typed() -> None:
    runner = Runner()
    assert runner.effect("core.nope", "1.0.0") == "pure"
    assert runner.effect("core.http", "1.0.0") == "unsafe"
    error = runner.run_pure(request("core.nope", {})).error
    assert error is not None
    assert (error.code, error.kind) == ("executor.unknown_type", "infrastructure")


def test_a_fault_of_ours_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    def body(step: Step) -> Iterator[Out]:
        yield "main", step.main.at(0)
        raise RuntimeError("secret canary")

    outcome = pure(body).run_pure(request("test.one", {}, {}))
    assert outcome.error is not None
    assert outcome.error.code == "executor.fault"
    assert "canary" not in outcome.error.message
    assert "canary" in caplog.text
    assert outcome.outputs == {}


def test_a_port_that_is_not_there_is_a_fault() -> None:
    def body(step: Step) -> Iterator[Out]:
        yield "side", step.main.at(0)

    error = pure(body).run_pure(request("test.one", {}, {})).error
    assert error is not None
    assert error.code == "executor.fault"


def test_a_flood_is_cut() -> None:
    def body(step: Step) -> Iterator[Out]:
        item = step.main.at(0)
        while True:
            yield "main", item

    error = pure(body).run_pure(request("test.one", {}, {})).error
    assert error is not None
    assert (error.code, error.kind) == ("step.too_many_items", "limit")


async def test_the_console_is_bounded_and_kept_when_the_step_fails() -> None:
    def printing(step: Step) -> Iterator[Out]:
        for number in range(1500):
            step.print(str(number), level="warn")
        raise fail("test.end", "End.")
        yield

    async def printing_too(step: Step) -> AsyncIterator[Out]:
        for out in printing(step):
            yield out

    for runner in (pure(printing), waiting(printing_too)):
        outcome = await runner.run(request("test.one", {}))
        assert outcome.error is not None
        assert (len(outcome.lines), outcome.lines_dropped) == (1000, 500)
        assert outcome.lines[0].level == "warn"


async def test_a_body_that_is_cut_is_closed() -> None:
    closed = asyncio.Event()

    async def body(step: Step) -> AsyncIterator[Out]:
        try:
            yield "nowhere", step.main.at(0)
        finally:
            closed.set()

    outcome = await waiting(body).run(request("test.one", {}, {}))
    assert outcome.error is not None
    assert closed.is_set()


async def test_time_is_up() -> None:
    async def body(step: Step) -> AsyncIterator[Out]:
        await asyncio.Event().wait()
        yield "main", step.main.at(0)

    error = (await waiting(body).run(request("test.one", {}, timeout=0.05))).error
    assert error is not None
    assert (error.code, error.kind, error.retryable) == ("step.timeout", "timeout", True)


async def test_a_body_that_is_cancelled_cleans_up() -> None:
    began, cleaned = asyncio.Event(), asyncio.Event()

    async def body(step: Step) -> AsyncIterator[Out]:
        try:
            began.set()
            await asyncio.Event().wait()
            yield "main", step.main.at(0)
        finally:
            cleaned.set()

    runner = waiting(body)
    task = asyncio.create_task(runner.run(request("test.one", {}, {})))
    await began.wait()
    assert runner.busy == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned.is_set()
    assert runner.busy == 0


async def test_slots_bound_what_runs_at_once() -> None:
    running, most = 0, 0

    async def body(step: Step) -> AsyncIterator[Out]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        yield "main", step.main.at(0)

    node = NodeType(Manifest(type="test.one", title="T", summary="T.", category="flow", effect="read"), body)
    runner = Runner(types={node.key: node}, workers=3)
    await asyncio.gather(*(runner.run(request("test.one", {}, {})) for _ in range(20)))
    assert most == 3
    assert runner.done == 20


def test_failures_carry_their_error() -> None:
    failed = fail("a.b", "No.", kind="limit", field="x")
    assert isinstance(failed, StepFailed)
    assert (failed.error.code, failed.error.kind, failed.error.field) == ("a.b", "limit", "x")
