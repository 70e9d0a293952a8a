"""What stands open in a tenant: waits for an answer, to whom approvals were delegated, pauses. One statement each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import select, tuple_

from subgraphs.execution import storage
from subgraphs.execution.domain import Head, Pause
from subgraphs.execution.storage import delegation, paused, run, wait
from subgraphs.execution.waits import Delegation, OpenWait
from subgraphs.platform.database import Reading

MOST = 1000
"""Waits of one run that are listed: a loop may wait in every round."""

Place = tuple[UUID, str]


async def waits(reading: Reading, runs: Sequence[UUID]) -> Mapping[UUID, list[OpenWait]]:
    """What each run waits for, oldest first."""
    mine = reading.tenant_filter(wait.c.tenant)
    query = select(wait).where(mine, wait.c.run.in_(runs)).order_by(wait.c.since, wait.c.step).limit(MOST)
    found: dict[UUID, list[OpenWait]] = {}
    for row in await reading.rows(query):
        found.setdefault(row["run"], []).append(storage.opened(row))
    return found


async def page(
    reading: Reading, kinds: Sequence[str], name: str | None, limit: int, after: Place | None
) -> list[OpenWait]:
    """Waits of these kinds in the tenant, newest runs first."""
    conditions = [reading.tenant_filter(wait.c.tenant), wait.c.kind.in_(kinds)]
    if name is not None:
        conditions.append(wait.c.name == name)
    if after is not None:
        conditions.append(tuple_(wait.c.run, wait.c.step) < tuple_(*after))
    query = select(wait).where(*conditions).order_by(wait.c.run.desc(), wait.c.step.desc()).limit(limit)
    return [storage.opened(row) for row in await reading.rows(query)]


async def delegations(reading: Reading, places: Sequence[Place]) -> Mapping[Place, list[Delegation]]:
    """To whom the approvals at these steps were delegated."""
    mine = reading.tenant_filter(delegation.c.tenant)
    query = select(delegation).where(mine, delegation.c.run.in_({run for run, _ in places})).order_by(delegation.c.at)
    found: dict[Place, list[Delegation]] = {}
    for row in await reading.rows(query):
        made = Delegation(row["run"], row["step"], row["attempt"], row["by"], row["approver"], row["at"])
        found.setdefault((made.run, made.step), []).append(made)
    return found


async def pauses(reading: Reading) -> list[Pause]:
    """The pauses that stand, the oldest first."""
    query = select(paused).where(reading.tenant_filter(paused.c.tenant)).order_by(paused.c.at)
    rows = await reading.rows(query)
    return [Pause(row["tenant"], row["workflow"], row["by"], row["reason"], row["at"]) for row in rows]


async def children(reading: Reading, parent: UUID, limit: int, after: UUID | None) -> list[Head]:
    """Runs that a run started, newest first."""
    conditions = [reading.tenant_filter(run.c.tenant), run.c.parent == parent]
    if after is not None:
        conditions.append(run.c.id < after)
    rows = await reading.rows(select(run).where(*conditions).order_by(run.c.id.desc()).limit(limit))
    return [storage.head(row) for row in rows]
