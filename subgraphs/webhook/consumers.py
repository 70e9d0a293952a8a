"""What Webhook does when workflows change: URLs come, stay, close and retire."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import orjson

from subgraphs.platform.bus import Bus
from subgraphs.platform.database import Transaction
from subgraphs.platform.domain import Event
from subgraphs.platform.facts import read
from subgraphs.platform.objects import Objects, Ref
from subgraphs.webhook import commands, events
from subgraphs.webhook.storage import Rows, TenantEndpoints


class Consumers:
    """Handlers of the bus, each in the transaction of its event."""

    def __init__(self, objects: Objects, rows: Rows, now: Callable[[], datetime], new_id: Callable[[], UUID]) -> None:
        self._objects = objects
        self._rows = rows
        self._now = now
        self._new_id = new_id

    def register(self, bus: Bus) -> None:
        moved = [events.ARCHIVED, events.UNARCHIVED, events.DELETED]
        bus.consume("webhook.workflows", [events.RELEASED, *moved], self.handle)

    async def handle(self, event: Event, transaction: Transaction) -> None:
        if event.type == events.RELEASED:
            await self.hold(event, transaction)
        else:
            workflow = read(event, events.Moved).workflow_id
            await TenantEndpoints(transaction, self._rows).open(workflow, event.type == events.UNARCHIVED)

    async def hold(self, event: Event, transaction: Transaction) -> None:
        """Makes the release's URLs answer, and tells Workflow that they do."""
        released = read(event, events.Released)
        if event.tenant is None:
            return
        definition = released.definition
        if (reference := Ref.of(definition)) is not None:
            definition = orjson.loads(await self._objects.get(event.tenant, reference))
        held = await commands.hold(
            released.workflow_id,
            released.release,
            commands.definition_of(definition),
            tenant=event.tenant,
            endpoints=TenantEndpoints(transaction, self._rows),
            now=self._now(),
            new_id=self._new_id,
        )
        transaction.publish(events.held(event.tenant, released.workflow_id, released.release, held, event.partition))
