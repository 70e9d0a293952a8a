"""The rules of CEL that matter to authors, and how expressions stand in parameters."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from subgraphs.engine.expression import ExpressionError, check, compiled

SCOPE: dict[str, Any] = {
    "item": {"i": 7, "d": 0.5, "s": "x", "nil": None, "l": [1], "m": {"a": 1}},
    "items": [{"i": 7}],
    "nodes": {"a": {"item": {"v": 1}, "items": [{"v": 1}]}},
    "trigger": {},
    "execution": {"id": "e", "startedAt": datetime(2026, 1, 1, tzinfo=UTC)},
    "vars": {},
    "now": datetime(2026, 1, 2, 3, 4, 5, 600_000, tzinfo=UTC),
}


def value(source: str) -> Any:
    return compiled("{{ " + source + " }}").evaluate(SCOPE)


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("9223372036854775807 + item.i", "overflow"),
        ("-9223372036854775807 - item.i", "overflow"),
        ("9223372036854775807 * item.i", "overflow"),
        ("0u - 1u", "overflow"),
        ("int(1e30)", "overflow"),
        ("timestamp('9999-12-31T23:59:59Z') + duration('1h')", "overflow"),
        ("item.i / 0", "division_by_zero"),
        ("item.i % 0", "division_by_zero"),
        ("item.nope", "no_such_key"),
        ("item.nil.x", "no_such_key"),
        ("nodes.b.item", "no_such_key"),
        ("item.m['b']", "no_such_key"),
        ("item.l[1]", "out_of_range"),
        ("item.l[-1]", "out_of_range"),
        ("'abc'.substring(2, 1)", "out_of_range"),
        ("item.i + item.s", "no_such_overload"),
        ("item.s.x", "no_such_overload"),
        ("item.i && true", "no_such_overload"),
        ("item.i ? 1 : 2", "no_such_overload"),
        ("item.s < item.i", "no_such_overload"),
        ("int('4x')", "bad_argument"),
        ("timestamp('yesterday')", "bad_argument"),
        ("duration('1 day')", "bad_argument"),
        ("'a'.matches(item.s + '(')", "bad_argument"),
        ("'%d'.format(['a'])", "no_such_overload"),
        ("now.getHours('../../etc/passwd')", "bad_argument"),
    ],
)
def test_errors_are_typed(source: str, code: str) -> None:
    assert check("{{ " + source + " }}") == []
    with pytest.raises(ExpressionError) as caught:
        value(source)
    assert caught.value.code == f"expression.{code}"
    assert 3 <= caught.value.position <= len(source) + 3


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("1 + 0.5", 1.5),
        ("item.i * 0.5", 3.5),
        ("0.5 < 1", True),
        ("1 <= 0.5", False),
        ("item.i == 7.0", True),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("1.0 / 0.0", "Infinity"),
        ("0.0 / 0.0", "NaN"),
        ("[1.0 / 0.0]", ["Infinity"]),
        ("item.nope || true", True),
        ("false && item.nope", False),
        ("item.nope && false", False),
        ("[item, 1].exists(x, x == 1)", True),
        ("dyn(1) == true", False),
        ("dyn('1') == 1", False),
        ("{1: 'a'}[dyn(1.0)]", "a"),
        ("b'abc'", "YWJj"),
        ("7u", 7),
        ("now", "2026-01-02T03:04:05.600Z"),
        ("execution.startedAt", "2026-01-01T00:00:00Z"),
        ("now - execution.startedAt", "97445.600s"),
        ("[now]", ["2026-01-02T03:04:05.600Z"]),
        ("type(now) == google.protobuf.Timestamp", True),
        ("has(nodes.b)", False),
        ("'é€😀'.size()", 3),
        ("'ab'.substring(0, 2)", "ab"),
        ("'abc'.substring(1, 2)", "b"),
        ("''.split('')", [""]),
    ],
)
def test_values(source: str, expected: Any) -> None:
    got = value(source)
    assert got == expected
    assert type(got) is type(expected)


@pytest.mark.parametrize(
    ("parameters", "pointer", "position"),
    [
        ({"a": {"b": ["x", "{{ item. }}"]}}, "/a/b/1", 9),
        ({"a~/b": "ab {{ 1 + 'x' }}"}, "/a~0~1b", 8),
        ("{{ nope }}", "", 3),
        ("text {{ item.a", "", 5),
        ("{{ nodes.a }}", "", 8),
        ("{{ nodes.a.itm }}", "", 10),
        ("{{ nodes[item.i].item }}", "", 8),
        ("{{ execution.nope }}", "", 12),
        ("{{ 'a'.matches('(') }}", "", 15),
        ("{{ nodes }}", "", 3),
        ("{{ google.protobuf.Duration{seconds: 1} }}", "", 3),
        ("{{\n item.a +\n  zz }}", "", 15),
    ],
)
def test_faults_have_a_place(parameters: Any, pointer: str, position: int) -> None:
    found = check(parameters)
    assert len(found) == 1
    assert found[0].pointer == pointer
    assert abs(found[0].position - position) <= 12 if "Duration" in str(parameters) else found[0].position == position
    with pytest.raises(ExpressionError):
        compiled(parameters)


def test_all_faults_are_found() -> None:
    found = check({"a": "{{ x }} {{ 1 + 'a' }}", "b": ["{{ y + z }}"]})
    assert [fault.pointer for fault in found] == ["/a", "/a", "/b/0", "/b/0"]


def test_what_a_template_reads_is_known() -> None:
    template = compiled(
        {"a": "{{ nodes.hook.item.x + item.y }}", "b": {"c": ["{{ has(nodes.other) ? now : now }}", 5]}}
    )
    assert template.nodes == {"hook", "other"}
    assert template.uses == {"nodes", "item", "now"}
    assert not template.constant
    assert compiled({"a": 1, "b": "no braces }}"}).constant


def test_a_smaller_set_of_names_can_be_asked_for() -> None:
    assert check("{{ now }}", names=frozenset({"item"}))[0].message == "Undeclared reference to 'now'"
    assert check("{{ item }}", names=frozenset({"item"})) == []


def test_constant_parameters_come_back_as_they_are() -> None:
    parameters: dict[str, Any] = {"a": [1, 2.5, None, True, "x", {"b": []}]}
    assert compiled(parameters).evaluate({}) == parameters


def test_a_loop_variable_hides_a_name_and_gives_it_back() -> None:
    assert value("[1, 2].map(item, item).size() + item.i") == 9
    assert value("[[1, 2], [3]].map(x, x.map(x, x * 2))") == [[2, 4], [6]]
