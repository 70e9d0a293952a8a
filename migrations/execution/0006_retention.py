"""How long what is kept of runs, and which runs have lost their payload."""

from __future__ import annotations

from alembic import op

from subgraphs.platform.database import tenant_table

revision = "execution_0006"
down_revision = "execution_0005"
branch_labels = None
depends_on = None

TABLES = """
create table execution.retention (
    tenant uuid not null,
    workflow uuid not null,
    outcome smallint not null check (outcome = 0 or outcome between 4 and 7),
    payload_days integer check (payload_days between 1 and 36500),
    keep_days integer check (keep_days between 8 and 36500),
    by uuid,
    at timestamptz not null default clock_timestamp(),
    primary key (tenant, workflow, outcome)
);

create table execution.stripped (
    tenant uuid not null,
    run uuid not null,
    at timestamptz not null default clock_timestamp(),
    primary key (tenant, run)
)
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        op.execute(statement)
    for table in ("retention", "stripped"):
        for statement in tenant_table("execution", table, engine=True):
            op.execute(statement)
