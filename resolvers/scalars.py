"""Scalars that every subgraph shares, defined once so that their text is the same everywhere.

In a schema module write `created_at: DateTime`, `output: JSON`, `timeout: Duration`; the Python values are `datetime`
(with a zone), any JSON value, and `timedelta`.
"""

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any, NewType

import strawberry
from graphql import GraphQLError, ValueNode, value_from_ast_untyped
from strawberry.types.scalar import ScalarDefinition

DateTime = datetime
Duration = timedelta
JSON = NewType("JSON", object)

_DURATION = re.compile(
    r"(?P<sign>-)?P(?:(?P<days>\d{1,6})D)?"
    r"(?:T(?:(?P<hours>\d{1,6})H)?(?:(?P<minutes>\d{1,8})M)?(?:(?P<seconds>\d{1,10}(?:\.\d{1,6})?)S)?)?"
)


def write_moment(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, `2026-01-31T12:00:00.000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_moment(text: Any) -> datetime:
    """An RFC 3339 moment, in UTC; raises GraphQLError for everything else."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise GraphQLError("DateTime takes RFC 3339 text such as 2026-01-31T12:00:00Z.") from None
    if moment.tzinfo is None:
        raise GraphQLError("DateTime needs a zone: end it in Z or in an offset such as +02:00.")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise GraphQLError("DateTime takes the years 1 to 9999, in UTC.") from None


def write_duration(length: timedelta) -> str:
    """ISO 8601 in days, hours, minutes and seconds, `P1DT2H`, `PT0.5S`; never months or years, whose length varies."""
    seconds = abs(length)
    parts = [f"{seconds.days}D"] if seconds.days else []
    hours, rest = divmod(seconds.seconds, 3600)
    minutes, whole = divmod(rest, 60)
    exact = f"{whole}.{seconds.microseconds:06d}".rstrip("0").rstrip(".")
    clock = [f"{hours}H"] * bool(hours) + [f"{minutes}M"] * bool(minutes) + [f"{exact}S"] * (exact != "0")
    if clock or not parts:
        parts.append("T" + "".join(clock or ["0S"]))
    return ("-" if length < timedelta() else "") + "P" + "".join(parts)


def read_duration(text: Any) -> timedelta:
    """Days to seconds of ISO 8601; raises GraphQLError for everything else."""
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    parts = found.groupdict() if found else {}
    sign = parts.pop("sign", None)
    if not any(parts.values()) or text.endswith("T"):
        raise GraphQLError("Duration takes ISO 8601 text in days to seconds, such as PT1.5S or P1DT2H.")
    length = timedelta(**{unit: float(value) for unit, value in parts.items() if value})
    return -length if sign else length


def _read_json(node: ValueNode, variables: dict[str, Any] | None = None) -> Any:
    value = value_from_ast_untyped(node, variables)
    _refuse_infinite(value)
    return value


def _refuse_infinite(value: Any) -> None:
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, float) and not math.isfinite(found):
            raise GraphQLError("JSON has no numbers beyond the range of a double.")
        waiting.extend(found.values() if isinstance(found, dict) else found if isinstance(found, list) else ())


SCALARS: dict[object, ScalarDefinition] = {
    datetime: strawberry.scalar(
        name="DateTime",
        description="A moment with its zone: RFC 3339, for example 2026-01-31T12:00:00.000Z.",
        serialize=write_moment,
        parse_value=read_moment,
    ),
    timedelta: strawberry.scalar(
        name="Duration",
        description="A length of time: ISO 8601 in days to seconds, for example PT1.5S.",
        serialize=write_duration,
        parse_value=read_duration,
    ),
    JSON: strawberry.scalar(
        name="JSON",
        description="Any JSON value: an object, an array, text, a number, a boolean or null.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc8259",
        serialize=lambda value: value,
        parse_value=lambda value: value,
        parse_literal=_read_json,
    ),
}
