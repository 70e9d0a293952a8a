"""Where a failed run may be taken up again."""

from __future__ import annotations

from collections.abc import Sequence

from subgraphs.engine.run import Event, StepFailed


def ended_by(journal: Sequence[Event]) -> int | None:
    """How many events a run had before the step failed that ended it; None if no step did."""
    for number in range(len(journal) - 1, -1, -1):
        event = journal[number]
        if isinstance(event, StepFailed) and event.retry_at is None and event.outputs is None:
            return number
    return None
