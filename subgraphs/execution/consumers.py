"""What Execution does when others publish: it keeps a copy of every release it is to run."""

from __future__ import annotations

import msgspec
from sqlalchemy.dialects.postgresql import insert

from subgraphs.execution import events
from subgraphs.execution.storage import release, whole
from subgraphs.platform.bus import Bus
from subgraphs.platform.database import Transaction
from subgraphs.platform.domain import Event
from subgraphs.platform.facts import read
from subgraphs.platform.objects import Objects


class Holding:
    """Keeps releases; large definitions are fetched from the object store."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def hold(self, event: Event, transaction: Transaction) -> None:
        """Keeps the release, and tells Workflow that starts will find it."""
        asked = read(event, events.Released)
        if event.tenant is None:
            return
        row = {
            "tenant": event.tenant,
            "workflow": asked.workflow_id,
            "release": asked.release,
            "name": asked.name,
            "definition": msgspec.json.encode(await whole(self._objects, event.tenant, asked.definition)).decode(),
            "types": msgspec.json.encode(asked.node_types).decode(),
        }
        await transaction.execute(insert(release).values(row).on_conflict_do_nothing())
        transaction.publish(events.held(event.tenant, asked.workflow_id, asked.release, event.partition))


def register(bus: Bus, objects: Objects) -> None:
    bus.consume("execution.releases", [events.RELEASED], Holding(objects).hold)
