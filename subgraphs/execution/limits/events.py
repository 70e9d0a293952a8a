"""What runs and the keepers of gates tell each other. The rows are the truth; these save looking."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from subgraphs.platform.domain import Event
from subgraphs.platform.facts import Told

TAKEN = "execution.ticket.taken.v1"
RETURNED = "execution.ticket.returned.v1"
GIVEN = "execution.verdict.given.v1"


class TicketTaken(Told):
    """A run stands at a gate. `at` in microseconds since 1970, `part` the run's partition, `terms` the limit's."""

    run: UUID
    workflow: UUID | None
    at: int
    part: int
    priority: int
    group: str
    terms: dict[str, Any]


class TicketReturned(Told):
    """The run needs no place at the gate any more."""

    run: UUID


class VerdictsGiven(Told):
    """The inboxes of these runs hold what was decided about them."""

    runs: list[UUID]


PUBLISHED: dict[str, type[Told]] = {TAKEN: TicketTaken, RETURNED: TicketReturned, GIVEN: VerdictsGiven}


def about(type: str, tenant: UUID, gate: UUID, part: int, data: dict[str, Any]) -> Event:
    """An event of a gate, in the partition of those who are to hear it."""
    return Event(type=type, subject=str(gate), tenant=tenant, partition=part, data=data)
