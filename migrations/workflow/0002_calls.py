"""Which releases call which workflows: who is called by whom, and whether a release would lead back to itself."""

from __future__ import annotations

from alembic import op

from subgraphs.platform.database import tenant_table

revision = "workflow_0002"
down_revision = "workflow_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table workflow.call (
            tenant uuid not null,
            workflow uuid not null,
            release integer not null,
            node text not null,
            callee uuid not null,
            pinned integer,
            primary key (tenant, workflow, release, node)
        )
    """)
    op.execute("create index call_callee on workflow.call (tenant, callee, workflow, node)")
    for statement in tenant_table("workflow", "call"):
        op.execute(statement)
