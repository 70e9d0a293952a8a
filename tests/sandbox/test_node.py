"""The node type core.code, run by Executor's own runner against the real sandbox."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from subgraphs.engine.step import Item, Source, StepOutcome
from subgraphs.executor.domain import Example
from subgraphs.executor.nodes.code import NODE
from subgraphs.executor.runner import Runner, Tools
from subgraphs.executor.sandbox import Sandbox
from tests.subgraphs.executor.steps import request


async def run(
    box: Sandbox | None, code: str, *items: dict[str, Any], parameters: dict[str, Any] | None = None, **changes: Any
) -> StepOutcome:
    return await Runner(Tools(sandbox=box)).run(
        request("core.code", {"code": code, **(parameters or {})}, *items, **changes)
    )


def jsons(outcome: StepOutcome, port: str = "main") -> list[dict[str, Any]]:
    assert outcome.error is None, outcome.error
    return [item.json for item in outcome.outputs.get(port, [])]


@pytest.mark.parametrize("example", NODE.manifest.examples, ids=lambda example: example.title)
async def test_example(box: Sandbox, example: Example) -> None:
    outcome = await Runner(Tools(sandbox=box)).run(request("core.code", example.parameters, *example.input))
    if example.error:
        assert outcome.error is not None
        assert outcome.error.code == example.error
    else:
        assert {port: [item.json for item in items] for port, items in outcome.outputs.items()} == example.output


async def test_an_item_passed_on_unchanged_is_the_very_same(box: Sandbox) -> None:
    asked = request(
        "core.code",
        {"code": "return [items[1], { ...items[0], b: 2 }, { ...items[2] }]"},
        {"a": 1},
        {"a": 2},
        {"a": True},
    )
    outcome = await Runner(Tools(sandbox=box)).run(asked)
    same, made, copied = outcome.outputs["main"]
    assert same is asked.inputs["main"][1]
    assert (made.json, made.source) == ({"a": 1, "b": 2}, ())
    assert copied.json == {"a": True}


async def test_an_item_changed_only_in_type_is_a_new_one(box: Sandbox) -> None:
    outcome = await run(box, "item.a = 1; return item", {"a": True}, parameters={"mode": "each"})
    (item,) = outcome.outputs["main"]
    assert item.json["a"] is not True
    assert item.source == (Source("", "main", 0),)


async def test_nodes_are_those_the_item_descends_from(box: Sandbox) -> None:
    hook = [Item({"k": "a"}), Item({"k": "b"})]
    inputs = {"main": [Item({}, source=(Source("hook", "main", 1),)), Item({}, source=(Source("hook", "main", 0),))]}
    scope = {
        "nodes": {"hook": hook, "other": [Item({"x": 1})], "empty": []},
        "trigger": {"t": 1},
        "execution": {"id": "e"},
        "vars": {"v": 2},
    }
    code = """
      const all = nodes.hook.items.map((i) => i.k);
      return { k: nodes.hook.item.k, all, t: trigger.t, v: vars.v, e: execution.id }"""
    outcome = await run(box, code, parameters={"mode": "each"}, inputs=inputs, scope=scope)
    assert jsons(outcome) == [
        {"k": "b", "all": ["a", "b"], "t": 1, "v": 2, "e": "e"},
        {"k": "a", "all": ["a", "b"], "t": 1, "v": 2, "e": "e"},
    ]
    listed = await run(box, "return { n: Object.keys(nodes), e: nodes.empty.item }", inputs=inputs, scope=scope)
    assert jsons(listed) == [{"n": ["hook", "other", "empty"], "e": None}]


async def test_braces_in_code_are_code(box: Sandbox) -> None:
    assert jsons(await run(box, "const o = {a:{b:1}}; return { t: `{{ item.n }}`, o }", {"n": 1})) == [
        {"t": "{{ item.n }}", "o": {"a": {"b": 1}}}
    ]


@pytest.mark.shows("XR-22")
async def test_errors_are_typed_and_placed(box: Sandbox) -> None:
    outcome = await run(box, "const a = 1;\nboom()", {})
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.error.code, outcome.error.field) == ("user", "code.error", "code")
    assert outcome.error.detail["line"] == 2
    slow = await run(box, "for (;;);", {}, parameters={"timeout": "PT0.3S"})
    assert slow.error is not None
    assert (slow.error.kind, slow.error.code, slow.error.retryable) == ("timeout", "timeout.wall", False)


async def test_console_lines_come_with_the_outcome_also_of_a_failure(box: Sandbox) -> None:
    outcome = await run(box, "console.log('one'); console.error('two'); throw new Error('x')", {})
    assert [(line.level, line.text) for line in outcome.lines] == [("info", "one"), ("error", "two")]


@pytest.mark.parametrize(("on_error", "port"), [("continue", "main"), ("output", "error")])
async def test_items_leave_with_the_error_where_the_node_says_so(box: Sandbox, on_error: str, port: str) -> None:
    outcome = await run(box, "throw new Error('x')", {"n": 1}, {"n": 2}, on_error=on_error)
    assert [(json["n"], json["error"]["code"]) for json in jsons(outcome, port)] == [
        (1, "code.error"),
        (2, "code.error"),
    ]


@pytest.mark.parametrize("timeout", ["soon", "PT2M", "PT0S", 5])
async def test_a_time_limit_out_of_range_is_told(box: Sandbox, timeout: Any) -> None:
    outcome = await run(box, "return {}", {}, parameters={"timeout": timeout})
    assert outcome.error is not None
    assert outcome.error.field == "timeout"


@pytest.mark.shows("XR-22")
async def test_without_a_sandbox_the_error_is_ours_and_names_the_doctor(scratch: Path) -> None:
    for box in (None, Sandbox(scratch / "nobody.sock")):
        outcome = await run(box, "return {}", {}, on_error="continue")
        assert outcome.error is not None
        assert (outcome.error.kind, outcome.error.retryable) == ("infrastructure", True)
        assert "linkflow doctor" in outcome.error.message
