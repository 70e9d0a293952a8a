"""Why runs do not go on: a handful of statements, whatever the number of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from subgraphs.execution import queries
from subgraphs.execution.limits import why
from subgraphs.execution.limits.standing import standings
from subgraphs.execution.limits.why import Why
from subgraphs.execution.runner.loading import Loading
from subgraphs.platform.database import Database


async def whys(database: Database, tenant: UUID, loading: Loading, ids: Sequence[UUID], now: int) -> Mapping[UUID, Why]:
    """Of these runs those that are open; an empty answer for those about to go on. `now` in microseconds."""
    async with database.read(tenant) as reading:
        heads = await queries.heads(reading, ids)
        queued = [id for id, head in heads.items() if head.status == "queued"]
        standing = await standings(reading, queued, now) if queued else {}
    found = {id: Why(standing=at, held=held) for id, (at, held) in standing.items()}
    begun = [id for id, head in heads.items() if head.status in ("running", "waiting", "paused")]
    paused = [(tenant, id) for id in begun if heads[id].status == "paused"]
    journals = await loading.journal(paused) if paused else {}
    for stored in await loading.runs([(tenant, id) for id in begun]) if begun else ():
        if stored.run is not None and not stored.run.final:
            id = stored.run.id
            held = why.held(journals[id]) if stored.run.paused and id in journals else None
            found[id] = Why(held=held, steps=why.steps(stored.run))
    return found
