"""Where runs begin, this says which gates they have to pass first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from subgraphs.engine.run import Gate, Start
from subgraphs.execution.limits.keeper import Keeper
from subgraphs.execution.limits.terms import Unkeyed, gates, limited, paused, priority


@dataclass(frozen=True, slots=True)
class Entrance:
    """The gates of runs of releases. Drafts are tried out, so they pass none."""

    keeper: Keeper
    partitions: int

    def place(self, tenant: UUID, start: Start, definition: Mapping[str, Any]) -> None:
        """Gives the start its gates and its priority. A key that has no value fails the run as it begins."""
        found: tuple[Gate, ...] = ()
        if self.keeper.paused and self.keeper.is_paused(tenant, start.workflow):
            found = (paused(tenant, start.workflow, self.partitions),)
        settings = definition.get("settings")
        if settings and start.workflow is not None:
            trigger = start.items[0] if start.items else {}
            try:
                if settings.get("priority"):
                    start.priority = priority(definition, trigger)
                if limited(definition):
                    found += gates(tenant, start.workflow, definition, start.release or 0, trigger, self.partitions)
            except Unkeyed as fault:
                start.fault = fault.error
                return
        start.gates = found
