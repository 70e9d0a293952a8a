"""Rows of `bus.log`, the stored form of published events, and the statements that write them.

One row is one CloudEvent. `xid` is the storing transaction, `seq` the event's place in it; the two order a partition.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from subgraphs.platform.domain import Event

COLUMNS: tuple[tuple[str, str], ...] = (
    ("part", "smallint"),
    ("seq", "integer"),
    ("id", "uuid"),
    ("tenant", "uuid"),
    ("type", "text"),
    ("subject", "text"),
    ("at", "timestamptz"),
    ("correlation", "uuid"),
    ("causation", "uuid"),
    ("data", "bytea"),
)
NAMES = ", ".join(name for name, _ in COLUMNS)
EVENTS_CHANNEL = "linkflow_events"
WAKES_CHANNEL = "linkflow_wakes"
ENVELOPE_BYTES = 65_536
"""What an event may hold beside one payload of the claim check's size."""


class TooLarge(ValueError):
    """An event's data exceed what the log takes; its payload must go by claim check (objects.py)."""


def row(event: Event, seq: int, limit: int) -> tuple[Any, ...]:
    """The event as a row of COLUMNS; raises TooLarge above `limit` bytes (plus the envelope's allowance)."""
    data = orjson.dumps(event.data, default=_plain)
    if len(data) > limit + ENVELOPE_BYTES:
        raise TooLarge(f"{event.type} {event.id} holds {len(data)} bytes; check its payload in")
    return (
        event.partition,
        seq,
        event.id,
        event.tenant,
        event.type,
        event.subject,
        event.time,
        event.correlation,
        event.causation,
        data,
    )


def event(stored: Any) -> Event:
    """The event of a row with COLUMNS."""
    return Event(
        type=stored["type"],
        subject=stored["subject"],
        data=orjson.loads(stored["data"]),
        tenant=stored["tenant"],
        partition=stored["part"],
        id=stored["id"],
        time=stored["at"],
        correlation=stored["correlation"],
        causation=stored["causation"],
    )


def columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Rows turned into one list a column, as `unnest` takes them."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def notice(origin: str, partitions: Iterable[int]) -> str:
    """The wake-up of other processes without its last part, the transaction id, which the database appends."""
    return f"{origin}:{','.join(str(part) for part in sorted(set(partitions)))}:"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (tuple, set, frozenset)):
        return list(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")
