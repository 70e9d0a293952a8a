"""What runs and steps took, read from the journal when somebody asks: nothing is written for it on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from subgraphs.execution.history import StepRecord

MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class StepMeasure:
    """One step. Times in milliseconds, sizes in bytes of JSON; `wait_ms`: from being ready to the first attempt."""

    wait_ms: float | None
    run_ms: float
    attempts: int
    items_in: int
    items_out: int
    bytes_in: int
    bytes_out: int


@dataclass(frozen=True, slots=True)
class RunMeasure:
    """All steps of a run; `queue_ms`: from being accepted to its beginning."""

    queue_ms: float
    wait_ms: float
    run_ms: float
    steps: int
    attempts: int
    bytes_in: int
    bytes_out: int


def of_step(record: StepRecord) -> StepMeasure | None:
    """What a step took; None if nothing has reached it."""
    if not record.attempts:
        return None
    waited = None
    if record.ready_at is not None and record.started_at is not None:
        waited = max(0.0, (record.started_at - record.ready_at) / MILLISECOND)
    return StepMeasure(
        wait_ms=waited,
        run_ms=record.took,
        attempts=len(record.attempts),
        items_in=_count(record.input),
        items_out=_count(record.output),
        bytes_in=_size(record.input),
        bytes_out=_size(record.output),
    )


def of_run(id: UUID, started_at: datetime, records: Sequence[StepRecord]) -> RunMeasure:
    """What a run took. Its id carries when it was accepted."""
    accepted = datetime.fromtimestamp((id.int >> 80) / 1000, UTC)
    found = [measure for record in records if (measure := of_step(record)) is not None]
    return RunMeasure(
        queue_ms=max(0.0, (started_at - accepted) / MILLISECOND),
        wait_ms=sum(measure.wait_ms or 0.0 for measure in found),
        run_ms=sum(measure.run_ms for measure in found),
        steps=len(found),
        attempts=sum(measure.attempts for measure in found),
        bytes_in=sum(measure.bytes_in for measure in found),
        bytes_out=sum(measure.bytes_out for measure in found),
    )


def _count(ports: Mapping[str, Sequence[Any]] | None) -> int:
    return sum(len(items) for items in (ports or {}).values())


def _size(ports: Mapping[str, Sequence[Any]] | None) -> int:
    return sum(len(msgspec.json.encode(item)) for items in (ports or {}).values() for item in items)
