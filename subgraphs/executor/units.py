"""Durations as ISO 8601 writes them."""

from __future__ import annotations

import re
from datetime import timedelta

_DURATION = re.compile(
    r"P(?:(?P<weeks>\d{1,6})W)?(?:(?P<days>\d{1,6})D)?"
    r"(?:T(?:(?P<hours>\d{1,7})H)?(?:(?P<minutes>\d{1,8})M)?(?:(?P<seconds>\d{1,9}(?:\.\d{1,6})?)S)?)?\Z"
)


def iso_duration(text: str) -> timedelta:
    """`P1DT2H`, `PT0.5S`; raises ValueError for anything else, months and years too (they have no fixed length)."""
    match = _DURATION.match(text.upper())
    if match is None or text.upper() in ("P", "PT") or text.upper().endswith("T"):
        raise ValueError(f"{text!r} is no duration")
    return timedelta(**{name: float(value) for name, value in match.groupdict().items() if value})
