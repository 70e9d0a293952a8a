"""CEL values as Python has them: None, bool, int, float, str, bytes, list, dict, datetime, timedelta, and two more."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from subgraphs.engine.expression.faults import NESTING, Budget, ExpressionError

INT_MIN, INT_MAX, UINT_MAX = -(2**63), 2**63 - 1, 2**64 - 1


class Uint(int):
    """An unsigned integer of 64 bits (`1u`)."""

    __slots__ = ()


class Kind:
    """A type as a value: what `type(x)` gives and what `int`, `string`, … stand for."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kind) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)


_KINDS: dict[type, str] = {
    type(None): "null_type",
    bool: "bool",
    int: "int",
    Uint: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    tuple: "list",
    dict: "map",
    datetime: "google.protobuf.Timestamp",
    timedelta: "google.protobuf.Duration",
    Kind: "type",
}


def kind(value: Any) -> str:
    """The CEL name of the value's type."""
    return _KINDS.get(type(value)) or ("map" if isinstance(value, Mapping) else "list")


def mismatch(function: str, *values: Any) -> ExpressionError:
    """No overload of `function` takes these."""
    kinds = ", ".join(kind(value).rsplit(".", 1)[-1].lower() for value in values)
    return ExpressionError(f"{function} does not take ({kinds}).", code="no_such_overload")


_PLAIN = frozenset({str, bytes, datetime, timedelta, bool, type(None), Kind})
_NUMBERS = frozenset({int, float, Uint})


def equal(budget: Budget, a: Any, b: Any, depth: int = NESTING) -> bool:
    """CEL equality: numbers by value across their types, lists and maps by content, other types never equal."""
    kind_a, kind_b = type(a), type(b)
    if kind_a in _PLAIN:
        return kind_a is kind_b and bool(a == b)
    if kind_a in _NUMBERS:
        return kind_b in _NUMBERS and bool(a == b)
    if kind_b in _PLAIN or kind_b in _NUMBERS:
        return False
    if depth == 0:
        raise ExpressionError("These values nest too deeply to be compared.", code="limit")
    if isinstance(a, Mapping) != isinstance(b, Mapping) or len(a) != len(b):
        return False
    budget.spend(2 * len(a))
    if isinstance(a, Mapping):
        return all(_same_entry(budget, b, key, value, depth) for key, value in a.items())
    return all(equal(budget, x, y, depth - 1) for x, y in zip(a, b, strict=True))


def _same_entry(budget: Budget, other: Mapping[Any, Any], key: Any, value: Any, depth: int) -> bool:
    present, found = lookup(other, key)
    return present and equal(budget, value, found, depth - 1)


def lookup(mapping: Mapping[Any, Any], key: Any) -> tuple[bool, Any]:
    """(present, value). Python holds True for 1; CEL does not."""
    if type(key) is not str:
        if type(key) is float and not math.isfinite(key):
            return False, None
        wanted = type(key) is bool
        if not any(present == key and (type(present) is bool) is wanted for present in mapping):
            return False, None
    try:
        return True, mapping[key]
    except KeyError:
        return False, None


def timestamp_text(value: datetime) -> str:
    """RFC 3339 in UTC; no, three or six digits of a second."""
    moment = value.astimezone(UTC)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    return f"{text}{_fraction(moment.microsecond)}Z"


def _fraction(micros: int) -> str:
    if micros % 1000:
        return f".{micros:06d}"
    return f".{micros // 1000:03d}" if micros else ""


def duration_text(value: timedelta) -> str:
    """Seconds with `s` behind them, as JSON has durations (`5400s`, `0.250s`)."""
    micros = (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds
    seconds, rest = divmod(abs(micros), 1_000_000)
    return f"{'-' if micros < 0 else ''}{seconds}{_fraction(rest)}s"


def double_text(value: float) -> str:
    """The shortest digits that read back as the same double; whole numbers without a fraction."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value.is_integer() and abs(value) < 1e16:
        return "-0" if value == 0 and math.copysign(1, value) < 0 else str(int(value))
    return repr(value)


def plain(value: Any, budget: Budget | None = None, depth: int = NESTING) -> Any:
    """The value as JSON has it: timestamps and durations as text, bytes as base64, doubles that JSON lacks as text."""
    match value:
        case None | bool() | str():
            return value
        case Uint():
            return int(value)
        case int():
            return value
        case float():
            return value if math.isfinite(value) else double_text(value)
        case datetime():
            return timestamp_text(value)
        case timedelta():
            return duration_text(value)
        case bytes():
            return base64.b64encode(value).decode()
        case Kind():
            return value.name
    if depth == 0:
        raise ExpressionError("This value nests too deeply.", code="limit")
    if budget is not None:
        budget.spend(len(value))
    if isinstance(value, Mapping):
        return {key_text(key): plain(inner, budget, depth - 1) for key, inner in value.items()}
    return [plain(inner, budget, depth - 1) for inner in value]


def key_text(key: Any) -> str:
    """A map's key as JSON has it."""
    return key if isinstance(key, str) else text(key)


def text(value: Any, budget: Budget | None = None) -> str:
    """The value inside a text: strings as they are, numbers in their shortest form, `true`, `null`, timestamps in
    RFC 3339, durations in seconds, lists and maps as JSON."""
    match value:
        case str():
            return value
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(int(value))
        case float():
            return double_text(value)
        case datetime() | timedelta() | bytes() | Kind():
            return str(plain(value))
    try:
        return orjson.dumps(plain(value, budget)).decode()
    except TypeError as error:
        raise ExpressionError(f"This value cannot be written as JSON: {error}.", code="bad_argument") from error
