"""What a letter of a gate asks of its run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

import msgspec

from subgraphs.engine.run import Admit, Event, Started
from subgraphs.engine.step import StepError


class Journals(Protocol):
    """Reads what runs began with (runner/loading.py)."""

    async def journal(self, keys: Sequence[tuple[UUID, UUID]]) -> Mapping[UUID, Sequence[Event]]: ...


async def admission(at: int, tenant: UUID, run: UUID, data: Mapping[str, Any], journals: Journals) -> Admit:
    """The command of an `admit` letter. The head of a batch takes the items of its members behind its own."""
    gate, members = UUID(data["gate"]), [UUID(member) for member in data.get("members") or ()]
    if not members:
        return Admit(at=at, gate=gate)
    items: list[dict[str, Any]] = []
    found = await journals.journal([(tenant, each) for each in (run, *members)])
    for each in (run, *members):
        first = next(iter(found.get(each, ())), None)
        if isinstance(first, Started):
            items += [made.json for made in first.items]
    return Admit(at=at, gate=gate, items=items)


def fault(data: Mapping[str, Any]) -> StepError | None:
    """The typed reason of a `cancel` letter, if a limit wrote it."""
    error = data.get("error")
    return msgspec.convert(error, StepError) if error else None
