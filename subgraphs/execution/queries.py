"""What a caller may read: lists of runs, one run, its steps. One statement each, whatever the number of rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select

from subgraphs.engine.run import Run, Started
from subgraphs.engine.step import Reply
from subgraphs.execution import storage
from subgraphs.execution.domain import Claim, Head, Held, recent
from subgraphs.execution.history import StepRecord, steps
from subgraphs.execution.runner.loading import Loading
from subgraphs.execution.storage import journal, release, run, start_key
from subgraphs.platform.database import Database, Reading

SOON = (0.0, 0.02, 0.05, 0.1, 0.2, 0.6)


@dataclass(frozen=True, slots=True)
class Detail:
    """A run opened: its steps, what triggered it, what it answered."""

    steps: list[StepRecord]
    trigger: str
    items: list[Any]
    reply: Reply | None


async def heads(reading: Reading, ids: Sequence[UUID]) -> Mapping[UUID, Head]:
    """Runs by id."""
    mine = reading.tenant_filter(run.c.tenant)
    rows = await reading.rows(select(run).where(mine, run.c.id.in_(ids)))
    return {row["id"]: storage.head(row) for row in rows}


async def head(reading: Reading, id: UUID) -> Head | None:
    return (await heads(reading, [id])).get(id)


async def begun(database: Database, tenant: UUID, ids: Sequence[UUID]) -> Mapping[UUID, Head]:
    """Runs by id, waiting up to a second for those that were accepted just now and are about to begin."""
    found: dict[UUID, Head] = {}
    for pause in SOON:
        await asyncio.sleep(pause)
        absent = [id for id in ids if id not in found]
        async with database.read(tenant) as reading:
            found |= await heads(reading, absent)
        if not recent((each for each in absent if each not in found), time.time()):
            break
    return found


async def held(reading: Reading, workflow: UUID, number: int | None) -> Held | None:
    """A release; without a number the newest."""
    query = select(release).where(reading.tenant_filter(release.c.tenant), release.c.workflow == workflow)
    if number is not None:
        query = query.where(release.c.release == number)
    row = await reading.row(query.order_by(release.c.release.desc()).limit(1))
    return storage.held(row) if row is not None else None


async def claimed(reading: Reading, key: str) -> Claim | None:
    mine = reading.tenant_filter(start_key.c.tenant)
    row = await reading.row(select(start_key).where(mine, start_key.c.key == key))
    return storage.claim(row) if row is not None else None


async def details(reading: Reading, loading: Loading, ids: Sequence[UUID]) -> Mapping[UUID, Detail]:
    """Runs opened, folded from their journals; one statement for all of them."""
    rows = await reading.rows(
        select(journal.c.tenant, journal.c.run, journal.c.data)
        .where(reading.tenant_filter(journal.c.tenant), journal.c.run.in_(ids))
        .order_by(journal.c.run, journal.c.version)
    )
    events: dict[tuple[UUID, UUID], list[Any]] = {}
    for row in rows:
        chunk = await loading.events(row["tenant"], bytes(row["data"]))
        events.setdefault((row["tenant"], row["run"]), []).extend(chunk)
    return {key[1]: await _detail(loading, *key, found) for key, found in events.items()}


async def _detail(loading: Loading, tenant: UUID, id: UUID, events: list[Any]) -> Detail:
    started = events[0]
    assert isinstance(started, Started)  # noqa: S101 - the first event of every run
    opened = Run.blank(id, tenant, await loading.plans.of(tenant, started))
    records = steps(opened, events)
    return Detail(records, started.trigger, [made.json for made in started.items], opened.reply)
