"""Limits: gates, the tickets of runs at them, and what was decided."""

from __future__ import annotations

from alembic import op

from subgraphs.platform.database import tenant_table

revision = "execution_0005"
down_revision = "execution_0004"
branch_labels = None
depends_on = None

TABLES = """
create table execution.gate (
    tenant uuid not null,
    id uuid not null,
    part smallint not null,
    version integer not null,
    epoch bigint not null,
    memo text not null,
    primary key (tenant, id)
) with (fillfactor = 70);
create index gate_part on execution.gate (part);

create table execution.ticket (
    tenant uuid not null,
    run uuid not null,
    gate uuid not null,
    part smallint not null,
    run_part smallint not null,
    workflow uuid,
    name text not null,
    key text not null,
    at bigint not null,
    priority smallint not null,
    turn text not null,
    terms text not null,
    primary key (tenant, run, gate)
);
create index ticket_gate on execution.ticket (tenant, gate);
create index ticket_part on execution.ticket (part);

create table execution.verdict (
    tenant uuid not null,
    run uuid not null,
    gate uuid not null,
    part smallint not null,
    at bigint not null,
    until bigint,
    word smallint not null,
    primary key (tenant, run, gate)
);
create index verdict_gate on execution.verdict (tenant, gate);
create index verdict_part on execution.verdict (part)
"""

FLUSHED: dict[str, tuple[str, ...]] = {
    "gate": ("head",),
    "ticket": ("insert", "delete"),
    "verdict": ("upsert", "delete"),
}


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        op.execute(statement)
    for table, kinds in FLUSHED.items():
        for statement in tenant_table("execution", table, engine=True, flush=kinds):
            op.execute(statement)
    op.execute("grant insert on execution.inbox to lf_ingress")
