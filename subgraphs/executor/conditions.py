"""Typed comparisons, as if, switch and filter offer them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from subgraphs.engine.expression import Budget, ExpressionError, ExpressionLimit
from subgraphs.engine.expression.strings import matches
from subgraphs.executor.domain import fail
from subgraphs.executor.step import type_name

Compare = Callable[[Any, Any], bool]


def _same(left: Any, right: Any) -> bool:
    """JSON equality: 1 equals 1.0, true does not equal 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return left == right
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_same(value, right[key]) for key, value in left.items())
    if isinstance(left, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)


def _number(value: Any, side: str) -> int | float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    raise fail("condition.type", f"The {side} side must be a number, not {type_name(value)}.", field=side)


def _text(value: Any, side: str) -> str:
    if isinstance(value, str):
        return value
    raise fail("condition.type", f"The {side} side must be text, not {type_name(value)}.", field=side)


def _time(value: Any, side: str) -> datetime:
    try:
        moment = datetime.fromisoformat(_text(value, side))
    except ValueError:
        message = f"The {side} side must be a time in RFC 3339, as 2026-05-04T10:00:00Z."
        raise fail("condition.type", message, field=side) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _numbers(compare: Callable[[Any, Any], bool]) -> Compare:
    return lambda left, right: compare(_number(left, "left"), _number(right, "right"))


def _texts(compare: Callable[[Any, Any], bool]) -> Compare:
    return lambda left, right: compare(_text(left, "left"), _text(right, "right"))


def _times(compare: Callable[[Any, Any], bool]) -> Compare:
    return lambda left, right: compare(_time(left, "left"), _time(right, "right"))


def _contains(left: Any, right: Any) -> bool:
    if isinstance(left, list):
        return any(_same(element, right) for element in left)
    if isinstance(left, dict):
        return isinstance(right, str) and right in left
    return _text(right, "right") in _text(left, "left")


def _matches(left: Any, right: Any, budget: Budget) -> bool:
    try:
        return bool(matches(budget, _text(left, "left"), _text(right, "right")))
    except ExpressionLimit as error:
        raise fail(error.code, error.message, kind="limit", field="right") from None
    except ExpressionError as error:
        raise fail("condition.pattern", error.message, field="right") from None


def _empty(left: Any, _: Any) -> bool:
    return left is None or (isinstance(left, (str, list, dict)) and not left)


def _among(left: Any, right: Any) -> bool:
    if not isinstance(right, list):
        raise fail("condition.type", f"The right side must be a list, not {type_name(right)}.", field="right")
    return any(_same(left, element) for element in right)


OPERATORS: Mapping[str, Compare] = {
    "equals": _same,
    "notEquals": lambda left, right: not _same(left, right),
    "lessThan": _numbers(lambda left, right: left < right),
    "lessOrEqual": _numbers(lambda left, right: left <= right),
    "greaterThan": _numbers(lambda left, right: left > right),
    "greaterOrEqual": _numbers(lambda left, right: left >= right),
    "contains": _contains,
    "notContains": lambda left, right: not _contains(left, right),
    "startsWith": _texts(lambda left, right: left.startswith(right)),
    "endsWith": _texts(lambda left, right: left.endswith(right)),
    "matches": lambda left, right: _matches(left, right, Budget()),
    "in": _among,
    "notIn": lambda left, right: not _among(left, right),
    "before": _times(lambda left, right: left < right),
    "after": _times(lambda left, right: left > right),
    "isTrue": lambda left, _: left is True,
    "isFalse": lambda left, _: left is False,
    "isNull": lambda left, _: left is None,
    "isNotNull": lambda left, _: left is not None,
    "isEmpty": _empty,
    "isNotEmpty": lambda left, right: not _empty(left, right),
}
ONE_SIDED = ("isTrue", "isFalse", "isNull", "isNotNull", "isEmpty", "isNotEmpty")

CONDITION: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "left": {"title": "Left", "description": "Usually an expression: {{ item.sum }}.", "x-editor": "expression"},
        "operator": {"type": "string", "enum": list(OPERATORS), "title": "Operator"},
        "right": {
            "title": "Right",
            "x-editor": "expression",
            "x-show": {"operator": [name for name in OPERATORS if name not in ONE_SIDED]},
        },
    },
    "required": ["left", "operator"],
    "additionalProperties": False,
}


def condition_schema() -> dict[str, Any]:
    """The parameters all three node types have in common."""
    return {
        "conditions": {
            "type": "array",
            "items": CONDITION,
            "title": "Conditions",
            "description": "Typed comparisons. Text never equals a number.",
        },
        "combine": {
            "type": "string",
            "enum": ["all", "any"],
            "default": "all",
            "title": "Combine",
            "description": "Whether all conditions must hold or one is enough.",
        },
        "expression": {
            "title": "Expression",
            "description": "Instead of conditions: one expression that is true or false.",
            "x-editor": "expression",
        },
    }


def holds(values: Mapping[str, Any], budget: Budget, field: str = "") -> bool:
    """Whether `expression` is true or, without one, `conditions` hold, at the cost of the step's budget. Raises
    StepFailed when types do not fit."""
    if "expression" in values:
        value = values["expression"]
        if not isinstance(value, bool):
            message = f"The expression must give true or false, not {type_name(value)}."
            raise fail("condition.type", message, field=f"{field}expression")
        return value
    conditions = values.get("conditions") or []
    if not conditions:
        raise fail("parameter.missing", "Set conditions or an expression.", field=f"{field}conditions")
    results = (_holds(condition, budget) for condition in conditions)
    return any(results) if values.get("combine") == "any" else all(results)


def _holds(condition: Any, budget: Budget) -> bool:
    if isinstance(condition, dict) and condition.get("operator") == "matches":
        return _matches(condition.get("left"), condition.get("right"), budget)
    compare = OPERATORS.get(str(condition.get("operator"))) if isinstance(condition, dict) else None
    if compare is None or "left" not in condition:
        raise fail("parameter.invalid", "A condition has left, operator and right.", field="conditions")
    return compare(condition["left"], condition.get("right"))
