"""Expressions made to hurt: each ends within its budget, typed, and leaves the process as it was."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from subgraphs.engine.expression import Budget, ExpressionError, ExpressionLimit, check, compiled


def nested(macro: str, levels: int, core: str) -> str:
    return (
        "[0,1,2,3,4,5,6,7,8,9]"
        + f".{macro}(x, [0,1,2,3,4,5,6,7,8,9]" * (levels - 1)
        + f".{macro}(x, {core}"
        + ")" * levels
    )


LIMITS = [
    nested("map", 9, "x"),
    nested("map", 9, "[x, x, x, x]"),
    nested("map", 8, "[0,1,2].filter(y, y >= x)"),
    nested("all", 9, "x >= 0"),
    nested("exists", 9, "x > 10"),
    nested("exists_one", 9, "x > 10"),
    "[1,1,1,1].map(x, " + "[x,x].map(y, " * 19 + "1" + ")" * 20,
    "item.long.map(a, item.long.map(b, a + b))",
    "item.long.filter(a, item.long.exists(b, a == b + 'x'))",
    "item.long.map(a, item.long == item.long)",
    "item.long.map(a, item.text + item.text)",
    "item.long.map(a, item.text.replace('a', 'bbbbbbbbbbbbbbbb'))",
    "item.long.map(a, item.text.split(''))",
    "item.long.map(a, '%s'.format([item.long]))",
    "item.long.map(a, item.long + item.long)",
    "item.long.map(a, item.long.join(item.text))",
    "item.long.map(a, item.text.matches('(a|a)*b'))",
    "item.text.replace('', item.text)",
    "item.text.matches('(a{1,100}){1,9}b')",
    "item.text.matches('((a?){30}){30}$')",
    "item.long.all(a, item.long.all(b, a in item.long))",
    "item.long.map(a, string(bytes(item.text)))",
]
SCOPE: dict[str, Any] = {"item": {"long": [str(n) for n in range(2_000)], "text": "a" * 100_000}}


@pytest.mark.shows("X05")
@pytest.mark.parametrize("source", LIMITS)
def test_dies_by_budget(source: str) -> None:
    template = compiled("{{ " + source + " }}")
    with pytest.raises(ExpressionLimit) as caught:
        template.evaluate(SCOPE)
    assert caught.value.code == "expression.limit"
    assert caught.value.position >= 2


@pytest.mark.shows("X05")
@pytest.mark.parametrize(
    "source",
    [
        "(" * 20_000 + "1" + ")" * 20_000,
        "[" * 20_000 + "]" * 20_000,
        "{1:" * 20_000 + "1" + "}" * 20_000,
        "(" * 60 + "1" + ")" * 60,
        "[" * 2_000 + "]" * 2_000,
        "!" * 8_000 + "item.",
        "-" * 20_000 + "1",
        "item" + ".a" * 4_000,
        "item" + "[0]" * 2_500,
        "true ? 1 : " * 700 + "1",
        "1" + " + 1" * 2_000,
        "f(" * 60 + ")" * 60,
        "'a'" + ".trim()" * 1_000,
        "1" * 20_000,
        "'" + "a" * 20_000 + "'",
        "item.\0",
        "item.a\ud800",
        "",
        "   ",
    ],
)
def test_refused_before_it_runs(source: str) -> None:
    found = check({"p": "{{ " + source + "}}"})
    assert found
    assert found[0].pointer == "/p"
    with pytest.raises(ExpressionError) as caught:
        compiled({"p": "{{ " + source + "}}"}).evaluate({"item": {}})
    assert caught.value.code in {"expression.too_large", "expression.syntax", "expression.type", "expression.template"}


def test_the_expressions_of_a_node_are_limited_together() -> None:
    """Checking takes time, so a definition of a million small expressions is refused early."""
    many = {"fields": ["{{ 1 }}"] * 3_000}
    assert [fault.code for fault in check(many)] == ["expression.too_large"]
    with pytest.raises(ExpressionError, match="too long in all"):
        compiled(many)
    assert check({"fields": ["{{ 1 }}"] * 1_500}) == []


def test_parameters_of_depth_10_000_are_refused() -> None:
    deep: Any = "{{ 1 }}"
    for _ in range(10_000):
        deep = [deep]
    assert check(deep)[0].code == "expression.too_large"
    with pytest.raises(ExpressionError):
        compiled(deep)


def test_data_of_depth_10_000_is_refused_where_it_must_be_walked() -> None:
    deep: Any = 1
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(ExpressionError, match="nest too deeply"):
        compiled("{{ item.a == item.b }}").evaluate({"item": {"a": deep, "b": [deep]}})
    assert compiled("{{ item.a }}").evaluate({"item": {"a": deep}}) is deep
    with pytest.raises(ExpressionError):
        compiled("x {{ item.a }}").evaluate({"item": {"a": deep}})


@pytest.mark.shows("X08")
@pytest.mark.parametrize("number", range(200))
def test_bad_patterns_are_harmless(number: int) -> None:
    """Patterns that take a backtracking engine exponential or cubic time."""
    parts = [
        "(a+)+",
        "(a|a)*",
        "(a|aa)+",
        "(.*)*",
        "(a*)*b",
        "([a-z]+)*",
        "(\\w+\\s?)+",
        "(a?){50}",
        "(.*a){12}",
        "(x+x+)+y",
    ]
    ends = ["$", "b", "!", "\\d", "(c|d)$"]
    heads = ["", "^", "(?i)", "(?s)"]
    pattern = heads[number // 50] + parts[number % 10] + ends[number // 10 % 5]
    text = "a" * 3_000 + " " * (number % 3) + "x" * 500 + "§"
    started = time.process_time()
    template = compiled("{{ item.text.matches(item.pattern) }}")
    value = template.evaluate({"item": {"text": text, "pattern": pattern}})
    assert value in (True, False)
    assert time.process_time() - started < 5, "a backtracking engine would not have come back"


@pytest.mark.shows("X09")
@pytest.mark.parametrize(
    "key", ["__class__", "__proto__", "constructor", "__dict__", "__init__", "keys", "items", "get"]
)
def test_names_of_the_host_are_mere_keys(key: str) -> None:
    template = compiled("{{ item." + key + " }}")
    assert template.evaluate({"item": {key: 5}}) == 5
    others: list[Any] = [{}, [], "text", 5, None, 1.5]
    for value in others:
        with pytest.raises(ExpressionError):
            template.evaluate({"item": value})


def test_one_budget_serves_many_evaluations() -> None:
    template, budget = compiled("{{ item.l.map(x, x + 1) }}"), Budget(operations=10_000)
    scope = {"item": {"l": list(range(100))}}
    template.evaluate(scope, budget)
    left = budget.operations
    assert left < 10_000
    used = 10_000 - left
    for _ in range(left // used):
        template.evaluate(scope, budget)
    with pytest.raises(ExpressionLimit):
        template.evaluate(scope, budget)


def test_a_limit_is_never_absorbed() -> None:
    source = nested("map", 9, "x")
    for whole in (f"({source}).size() == 0 || true", f"[1].exists(y, ({source}).size() == 0) || true"):
        with pytest.raises(ExpressionLimit):
            compiled("{{ " + whole + " }}").evaluate(json.loads("{}"))
