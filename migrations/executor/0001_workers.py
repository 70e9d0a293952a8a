"""The processes that run steps. The table has no tenant: it is closed to lf_api."""

from __future__ import annotations

from alembic import op

revision = "executor_0001"
down_revision = None
branch_labels = None
depends_on = None

TABLE = """
create table executor.worker (
    id uuid primary key,
    name text not null,
    slots integer not null,
    catalogue text not null,
    started timestamptz not null default clock_timestamp(),
    beat timestamptz not null default clock_timestamp(),
    busy integer not null default 0,
    done bigint not null default 0,
    failed bigint not null default 0
) with (fillfactor = 50)
"""


def upgrade() -> None:
    op.execute(TABLE)
    op.execute("alter table executor.worker enable row level security")
    op.execute("alter table executor.worker force row level security")
    op.execute("grant select, insert, update, delete on executor.worker to lf_engine")
    op.execute("create policy engine on executor.worker to lf_engine using (true) with check (true)")
