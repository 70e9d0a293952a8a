"""Operators on values: 64-bit integers that never wrap, doubles by IEEE 754, and int with double as double."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from subgraphs.engine.expression.faults import Budget, ExpressionError
from subgraphs.engine.expression.values import INT_MAX, INT_MIN, UINT_MAX, Kind, Uint, equal, kind, lookup, mismatch

SLOT = 16
"""Bytes counted for one slot of a list or map."""

_LONGEST = timedelta(seconds=315_576_000_000)


def integer(value: int) -> int:
    """`value` if it fits in 64 bits with sign."""
    if INT_MIN <= value <= INT_MAX:
        return value
    raise ExpressionError("The result does not fit in 64 bits.", code="overflow")


def unsigned(value: int) -> Uint:
    """`value` if it fits in 64 bits without sign."""
    if 0 <= value <= UINT_MAX:
        return Uint(value)
    raise ExpressionError("The result does not fit in 64 bits without sign.", code="overflow")


def moment(make: Callable[[], Any]) -> Any:
    """A timestamp or duration, if the result is in range (years 1 to 9999; 10,000 years of 365.25 days)."""
    try:
        result = make()
    except OverflowError:
        result = _LONGEST * 2
    if type(result) is timedelta and abs(result) > _LONGEST:
        raise ExpressionError("The time is out of range.", code="overflow")
    return result


def _numeric(a: type, b: type) -> bool:
    return (a is float and b is int) or (a is int and b is float) or (a is float and b is float)


def add(budget: Budget, a: Any, b: Any) -> Any:
    ta, tb = type(a), type(b)
    if ta is int and tb is int:
        result = a + b
        return result if INT_MIN <= result <= INT_MAX else integer(result)
    if (ta is str and tb is str) or (ta is bytes and tb is bytes):
        budget.make(len(a) + len(b))
        return a + b
    if _numeric(ta, tb):
        return float(a) + float(b)
    if ta is list and tb is list:
        budget.make((len(a) + len(b)) * SLOT)
        return a + b
    if ta is Uint and tb is Uint:
        return unsigned(int(a) + int(b))
    if (ta is timedelta and tb in (timedelta, datetime)) or (ta is datetime and tb is timedelta):
        return moment(lambda: a + b)
    raise mismatch("+", a, b)


def subtract(_: Budget, a: Any, b: Any) -> Any:
    ta, tb = type(a), type(b)
    if ta is int and tb is int:
        return integer(a - b)
    if _numeric(ta, tb):
        return float(a) - float(b)
    if ta is Uint and tb is Uint:
        return unsigned(int(a) - int(b))
    if (ta is datetime and tb in (datetime, timedelta)) or (ta is timedelta and tb is timedelta):
        return moment(lambda: a - b)
    raise mismatch("-", a, b)


def multiply(_: Budget, a: Any, b: Any) -> Any:
    ta, tb = type(a), type(b)
    if ta is int and tb is int:
        return integer(a * b)
    if _numeric(ta, tb):
        return float(a) * float(b)
    if ta is Uint and tb is Uint:
        return unsigned(int(a) * int(b))
    raise mismatch("*", a, b)


def divide(_: Budget, a: Any, b: Any) -> Any:
    ta, tb = type(a), type(b)
    if (ta is int and tb is int) or (ta is Uint and tb is Uint):
        if b == 0:
            raise ExpressionError("Division by zero.", code="division_by_zero")
        quotient = abs(int(a)) // abs(int(b))
        return integer(-quotient if (a < 0) != (b < 0) else quotient) if ta is int else Uint(quotient)
    if _numeric(ta, tb):
        return _quotient(float(a), float(b))
    raise mismatch("/", a, b)


def _quotient(a: float, b: float) -> float:
    if b != 0:
        return a / b
    if a == 0 or math.isnan(a):
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1, b)


def remainder(_: Budget, a: Any, b: Any) -> Any:
    ta, tb = type(a), type(b)
    if (ta is int and tb is int) or (ta is Uint and tb is Uint):
        if b == 0:
            raise ExpressionError("Remainder of a division by zero.", code="division_by_zero")
        if a == INT_MIN and b == -1:
            return integer(-a)
        rest = abs(int(a)) % abs(int(b))
        return (-rest if a < 0 else rest) if ta is int else Uint(rest)
    raise mismatch("%", a, b)


def negate(_: Budget, a: Any) -> Any:
    if type(a) is int:
        return integer(-a)
    if type(a) is float:
        return -a
    raise mismatch("-", a)


def invert(_: Budget, a: Any) -> bool:
    if type(a) is bool:
        return not a
    raise mismatch("!", a)


_NUMBERS = frozenset({int, float, Uint})
_ORDERED = frozenset({str, bytes, bool, datetime, timedelta})


def _ordered(sign: str, a: Any, b: Any) -> None:
    ta, tb = type(a), type(b)
    if not (ta in _NUMBERS and tb in _NUMBERS) and not (ta is tb and ta in _ORDERED):
        raise mismatch(sign, a, b)


def below(_: Budget, a: Any, b: Any) -> bool:
    _ordered("<", a, b)
    return bool(a < b)


def up_to(_: Budget, a: Any, b: Any) -> bool:
    _ordered("<=", a, b)
    return bool(a <= b)


def above(_: Budget, a: Any, b: Any) -> bool:
    _ordered(">", a, b)
    return bool(a > b)


def at_least(_: Budget, a: Any, b: Any) -> bool:
    _ordered(">=", a, b)
    return bool(a >= b)


def different(budget: Budget, a: Any, b: Any) -> bool:
    return not equal(budget, a, b)


def contains(budget: Budget, needle: Any, haystack: Any) -> bool:
    """`needle in haystack`: an element of a list or a key of a map."""
    if isinstance(haystack, Mapping):
        if type(needle) is not str:
            budget.spend(len(haystack))
        return _is_key(needle) and lookup(haystack, needle)[0]
    if type(haystack) is list:
        budget.spend(len(haystack))
        return any(equal(budget, needle, element) for element in haystack)
    raise mismatch("in", needle, haystack)


def _is_key(value: Any) -> bool:
    return type(value) in (str, int, bool, Uint, float)


def index(budget: Budget, container: Any, key: Any) -> Any:
    """`container[key]`."""
    if isinstance(container, Mapping):
        if not _is_key(key):
            raise mismatch("[]", container, key)
        if type(key) is not str:
            budget.spend(len(container))
        present, value = lookup(container, key)
        if not present:
            raise ExpressionError(f"There is no key {key!r}.", code="no_such_key")
        return value
    if type(container) is list:
        return _element(container, key)
    raise mismatch("[]", container, key)


def _element(container: list[Any], key: Any) -> Any:
    if type(key) not in _NUMBERS:
        raise mismatch("[]", container, key)
    if type(key) is float and not key.is_integer():
        raise ExpressionError("The index is no whole number.", code="out_of_range")
    position = int(key)
    if not 0 <= position < len(container):
        raise ExpressionError(f"Index {position} is outside a list of {len(container)}.", code="out_of_range")
    return container[position]


def size(_: Budget, value: Any) -> int:
    if isinstance(value, (str, bytes, list, Mapping)):
        return len(value)
    raise mismatch("size", value)


OPERATORS: dict[str, Callable[..., Any]] = {
    "_+_": add,
    "_-_": subtract,
    "_*_": multiply,
    "_/_": divide,
    "_%_": remainder,
    "-_": negate,
    "!_": invert,
    "_==_": equal,
    "_!=_": different,
    "_<_": below,
    "_<=_": up_to,
    "_>_": above,
    "_>=_": at_least,
    "@in": contains,
    "_[_]": index,
    "size": size,
    "dyn": lambda _, value: value,
    "type": lambda _, value: Kind(kind(value)),
}
