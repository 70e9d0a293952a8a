"""Where queued runs stand: one statement, whatever their number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import RowMapping, text

from subgraphs.execution.limits.terms import NOBODY, terms_of
from subgraphs.execution.limits.why import Held, Standing
from subgraphs.platform.database import Reading

HOLDERS = 10
STANDING = text(
    f"""
with mine as (
  select t.* from execution.ticket t
  left join execution.verdict v on v.tenant = t.tenant and v.run = t.run and v.gate = t.gate
  where t.tenant = :tenant and t.run = any(:runs) and v.word is null
), gates as (
  select m.gate, bool_or(m.terms like '%"mode":"roundRobin"%') as turns, max(g.memo) as memo
  from mine m left join execution.gate g on g.tenant = m.tenant and g.id = m.gate group by m.gate
), waiting as (
  select t.gate, t.run, t.at, t.priority, t.turn, g.turns, t.turn <= coalesce(g.memo::jsonb ->> 'turn', '') as had,
    row_number() over (partition by t.gate, t.turn order by t.priority desc, t.at, t.run) as nth
  from gates g join execution.ticket t on t.tenant = :tenant and t.gate = g.gate
  left join execution.verdict v on v.tenant = t.tenant and v.run = t.run and v.gate = t.gate where v.word is null
), placed as (
  select gate, run, count(*) over (partition by gate) as waiting,
    min(at) over (partition by gate) as first, max(at) over (partition by gate) as last,
    row_number() over (partition by gate order by case when turns then nth else 0 end, turns and had,
      case when turns then turn collate "C" else '' end, priority desc, at, run) as place
  from waiting
)
select m.run, m.workflow, m.name, m.key, m.terms, m.at, p.place, p.waiting, p.first, p.last,
  g.memo::jsonb ->> 'pace' as pace,
  array(select v.run from execution.verdict v join execution.ticket t on t.tenant = v.tenant and t.run = v.run
    and t.gate = v.gate where v.tenant = :tenant and v.gate = m.gate and v.word <> 1
    order by v.at limit {HOLDERS}) as holders,
  (select count(*) from execution.verdict v join execution.ticket t on t.tenant = v.tenant and t.run = v.run
    and t.gate = v.gate where v.tenant = :tenant and v.gate = m.gate and v.word <> 1) as held,
  array(select v.at from execution.verdict v where v.tenant = :tenant and v.gate = m.gate and v.word = 0
    and v.until > :now order by v.at desc limit (m.terms::jsonb ->> 'limit')::integer) as starts
from mine m join placed p on p.gate = m.gate and p.run = m.run join gates g on g.gate = m.gate
"""  # noqa: S608 - our own columns
)
PAUSES = text("select workflow, by, reason, at from execution.paused where tenant = :tenant")


async def standings(reading: Reading, runs: Sequence[UUID], now: int) -> Mapping[UUID, tuple[Standing, Held | None]]:
    """The queued ones of these runs, with what pauses them if anything does."""
    pauses = {row["workflow"]: row for row in await reading.rows(PAUSES, {"tenant": reading.tenant})}
    rows = await reading.rows(STANDING, {"tenant": reading.tenant, "runs": list(runs), "now": now})
    return {row["run"]: _standing(row, pauses) for row in rows}


def _standing(row: RowMapping, pauses: Mapping[UUID, RowMapping]) -> tuple[Standing, Held | None]:
    pause = pauses.get(row["workflow"]) or pauses.get(NOBODY)
    standing = Standing(
        limit=row["name"],
        key=row["key"],
        terms=terms_of(row["terms"].encode()),
        at=row["at"],
        place=row["place"],
        waiting=row["waiting"],
        first=row["first"],
        last=row["last"],
        held=row["held"],
        holders=list(row["holders"]),
        starts=list(row["starts"]),
        pace=int(row["pace"]) if row["pace"] is not None else None,
        paused=pause is not None,
    )
    held = Held(pause["by"], pause["reason"], int(pause["at"].timestamp() * 1e6)) if pause is not None else None
    return standing, held
