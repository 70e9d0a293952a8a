"""`core.wait`: holds the items for a while or until a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from subgraphs.engine.expression import Budget, ExpressionError
from subgraphs.engine.expression.conversions import to_duration, to_timestamp
from subgraphs.executor.domain import MAIN, TIMEOUT, Example, Manifest, NodeType, Out, fail, parameters
from subgraphs.executor.step import Step, text_of
from subgraphs.executor.units import iso_duration

LONGEST = timedelta(days=3660)


def body(step: Step) -> Iterator[Out]:
    values = step.parameters()
    until = step.request.now + _span(values) if values["for"] == "duration" else _moment(values)
    if until > step.request.now + LONGEST:
        raise fail("wait.too_long", "A wait lasts ten years at most.", kind="limit", field=values["for"])
    if until > step.request.now:
        step.hold(until)
    else:
        for item in step.main:
            yield "main", item


def _span(values: dict[str, Any]) -> timedelta:
    """ISO 8601 (PT1H30M), or as expressions write it (1h30m, 5400s), or a number of seconds."""
    value = values.get("duration")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = f"{value:.3f}s"
    try:
        given = text_of(value, "duration")
        found = iso_duration(given) if given[:1] in "Pp" else to_duration(Budget(), given)
    except (ExpressionError, ValueError):
        message = "A duration is written PT1H30M, 1h30m, or as a number of seconds."
        raise fail("wait.duration", message, field="duration") from None
    return max(found, timedelta())


def _moment(values: dict[str, Any]) -> datetime:
    try:
        return to_timestamp(Budget(), text_of(values.get("until"), "until")).astimezone(UTC)
    except ExpressionError:
        message = "A time is written in RFC 3339, as 2026-05-04T10:00:00Z."
        raise fail("wait.until", message, field="until") from None


NODE = NodeType(
    Manifest(
        type="core.wait",
        title="Wait",
        summary="Holds all items for a duration or until a time; up to years, without costing a worker. If the node's "
        "timeout is shorter, they leave by timeout.",
        category="flow",
        outputs=(MAIN, TIMEOUT),
        parameters=parameters(
            {
                "for": {
                    "type": "string",
                    "enum": ["duration", "until"],
                    "default": "duration",
                    "title": "Wait for",
                    "description": "A span from now on, or a point in time.",
                },
                "duration": {
                    "type": ["string", "number"],
                    "title": "Duration",
                    "description": "PT1H30M, 1h30m, or seconds.",
                    "x-show": {"for": ["duration"]},
                    "x-editor": "expression",
                },
                "until": {
                    "type": "string",
                    "title": "Until",
                    "description": "RFC 3339 time; a past one does not wait.",
                    "x-show": {"for": ["until"]},
                    "x-editor": "expression",
                },
            },
            required=("duration", "until"),
        ),
        errors={
            "wait.duration": "The duration cannot be read.",
            "wait.until": "The time cannot be read.",
            "wait.too_long": "More than ten years.",
        },
        examples=(
            Example("An hour and a half", {"duration": "PT1H30M"}, [{"n": 1}], wait="2026-05-04T13:30:00+00:00"),
            Example("Seconds", {"duration": 90}, [{"n": 1}], wait="2026-05-04T12:01:30+00:00"),
            Example(
                "Until a time of the item",
                {"for": "until", "until": "{{ item.due }}"},
                [{"due": "2026-06-01T00:00:00Z"}],
                wait="2026-06-01T00:00:00+00:00",
            ),
            Example(
                "By an expression",
                {"for": "until", "until": "{{ now + duration('24h') }}"},
                [{}],
                wait="2026-05-05T12:00:00+00:00",
            ),
            Example(
                "A past time does not wait",
                {"for": "until", "until": "2020-01-01T00:00:00Z"},
                [{"n": 1}],
                {"main": [{"n": 1}]},
            ),
            Example("Unreadable", {"duration": "soon"}, [{}], error="wait.duration"),
        ),
    ),
    body,
)
