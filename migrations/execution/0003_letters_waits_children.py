"""Letters in order, open waits that others must find, children of runs, pauses of many runs."""

from __future__ import annotations

from alembic import op

from subgraphs.platform.database import tenant_table

revision = "execution_0003"
down_revision = "execution_0002"
branch_labels = None
depends_on = None

CHANGES = """
alter table execution.run add column parent uuid;
create index run_parent on execution.run (tenant, parent, id) where parent is not null;

alter table execution.inbox add column seq bigint generated always as identity;
drop index execution.inbox_part;
create index inbox_part on execution.inbox (part, seq);

create table execution.wait (
    tenant uuid not null,
    run uuid not null,
    step text not null,
    attempt integer not null,
    kind text not null,
    name text not null,
    detail text not null,
    since timestamptz not null,
    until timestamptz,
    primary key (tenant, run, step)
);
create index wait_named on execution.wait (tenant, kind, name, run);

create table execution.answered (
    tenant uuid not null,
    run uuid not null,
    step text not null,
    attempt integer not null,
    port text not null,
    by uuid,
    at timestamptz not null,
    primary key (tenant, run, step, attempt)
);

create table execution.delegation (
    tenant uuid not null,
    run uuid not null,
    step text not null,
    attempt integer not null,
    id uuid not null,
    by uuid not null,
    approver text not null,
    at timestamptz not null,
    primary key (tenant, run, step, attempt, id)
);

create table execution.paused (
    tenant uuid not null,
    workflow uuid not null,
    by uuid,
    reason text not null,
    at timestamptz not null,
    primary key (tenant, workflow)
)
"""

FLUSHED: dict[str, tuple[str, ...]] = {"wait": ("upsert", "delete"), "answered": (), "delegation": (), "paused": ()}


def upgrade() -> None:
    for statement in CHANGES.split(";\n"):
        op.execute(statement)
    for table, kinds in FLUSHED.items():
        for statement in tenant_table("execution", table, engine=True, flush=kinds):
            op.execute(statement)
