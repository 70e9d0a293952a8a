"""Reading one's own writes, and how far behind readers are.

A position names a run and how many events it had when somebody was answered. Runs are read from the very rows their
owner commits, so a position is reached at once but for a start whose run another process is about to begin: a reader
that brings one waits for it, half a second at most, and is told if that was not enough rather than shown less.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import select

from subgraphs.execution.domain import Head
from subgraphs.execution.storage import run
from subgraphs.platform.database import Database
from subgraphs.platform.domain import Invalid, Limited

PATIENCE = 0.5  # seconds
TARGET = 1.0
"""Seconds an event may wait for its readers before that is worth somebody's attention."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far one reader of published events is behind: events of the tenant it has not acted on, the oldest's age."""

    reader: str
    events: int
    seconds: float


def of(head: Head) -> str:
    """The position of what a head shows; of a start that was accepted, its beginning."""
    return f"{head.id.hex}.{max(1, head.version)}"


def parsed(position: str) -> tuple[UUID, int]:
    """The run and the number of events; raises Invalid."""
    id, _, version = position.partition(".")
    try:
        found = UUID(hex=id), int(version)
    except ValueError:
        found = UUID(int=0), 0
    if not 1 <= found[1] < 2**31 or len(position) > 64:
        raise Invalid(
            "This is not a position.",
            code="position_malformed",
            field="atLeast",
            next_step="Send the `position` of an Execution that a mutation returned.",
        )
    return found


async def reached(database: Database, tenant: UUID, position: str) -> None:
    """Returns once the position is reached; raises Limited if it is not within PATIENCE."""
    id, version = parsed(position)
    deadline, pause = time.monotonic() + PATIENCE, 0.005
    while True:
        async with database.read(tenant) as reading:
            found = await reading.scalar(
                select(run.c.version).where(reading.tenant_filter(run.c.tenant), run.c.id == id)
            )
        if found is not None and found >= version:
            return
        if time.monotonic() + pause > deadline:
            raise Limited(
                "What this position names has not happened yet.",
                code="position_not_reached",
                field="atLeast",
                retry_after=PATIENCE,
                next_step="Ask again in a moment, or leave the position out to see what there is.",
            )
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.1)


LAGS = """
select c.consumer, count(l.id) as events, min(l.at) as oldest from bus.pos c
left join bus.log l on l.part = c.part and l.type = any(c.types) and l.tenant = $1
  and (l.xid >= pg_snapshot_xmax(c.snap) or l.xid = any(array(select pg_snapshot_xip(c.snap))))
  and not (c.consumer = 'execution' and exists (select from execution.run r where r.tenant = l.tenant and r.id = l.id))
where c.consumer = 'execution' or c.consumer like 'execution.%' group by c.consumer order by c.consumer
"""


async def lags(database: Database, tenant: UUID) -> list[Lag]:
    """Every reader of Execution, and what of the tenant's events it has not acted on: starts that have not begun,
    releases that are not held yet, ends that parents have not heard of."""
    now = datetime.now(UTC)
    return [
        Lag(row["consumer"], row["events"], (now - row["oldest"]).total_seconds() if row["oldest"] is not None else 0.0)
        for row in await database.engine.fetch(LAGS, tenant)
    ]
