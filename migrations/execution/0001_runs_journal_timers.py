"""Runs, their journal and snapshots, timers, inbox, idempotency keys, and the releases they run."""

from __future__ import annotations

from alembic import op

from subgraphs.platform.database import tenant_table

revision = "execution_0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
create table execution.run (
    tenant uuid not null,
    id uuid not null,
    part smallint not null,
    version integer not null,
    epoch bigint not null,
    workflow uuid,
    name text not null,
    mode text not null,
    release integer,
    revision integer,
    status smallint not null,
    started_at timestamptz not null,
    finished_at timestamptz,
    error text,
    started_by uuid,
    rerun_of uuid,
    primary key (tenant, id)
) with (fillfactor = 80);
create index run_open on execution.run (part) where status < 4;
create index run_workflow on execution.run (tenant, workflow, id desc);
create index run_status on execution.run (tenant, status, id desc);

create table execution.journal (
    tenant uuid not null,
    run uuid not null,
    version integer not null,
    epoch bigint not null,
    data bytea not null check (octet_length(data) <= 1048576),
    primary key (tenant, run, version)
);

create table execution.snapshot (
    tenant uuid not null,
    run uuid not null,
    version integer not null,
    data bytea not null check (octet_length(data) <= 1048576),
    primary key (tenant, run, version)
);

create table execution.timer (
    tenant uuid not null,
    run uuid not null,
    name text not null,
    part smallint not null,
    due timestamptz not null,
    primary key (tenant, run, name)
);
create index timer_due on execution.timer (part, due);

create table execution.inbox (
    tenant uuid not null,
    run uuid not null,
    id uuid not null,
    part smallint not null,
    kind text not null,
    data text not null,
    primary key (tenant, run, id)
);
create index inbox_part on execution.inbox (part);

create table execution.start_key (
    tenant uuid not null,
    key text not null,
    id uuid not null,
    hash bytea not null,
    until timestamptz not null,
    primary key (tenant, key)
);
create index start_key_until on execution.start_key (until);

create table execution.release (
    tenant uuid not null,
    workflow uuid not null,
    release integer not null,
    name text not null,
    definition text not null,
    types text not null,
    primary key (tenant, workflow, release)
)
"""

FLUSHED: dict[str, tuple[str, ...]] = {
    "run": ("head",),
    "journal": ("insert",),
    "snapshot": ("insert",),
    "timer": ("upsert", "delete"),
    "inbox": ("delete",),
    "start_key": ("claim",),
    "release": (),
}


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        op.execute(statement)
    for table, kinds in FLUSHED.items():
        for statement in tenant_table("execution", table, engine=True, flush=kinds):
            op.execute(statement)
