"""The standing check: what must always hold is looked at all the time, and what does not is told with its ids.

Each worker looks at the partitions it owns, every half minute, by indexes and only at what came since (INVARIANTS says
what is held, in the words that operators read). A finding is a row until it holds again, or for a week; their number by
kind is the metric `linkflow_invariant_violations`, which is 0 in a healthy system however busy it is: whatever may be
about to happen is looked at twice before it is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from uuid import UUID

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Gauge
from sqlalchemy import Column, DateTime, SmallInteger, Table, Text, Uuid, select, tuple_

from subgraphs.execution.events import CALLED, DRAFTED, FINISHED, REQUESTED
from subgraphs.execution.limits.storage import EXCEEDED, LEAKED
from subgraphs.execution.runner.loading import Loading
from subgraphs.execution.storage import metadata
from subgraphs.platform.database import Database
from subgraphs.platform.leases import Leases

log = structlog.get_logger("linkflow.execution")

EVERY = 30.0  # seconds between looks
STARTS = [CALLED, DRAFTED, REQUESTED]
SAMPLE = 200  # journals read at a look, in turn over all of them
CANDIDATES = 5_000

INVARIANTS: Mapping[str, str] = {
    "start.lost": "Every accepted trigger has a run, or a recorded reason why it has none yet.",
    "run.stuck": "Every run that is not final is held by its owner, or has a timer, a letter or a wait.",
    "lease.absent": "Every partition with open runs has a living owner.",
    "journal.hole": "A run's journal has every version from 1 to the run's, once.",
    "end.untold": "Every run that ended has told so.",
    "end.doubled": "No run has told its end twice.",
    "end.unfounded": "A run that has told its end has ended.",
    "limit.exceeded": "No more runs hold a place at a limit than it has.",
    "place.leaked": "A run that has ended holds no place at a limit.",
    "event.unhandled": "Every event a reader is past was acted on by it, or is held with a reason.",
}

STUCK = """
select r.tenant, r.id, r.part, r.status from execution.run r where r.part = any($1::smallint[]) and r.status in (1, 2)
and not exists (select from execution.inbox i where i.tenant = r.tenant and i.run = r.id)
and (r.status = 1 or not exists (
       select from execution.timer t where t.tenant = r.tenant and t.run = r.id and t.name <> 'run')
     and not exists (select from execution.wait w where w.tenant = r.tenant and w.run = r.id))
and not (r.id = any($2::uuid[])) limit $3
"""
LOST = """
select l.tenant, l.id, l.part, l.type, pg_visible_in_snapshot(l.xid, c.snap) and c.upto is null as passed
from bus.log l join bus.pos c on c.consumer = 'execution' and c.part = l.part
where l.part = any($1::smallint[]) and l.xid >= $2::text::xid8 and l.xid < $3::text::xid8 and l.type = any($4::text[])
and l.tenant is not null
and not exists (select from execution.run r where r.tenant = l.tenant and r.id = l.id)
and not exists (select from bus.held h where h.consumer = 'execution' and h.id = l.id) limit $5
"""
UNTOLD = """
select r.tenant, r.id, r.part from bus.log l join execution.run r on r.tenant = l.tenant and r.id = l.id
where l.part = any($1::smallint[]) and l.xid >= $2::text::xid8 and l.xid < $3::text::xid8 and l.type = any($4::text[])
and r.status >= 4 and r.part = l.part
and not exists (select from bus.log f where f.part = any($1::smallint[]) and f.xid >= $2::text::xid8
                and f.type = $6 and f.subject = r.id::text) limit $5
"""
ENDS = """
select f.tenant, f.subject, f.part, count(*) as times, bool_or(r.status < 4) as open from bus.log f
left join execution.run r on r.tenant = f.tenant and r.id = f.subject::uuid
where f.part = any($1::smallint[]) and f.xid >= $2::text::xid8 and f.xid < $3::text::xid8 and f.type = $4
group by f.tenant, f.subject, f.part having count(*) > 1 or bool_or(r.status < 4) limit $5
"""
UNHANDLED = """
select l.tenant, l.id, l.part, l.type, c.consumer from bus.pos c join bus.log l on l.part = c.part
where c.part = any($1::smallint[]) and c.consumer like 'execution.%' and l.xid >= $2::text::xid8
and l.xid < $3::text::xid8 and l.type = any(c.types) and l.tenant is not null
and pg_visible_in_snapshot(l.xid, c.snap) and c.upto is null
and not exists (select from bus.inbox i where i.consumer = c.consumer and i.id = l.id)
and not exists (select from bus.held h where h.consumer = c.consumer and h.id = l.id) limit $4
"""
ABSENT = """
select l.part from bus.lease l left join bus.worker w on w.id = l.owner
where (w.id is null or not w.alive or w.beat < clock_timestamp() - interval '30 seconds')
and exists (select from execution.run r where r.part = l.part and r.status < 4)
"""
JOURNALS = """
select r.tenant, r.id, r.part, r.version,
       array(select j.version from execution.journal j where j.tenant = r.tenant and j.run = r.id order by j.version)
         as versions,
       case when (select sum(octet_length(j.data)) from execution.journal j where j.tenant = r.tenant and j.run = r.id)
         <= 262144 then array(
           select j.data from execution.journal j where j.tenant = r.tenant and j.run = r.id order by j.version) end
         as chunks
from execution.run r where r.part = any($1::smallint[]) and ((r.tenant, r.id) > ($2::uuid, $3::uuid)
     or (r.tenant, r.id) in (select tenant, run from execution.finding where kind = 'journal.hole'))
order by r.tenant, r.id limit $4
"""
NOW = "select pg_snapshot_xmin(pg_current_snapshot())::text"
TELL = """
insert into execution.finding (tenant, kind, subject, part, run, detail)
select * from unnest($1::uuid[], $2::text[], $3::text[], $4::smallint[], $5::uuid[], $6::text[])
on conflict (tenant, kind, subject) do update set seen = clock_timestamp(), detail = excluded.detail
"""
MENDED = """
delete from execution.finding f where f.seen < clock_timestamp() - interval '7 days'
or f.part = any($1::smallint[]) and (
  f.kind = 'start.lost' and exists (select from execution.run r where r.tenant = f.tenant and r.id = f.run)
  or (f.tenant, f.kind, f.subject) in (select * from unnest($2::uuid[], $3::text[], $4::text[])))
"""
STANDING = (
    "select tenant, kind, subject from execution.finding where kind = any($1::text[]) and part = any($2::smallint[])"
)
COUNTS = "select kind, count(*) as found from execution.finding group by kind"

finding = Table(
    "finding",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("part", SmallInteger, nullable=False),
    Column("run", Uuid),
    Column("detail", Text, nullable=False),
    Column("since", DateTime(timezone=True), nullable=False),
    Column("seen", DateTime(timezone=True), nullable=False),
)

Key = tuple[UUID, str, str]
_raw = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Finding:
    """An invariant that does not hold: `subject` is the id of what it is about, `run` the run if it is one."""

    tenant: UUID
    kind: str
    subject: str
    part: int
    run: UUID | None
    detail: str

    @property
    def key(self) -> Key:
        return self.tenant, self.kind, self.subject


class Invariants:
    """The check of one worker. `held`: the runs its runner has in memory."""

    def __init__(
        self,
        database: Database,
        leases: Leases,
        loading: Callable[[], Loading],
        held: Callable[[], Iterable[UUID]],
        registry: CollectorRegistry,
    ) -> None:
        self.database, self.leases, self.loading, self.held = database, leases, loading, held
        self.gauge = Gauge(
            "linkflow_invariant_violations", "Invariants that do not hold, by kind.", ["invariant"], registry=registry
        )
        for kind in INVARIANTS:
            self.gauge.labels(kind)
        self._suspects: set[Key] = set()
        self._since: str | None = None
        self._until: str | None = None
        self._read: tuple[UUID, UUID] = (UUID(int=0), UUID(int=0))
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._loop())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _loop(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.look()
            except Exception:  # a tick's boundary: the next look finds the same
                log.exception("invariants_unchecked")

    async def look(self) -> None:
        """One look. Events are looked at from the second look after they came, runs when found amiss twice."""
        parts = sorted(self.leases.owned)
        if not parts:
            return
        found, sound = await self._journals(parts)
        found += await self._events(parts)
        lasting = [*await self._stuck(parts), *await self._absent(), *await self._limits(parts)]
        found += [finding for finding in lasting if finding.key in self._suspects]
        self._suspects = {finding.key for finding in lasting}
        await self._tell(parts, found, sound)

    async def _events(self, parts: Sequence[int]) -> list[Finding]:
        """What became of the events between the last two looks."""
        fetch, now = self.database.engine.fetch, await self.database.engine.fetchval(NOW)
        since, until = self._since, self._until
        self._since, self._until = until, now
        if since is None or until is None:
            return []
        span = (parts, since, until)
        lost = await fetch(LOST, *span, STARTS, CANDIDATES)
        if any(not row["passed"] for row in lost):
            self._since = since  # what its reader has not come to yet is looked at again
        found = [
            Finding(row["tenant"], "start.lost", str(row["id"]), row["part"], row["id"], f"{row['type']} began no run.")
            for row in lost
            if row["passed"]
        ]
        untold = await fetch(UNTOLD, *span, STARTS, CANDIDATES, FINISHED)
        found += [_of_run("end.untold", row, "It is final, and published no end.") for row in untold]
        for row in await fetch(ENDS, *span, FINISHED, CANDIDATES):
            kind = "end.doubled" if row["times"] > 1 else "end.unfounded"
            detail = f"It published {row['times']} ends." if row["times"] > 1 else "It published its end and is open."
            run = UUID(row["subject"])
            found.append(Finding(row["tenant"], kind, row["subject"], row["part"], run, detail))
        for row in await fetch(UNHANDLED, *span, CANDIDATES):
            subject, detail = f"{row['consumer']}/{row['id']}", f"{row['consumer']} is past {row['type']} {row['id']}."
            found.append(Finding(row["tenant"], "event.unhandled", subject, row["part"], None, detail))
        return found

    async def _stuck(self, parts: Sequence[int]) -> list[Finding]:
        """Open runs that nothing will move. Those that wait for a person to settle a step are not among them."""
        rows = await self.database.engine.fetch(STUCK, parts, list(self.held()), CANDIDATES)
        waiting = [(row["tenant"], row["id"]) for row in rows if row["status"] == 2]
        settling: set[UUID] = set()
        for begin in range(0, len(waiting), 100):
            for stored in await self.loading().runs(waiting[begin : begin + 100]):
                run = stored.run
                if run is not None and any(step.status == "ambiguous" for step in run.steps.values()):
                    settling.add(run.id)
        return [
            _of_run("run.stuck", row, UNHELD if row["status"] == 1 else IDLE)
            for row in rows
            if row["id"] not in settling
        ]

    async def _absent(self) -> list[Finding]:
        return [
            Finding(
                UUID(int=0), "lease.absent", str(row["part"]), row["part"], None, "Nobody owns it, and runs are open."
            )
            for row in await self.database.engine.fetch(ABSENT)
        ]

    async def _limits(self, parts: Sequence[int]) -> list[Finding]:
        """Gates with more runs inside than any of them was allowed, and places of runs that are over."""
        exceeded = [
            Finding(
                row["tenant"],
                "limit.exceeded",
                str(row["gate"]),
                row["part"],
                None,
                f"{row['held']} runs hold one of {row['allowed']} places of {row['name']} {row['key']}.",
            )
            for row in await self.database.engine.fetch(EXCEEDED, parts, CANDIDATES)
        ]
        leaked = await self.database.engine.fetch(LEAKED, parts, CANDIDATES)
        return [*exceeded, *(_of_run("place.leaked", row, "It is over, and stands at a limit.") for row in leaked)]

    async def _journals(self, parts: Sequence[int]) -> tuple[list[Finding], list[Key]]:
        """(journals with holes, those read that are whole): some journals at each look, over time all of them."""
        rows = await self.database.engine.fetch(JOURNALS, parts, *self._read, SAMPLE)
        last = rows[-1] if len(rows) == SAMPLE else None
        self._read = (last["tenant"], last["id"]) if last is not None else (UUID(int=0), UUID(int=0))
        found, sound = list[Finding](), list[Key]()
        for row in rows:
            why = hole(row["version"], row["versions"], row["chunks"])
            if why is not None:
                found.append(_of_run("journal.hole", row, why))
            else:
                sound.append((row["tenant"], "journal.hole", str(row["id"])))
        return found, sound

    async def _tell(self, parts: Sequence[int], found: Sequence[Finding], sound: Sequence[Key]) -> None:
        engine, again = self.database.engine, {finding.key for finding in found}
        standing = await engine.fetch(STANDING, ["run.stuck", "lease.absent", "limit.exceeded", "place.leaked"], parts)
        over = [tuple(row) for row in standing if tuple(row) not in again] + list(sound)
        await engine.execute(MENDED, parts, *_columns(over, 3))
        if found:
            words = [(each.tenant, each.kind, each.subject, each.part, each.run, each.detail) for each in found]
            await engine.execute(TELL, *_columns(words, 6))
        counts = {row["kind"]: row["found"] for row in await engine.fetch(COUNTS)}
        for kind in INVARIANTS:
            self.gauge.labels(kind).set(counts.get(kind, 0))
        for kind in sorted({finding.kind for finding in found}):
            subjects = [finding.subject for finding in found if finding.kind == kind]
            log.error("invariant_violated", invariant=kind, found=len(subjects), first=subjects[:5])


async def findings(database: Database, tenant: UUID, limit: int, after: tuple[str, str]) -> list[Any]:
    """Findings of a tenant by kind and subject, from after this pair on."""
    async with database.read(tenant) as reading:
        query = select(finding).where(reading.tenant_filter(finding.c.tenant))
        query = query.where(tuple_(finding.c.kind, finding.c.subject) > tuple_(*after))
        found = await reading.rows(query.order_by(finding.c.kind, finding.c.subject).limit(limit))
    return list(found)


UNHELD = "It runs, and its owner does not hold it."
IDLE = "It waits, and has neither timer nor letter nor wait."


def hole(version: int, versions: Sequence[int], chunks: Sequence[bytes] | None) -> str | None:
    """What is wrong with a journal of these rows under a head of this version; None if nothing is. Of large journals
    `chunks` are left out, and only where they end is seen."""
    if not versions:
        return f"It has no journal, and {version} events."
    if versions[-1] != version:
        return f"Its journal ends at {versions[-1]}, its head is at {version}."
    for chunk, (before, after) in zip(chunks or (), pairwise([0, *versions]), strict=False):
        if chunk[:1] == b"[" and after - before != (count := len(_raw.decode(chunk))):
            return f"{count} events stand from version {before} to {after}."
    return None


def _of_run(kind: str, row: Any, detail: str) -> Finding:
    return Finding(row["tenant"], kind, str(row["id"]), row["part"], row["id"], detail)


def _columns(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    return [[row[at] for row in rows] for at in range(width)]
