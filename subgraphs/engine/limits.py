"""What is wrong with the limits that a definition sets for its starts: their durations, and their keys."""

from __future__ import annotations

from collections.abc import Iterator

from subgraphs.engine.definition import seconds
from subgraphs.engine.expression import check
from subgraphs.engine.faults import Fault, pointer
from subgraphs.engine.settings import Settings

NAMES = frozenset({"trigger"})
"""What keys may speak of: they are asked before anything has run."""
LONGEST = 366 * 86_400
NAMED = (
    *(("concurrency", "concurrency"), ("throttle", "throttle"), ("rate_limit", "rateLimit")),
    *(("debounce", "debounce"), ("batch", "batch"), ("singleton", "singleton")),
)


def limit_faults(settings: Settings) -> Iterator[Fault]:
    """Durations that make no sense and expressions that cannot be read, in the order of the fields."""
    for attribute, name in NAMED:
        limit = getattr(settings, attribute)
        if limit is None:
            continue
        for field, written in (("period", "period"), ("timeout", "timeout"), ("max_wait", "maxWait")):
            value = getattr(limit, field, None)
            if value is not None and not 0 < seconds(value) <= LONGEST:
                yield _out_of_range(name, written, value)
        for field in ("key", "group"):
            if (text := getattr(limit, field, None)) is not None:
                yield from _unreadable(text, name, field)
    if isinstance(settings.priority, str):
        yield from _unreadable(settings.priority, "priority")
        if "{{" not in settings.priority:
            yield _no_expression()


def _out_of_range(name: str, field: str, value: str) -> Fault:
    return Fault(
        code="duration.range",
        message=f"{name}: a {field} of {value} is not between zero and {LONGEST // 86_400} days.",
        pointer=pointer("settings", name, field),
        next_step="Use a duration such as PT1M.",
    )


def _unreadable(text: str, *path: str) -> Iterator[Fault]:
    for error in check(text, names=NAMES):
        yield Fault(
            code="expression.invalid",
            message=f"{'.'.join(path)}: {error.message}",
            pointer=pointer("settings", *path),
            position=error.position,
            next_step="Correct the expression; it can speak of trigger and nothing else.",
        )


def _no_expression() -> Fault:
    return Fault(
        code="priority.invalid",
        message="priority is text without an expression.",
        pointer=pointer("settings", "priority"),
        next_step="Write a number from -100 to 100, or an expression such as {{ trigger.urgent ? 10 : 0 }}.",
    )
