"""Operations on many runs at once, and the runs of the page that is under way."""

from __future__ import annotations

from alembic import op

from subgraphs.platform.database import tenant_table

revision = "execution_0007"
down_revision = "execution_0006"
branch_labels = None
depends_on = None

TABLES = """
create table execution.bulk (
    tenant uuid not null,
    id uuid not null,
    action text not null,
    filter text not null,
    by uuid not null,
    canary integer not null,
    tolerated real not null,
    state text not null,
    reason text,
    cursor uuid,
    matched bigint not null,
    done bigint not null default 0,
    failed bigint not null default 0,
    at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    primary key (tenant, id)
);
create index bulk_running on execution.bulk (id) where state = 'running';

create table execution.bulk_item (
    tenant uuid not null,
    bulk uuid not null,
    target uuid not null,
    made uuid not null,
    at timestamptz not null default clock_timestamp(),
    primary key (tenant, bulk, target)
)
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        op.execute(statement)
    for table in ("bulk", "bulk_item"):
        for statement in tenant_table("execution", table, engine=True):
            op.execute(statement)
