"""Conversions between types, timestamps and durations."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from subgraphs.engine.expression.arithmetic import integer, moment, unsigned
from subgraphs.engine.expression.faults import Budget, ExpressionError
from subgraphs.engine.expression.values import Kind, Uint, double_text, duration_text, mismatch, timestamp_text

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}\Z")
_DOUBLE = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\Z")
_DOUBLE_WORDS = {"nan": math.nan, "inf": math.inf, "infinity": math.inf, "-inf": -math.inf, "-infinity": -math.inf}


def _unreadable(what: str, value: str) -> ExpressionError:
    return ExpressionError(f"{value[:60]!r} is no {what}.", code="bad_argument")


def to_int(_: Budget, value: Any) -> int:
    match value:
        case bool():
            raise mismatch("int", value)
        case int():
            return integer(int(value))
        case float():
            if not math.isfinite(value) or not -(2.0**63) < value < 2.0**63:
                raise ExpressionError("The number does not fit in 64 bits.", code="overflow")
            return int(value)
        case str():
            if not _INTEGER.match(value):
                raise _unreadable("integer", value)
            return integer(int(value))
        case datetime():
            return (value - EPOCH) // _SECOND
    raise mismatch("int", value)


def to_uint(_: Budget, value: Any) -> Uint:
    match value:
        case bool():
            raise mismatch("uint", value)
        case int():
            return unsigned(int(value))
        case float():
            if not math.isfinite(value) or not 0 <= value < 2.0**64:
                raise ExpressionError("The number does not fit in 64 bits without sign.", code="overflow")
            return Uint(int(value))
        case str():
            if not _INTEGER.match(value):
                raise _unreadable("unsigned integer", value)
            return unsigned(int(value))
    raise mismatch("uint", value)


def to_double(_: Budget, value: Any) -> float:
    match value:
        case bool():
            raise mismatch("double", value)
        case int() | float():
            return float(value)
        case str():
            word = _DOUBLE_WORDS.get(value.lower())
            if word is not None:
                return word
            if len(value) > 400 or not _DOUBLE.match(value):
                raise _unreadable("number", value)
            return float(value)
    raise mismatch("double", value)


def to_text(budget: Budget, value: Any) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(int(value))
        case float():
            return double_text(value)
        case datetime():
            return timestamp_text(value)
        case timedelta():
            return duration_text(value)
        case bytes():
            budget.make(len(value))
            try:
                return value.decode()
            except UnicodeDecodeError:
                raise ExpressionError("These bytes are no UTF-8 text.", code="bad_argument") from None
    raise mismatch("string", value)


def to_bytes(budget: Budget, value: Any) -> bytes:
    match value:
        case bytes():
            return value
        case str():
            budget.make(len(value))
            return value.encode()
    raise mismatch("bytes", value)


_TRUE = frozenset({"true", "True", "TRUE", "t", "1"})
_FALSE = frozenset({"false", "False", "FALSE", "f", "0"})


def to_bool(_: Budget, value: Any) -> bool:
    match value:
        case bool():
            return value
        case str():
            if value in _TRUE:
                return True
            if value in _FALSE:
                return False
            raise _unreadable("truth value", value)
    raise mismatch("bool", value)


_TIMESTAMP = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})\Z"
)


def to_timestamp(_: Budget, value: Any) -> datetime:
    """From RFC 3339 text or seconds since 1970."""
    match value:
        case datetime():
            return value
        case bool():
            raise mismatch("timestamp", value)
        case int():
            return moment(lambda: EPOCH + timedelta(seconds=int(value)))  # type: ignore[no-any-return]
        case str():
            parts = _TIMESTAMP.match(value)
            if parts is None:
                raise _unreadable("timestamp (RFC 3339, as 2026-05-04T10:00:00Z)", value)
            try:
                year, month, day, hour, minute, second = (int(part) for part in parts.groups()[:6])
                micros = int((parts[7] or ".0")[1:].ljust(9, "0")[:6])
                local = datetime(year, month, day, hour, minute, second, micros, tzinfo=_zone(parts[8].upper()))
                return local.astimezone(UTC)
            except (ValueError, OverflowError):
                raise _unreadable("timestamp", value) from None
    raise mismatch("timestamp", value)


_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(h|ms|m|s|us|µs|ns)")
_UNITS = {"h": 3.6e9, "m": 6e7, "s": 1e6, "ms": 1e3, "us": 1.0, "µs": 1.0, "ns": 1e-3}


def to_duration(_: Budget, value: Any) -> timedelta:
    """From text such as `1h30m`, `45s`, `-1.5h` (units h, m, s, ms, us, ns)."""
    match value:
        case timedelta():
            return value
        case str():
            body = value[1:] if value[:1] in ("+", "-") else value
            sign = -1 if value.startswith("-") else 1
            parts = _PART.findall(body) if len(body) <= 100 else []
            if body == "0":
                return timedelta()
            if not parts or "".join(number + unit for number, unit in parts) != body:
                raise _unreadable("duration (as 1h30m or 45s)", value)
            return moment(lambda: sign * timedelta(microseconds=sum(_micros(*part) for part in parts)))  # type: ignore[no-any-return]
    raise mismatch("duration", value)


def _micros(number: str, unit: str) -> int:
    """Exact for whole numbers; a fraction is cut to whole microseconds."""
    whole, _, fraction = number.partition(".")
    scale = _UNITS[unit]
    total = int(int(whole or "0") * scale) if scale >= 1 else int(whole or "0") // 1000
    return total + int(float(f"0.{fraction or 0}") * scale + 1e-9)


_OFFSET = re.compile(r"([+-]?)([0-9]{2}):([0-9]{2})\Z")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}\Z")


@lru_cache(maxsize=256)
def _zone(name: str) -> tzinfo:
    if name == "Z":
        return UTC
    if offset := _OFFSET.match(name):
        shift = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        if shift >= timedelta(days=1):
            raise _unreadable("time zone", name)
        return timezone(-shift if offset[1] == "-" else shift)
    if _ZONE.match(name) and len(name) <= 64:
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            pass
    raise _unreadable("time zone", name)


def _reader(name: str, read: Callable[[datetime], int]) -> Callable[..., int]:
    def field(_: Budget, value: Any, zone: Any = "UTC") -> int:
        if type(value) is datetime and type(zone) is str:
            return read(moment(lambda: value.astimezone(_zone(zone))))
        if type(value) is timedelta and name in _SPANS and zone == "UTC":
            return _SPANS[name](value)
        raise mismatch(name, value)

    return field


def _whole(value: timedelta, unit: timedelta) -> int:
    return -(-value // unit) if value < timedelta() else value // unit


_SPANS: dict[str, Callable[[timedelta], int]] = {
    "getHours": lambda value: _whole(value, timedelta(hours=1)),
    "getMinutes": lambda value: _whole(value, timedelta(minutes=1)),
    "getSeconds": lambda value: _whole(value, timedelta(seconds=1)),
    "getMilliseconds": lambda value: (
        _whole(value, timedelta(milliseconds=1)) % 1000
        if value >= timedelta()
        else -(_whole(-value, timedelta(milliseconds=1)) % 1000)
    ),
}
_FIELDS: dict[str, Callable[[datetime], int]] = {
    "getFullYear": lambda moment: moment.year,
    "getMonth": lambda moment: moment.month - 1,
    "getDate": lambda moment: moment.day,
    "getDayOfMonth": lambda moment: moment.day - 1,
    "getDayOfWeek": lambda moment: moment.isoweekday() % 7,
    "getDayOfYear": lambda moment: moment.timetuple().tm_yday - 1,
    "getHours": lambda moment: moment.hour,
    "getMinutes": lambda moment: moment.minute,
    "getSeconds": lambda moment: moment.second,
    "getMilliseconds": lambda moment: moment.microsecond // 1000,
}

CONVERSIONS: dict[str, Callable[..., Any]] = {
    "int": to_int,
    "uint": to_uint,
    "double": to_double,
    "string": to_text,
    "bytes": to_bytes,
    "bool": to_bool,
    "timestamp": to_timestamp,
    "duration": to_duration,
    **{name: _reader(name, read) for name, read in _FIELDS.items()},
}
TYPES = {
    name: Kind(name)
    for name in (
        "bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type",
        "google.protobuf.Timestamp", "google.protobuf.Duration",
    )
}  # fmt: skip
