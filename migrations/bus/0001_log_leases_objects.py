"""The log of published events, its readers' positions and inboxes, workers and leases, holders of stored objects."""

from __future__ import annotations

from alembic import op

from subgraphs.platform.database import MINE, tenant_table

revision = "bus_0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
create table bus.worker (
    id uuid primary key,
    name text not null,
    lock bigint not null,
    alive boolean not null default true,
    claims boolean not null default false,
    started timestamptz not null default clock_timestamp(),
    beat timestamptz not null default clock_timestamp()
) with (fillfactor = 50);

create table bus.lease (
    part smallint primary key,
    owner uuid,
    epoch bigint not null default 0
) with (fillfactor = 50);

create table bus.log (
    part smallint not null,
    xid xid8 not null default pg_current_xact_id(),
    seq integer not null,
    id uuid not null,
    tenant uuid,
    type text not null check (type ~ '^[a-z]+([.][a-z]+){2}[.]v[0-9]+$'),
    subject text not null,
    at timestamptz not null,
    correlation uuid,
    causation uuid,
    data bytea not null,
    primary key (part, xid, seq)
);

create index log_replies on bus.log (subject) where type = 'execution.execution.replied.v1';

create table bus.pos (
    consumer text not null,
    part smallint not null,
    types text[] not null,
    snap pg_snapshot not null default '1:1:',
    upto pg_snapshot,
    after_xid xid8,
    after_seq integer,
    primary key (consumer, part)
) with (fillfactor = 50);

create table bus.inbox (
    consumer text not null,
    id uuid not null,
    tenant uuid,
    at timestamptz not null default clock_timestamp(),
    primary key (consumer, id)
);
create index inbox_at on bus.inbox (at);

create table bus.held (
    consumer text not null,
    id uuid not null,
    part smallint not null,
    xid xid8 not null,
    seq integer not null,
    tenant uuid,
    subject text not null,
    attempts integer not null default 0,
    due timestamptz not null default clock_timestamp(),
    error text,
    parked timestamptz,
    primary key (consumer, id)
);
create index held_open on bus.held (consumer, part, xid, seq) where parked is null;
create index held_place on bus.held (part, xid, seq);

create table bus.blob (
    tenant uuid not null,
    sha256 text not null,
    holder uuid not null,
    at timestamptz not null default clock_timestamp(),
    primary key (tenant, sha256, holder)
)
"""

GRANTS = {
    "worker": {"lf_engine": "select, insert, update, delete"},
    "lease": {"lf_engine": "select, insert, update", "lf_ingress": "select, update"},
    "log": {"lf_engine": "select, delete", "lf_ingress": "insert"},
    "pos": {"lf_engine": "select, insert, update, delete"},
    "inbox": {"lf_engine": "select, delete"},
    "held": {"lf_engine": "select, insert, update, delete"},
}


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        op.execute(statement)
    for table, roles in GRANTS.items():
        op.execute(f"alter table bus.{table} enable row level security")
        op.execute(f"alter table bus.{table} force row level security")
        for role, rights in roles.items():
            op.execute(f"grant {rights} on bus.{table} to {role}")
            op.execute(f"create policy {role[3:]} on bus.{table} to {role} using (true) with check (true)")
    for table in ("log", "inbox"):
        op.execute(f"grant insert on bus.{table} to lf_api")
        check = f"tenant is not distinct from {MINE}"
        op.execute(f"create policy tenant on bus.{table} for insert to lf_api with check ({check})")
    for statement in tenant_table("bus", "blob", engine=True, flush=("ingress",)):
        op.execute(statement)
