"""When a failed attempt is worth another, and how long to wait before it."""

from __future__ import annotations

import re
from functools import lru_cache
from random import Random

from subgraphs.engine.run.parts import Retry
from subgraphs.engine.step import StepError

_WORTH = frozenset({"infrastructure", "timeout"})


@lru_cache(maxsize=1024)
def _pattern(text: str) -> re.Pattern[str]:
    """`*` stands for anything; in a last segment such as `4xx`, x is any digit."""
    head, dot, tail = text.rpartition(".")
    if re.fullmatch(r"\d[\dx]{2}", tail):
        return re.compile(_globbed(head + dot) + tail.replace("x", r"\d"))
    return re.compile(_globbed(text))


def _globbed(text: str) -> str:
    return ".*".join(re.escape(part) for part in text.split("*"))


def excluded(code: str, never: tuple[str, ...]) -> bool:
    """Whether an error code is in one of the classes that are not retried, such as `http.status.4xx` or `code.*`."""
    return any(_pattern(pattern).fullmatch(code) for pattern in never)


def delay(retry: Retry, failures: int, error: StepError, seed: str) -> float | None:
    """Seconds to wait before the next attempt after `failures` failed ones, or None to give up.

    Exponential backoff doubles from `delay` up to `cap`; jitter takes up to half of it away, the same for the same
    `seed`. A Retry-After of the other side is a lower bound that neither cap nor jitter shortens.
    """
    worth = error.retryable or error.kind in _WORTH
    if not worth or failures >= retry.attempts or excluded(error.code, retry.never):
        return None
    base = retry.delay * 2.0 ** min(failures - 1, 60) if retry.exponential else retry.delay
    base = min(base, retry.cap)
    if retry.jitter:
        base *= 0.5 + Random(f"{seed}:{failures}").random() / 2  # noqa: S311  # spreads load, guards nothing
    return max(base, error.retry_after or 0.0)
