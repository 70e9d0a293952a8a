"""The event store of workflows within one transaction: append at an expected version, read, snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from subgraphs.platform.database import Reading, Transaction
from subgraphs.workflow.domain import AnyChange, Raced, State
from subgraphs.workflow.storage import tables


class EventStore:
    """One tenant's changes. A snapshot only saves reading: with or without it the state is the same."""

    def __init__(self, reading: Reading, tenant: UUID) -> None:
        self._reading = reading
        self._tenant = tenant

    async def read(self, workflow: UUID, *, after: int = 0) -> list[AnyChange]:
        """Every change with a version above `after`, in order."""
        event = tables.event
        found = await self._reading.rows(
            select(event.c.data)
            .where(self._reading.tenant_filter(event.c.tenant), event.c.workflow == workflow, event.c.version > after)
            .order_by(event.c.version)
        )
        return [change(row["data"]) for row in found]

    async def snapshot(self, workflow: UUID) -> tuple[State, int] | None:
        """The newest state that was kept, and its version."""
        kept = tables.snapshot
        row = await self._reading.row(
            select(kept.c.state, kept.c.version).where(
                self._reading.tenant_filter(kept.c.tenant), kept.c.workflow == workflow
            )
        )
        return (msgspec.convert(row["state"], State, str_keys=True), row["version"]) if row else None

    async def append(
        self, transaction: Transaction, workflow: UUID, expected: int, changes: Sequence[AnyChange], at: datetime
    ) -> None:
        """Stores `changes` as the versions after `expected`; raises Raced when one of these exists."""
        rows = [
            {
                "tenant": self._tenant,
                "workflow": workflow,
                "version": expected + place,
                "type": tag(each),
                "data": msgspec.to_builtins(each),
                "at": at,
            }
            for place, each in enumerate(changes, start=1)
        ]
        statement = insert(tables.event).values(rows).on_conflict_do_nothing().returning(tables.event.c.version)
        if len((await transaction.execute(statement)).all()) < len(rows):
            raise Raced(
                "Somebody else changed this workflow at the same moment.",
                next_step="Read it again and repeat the change.",
            )

    async def keep(self, transaction: Transaction, workflow: UUID, state: State, version: int) -> None:
        """Keeps a snapshot in place of an older one."""
        values = {"version": version, "state": msgspec.to_builtins(state, str_keys=True)}
        statement = insert(tables.snapshot).values(tenant=self._tenant, workflow=workflow, **values)
        await transaction.execute(statement.on_conflict_do_update(index_elements=["tenant", "workflow"], set_=values))

    async def drop_snapshot(self, transaction: Transaction, workflow: UUID) -> None:
        kept = tables.snapshot
        await transaction.execute(delete(kept).where(kept.c.tenant == self._tenant, kept.c.workflow == workflow))


def change(data: Any) -> AnyChange:
    """A stored change."""
    found: AnyChange = msgspec.convert(data, AnyChange)
    return found


def tag(change: AnyChange) -> str:
    """The stored name of a change's type."""
    return str(change.__struct_config__.tag)
