"""What the standing check of the invariants finds."""

from __future__ import annotations

from alembic import op

from subgraphs.platform.database import tenant_table

revision = "execution_0004"
down_revision = "execution_0003"
branch_labels = None
depends_on = None

FINDING = """
create table execution.finding (
    tenant uuid not null,
    kind text not null,
    subject text not null,
    part smallint not null,
    run uuid,
    detail text not null,
    since timestamptz not null default clock_timestamp(),
    seen timestamptz not null default clock_timestamp(),
    primary key (tenant, kind, subject)
)
"""


def upgrade() -> None:
    op.execute(FINDING)
    for statement in tenant_table("execution", "finding", engine=True):
        op.execute(statement)
