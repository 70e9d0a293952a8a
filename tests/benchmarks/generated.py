"""Runs by the million, made by the database itself: what lists and indexes are measured on.

The mix: 40 workflows of which the first few run most, nine releases one after the other, four of five runs begun by
webhook, one in twenty ended badly (twelve error codes), one in a thousand still waiting, one in ten with business keys.
Ids are UUIDv7 whose time rises with the run's number, as real ones do.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

BATCH = 100_000

RUNS = """
insert into execution.run (tenant, id, part, version, epoch, workflow, name, mode, release, revision, status,
                           started_at, finished_at, error, started_by, rerun_of)
select $1, id, n % 16, 6, 1,
       ('01900000-0000-7000-8000-' || lpad(to_hex(place), 12, '0'))::uuid, 'Workflow ' || place, mode,
       case when mode <> 'draft' then 1 + (n * 9 / $4)::integer end, case when mode = 'draft' then 7 end,
       status, at, case when status >= 4 then at + interval '40 milliseconds' end,
       case when status in (5, 7) then json_build_object(
         'code', case when status = 7 then 'execution.timeout' else 'http.status.5' || lpad((n % 11)::text, 2, '0') end,
         'message', 'The service orders-' || n % 97 || ' answered 5' || lpad((n % 11)::text, 2, '0') || '.',
         'kind', 'infrastructure')::text end,
       null, null
from (
  select n, moment as at, case when dice < 0.80 then 'webhook' when dice < 0.99 then 'manual' else 'draft' end as mode,
         case when luck < 0.001 then 2 when luck < 0.949 then 4 when luck < 0.985 then 5 when luck < 0.995 then 6
              else 7 end as status,
         floor(40 * taste * taste * taste)::integer as place,
         (lpad(to_hex(floor(extract(epoch from moment) * 1000)::bigint), 12, '0') || '7'
          || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid as id
  from (select n, random() as dice, random() as luck, random() as taste,
               now() - interval '30 days' * (1 - n::double precision / $4) as moment
        from generate_series($2::bigint, $3::bigint - 1) n) made) placed
"""


KEYS = """
insert into execution.run_key (tenant, run, name, value)
select tenant, id, k.name, k.value from (
  select tenant, id, abs(hashtext(right(id::text, 12))) as dice from execution.run where tenant = $1) r,
  lateral (values ('order', 'A-' || dice % 1000000), ('customer', 'c-' || dice % 200)) k(name, value)
where dice % 10 = 0
"""


async def fill(connection: Any, tenant: UUID, runs: int) -> None:
    """Adds `runs` runs to the tenant. `connection`: asyncpg's, of a role that row-level security does not bind."""
    await connection.execute("select setseed(0.5)")  # the same runs every time, but for when they began
    for first in range(0, runs, BATCH):
        await connection.execute(RUNS, tenant, first, min(runs, first + BATCH), runs)
    await connection.execute(KEYS, tenant)
    await connection.execute("vacuum (analyze) execution.run, execution.run_key")


def workflow(place: int) -> UUID:
    """The id of one of the 40 workflows; 0 runs most."""
    return UUID(f"01900000-0000-7000-8000-{place:012x}")
