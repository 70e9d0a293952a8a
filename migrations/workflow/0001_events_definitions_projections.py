"""Event store, documents, projections, wishes to run a draft, and the copy of the catalogue."""

from __future__ import annotations

from alembic import op

from subgraphs.platform.database import function_for_api, tenant_table

revision = "workflow_0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
create table workflow.definition (
    tenant uuid not null,
    digest text not null,
    body bytea not null,
    primary key (tenant, digest)
);

create table workflow.event (
    tenant uuid not null,
    workflow uuid not null,
    version integer not null,
    type text not null,
    data json not null,
    at timestamptz not null,
    primary key (tenant, workflow, version)
);

create table workflow.snapshot (
    tenant uuid not null,
    workflow uuid not null,
    version integer not null,
    state json not null,
    primary key (tenant, workflow)
);

create table workflow.workflow (
    tenant uuid not null,
    id uuid not null,
    name text not null,
    draft integer not null,
    release integer not null,
    archived_at timestamptz,
    created_at timestamptz not null,
    created_by uuid not null,
    updated_at timestamptz not null,
    primary key (tenant, id)
);

create table workflow.revision (
    tenant uuid not null,
    workflow uuid not null,
    number integer not null,
    parent integer,
    source integer,
    name text,
    message text not null,
    author uuid not null,
    at timestamptz not null,
    digest text not null,
    hash text not null,
    faults json not null,
    primary key (tenant, workflow, number)
);

create table workflow.release (
    tenant uuid not null,
    workflow uuid not null,
    number integer not null,
    revision integer not null,
    name text,
    message text not null,
    author uuid not null,
    at timestamptz not null,
    digest text not null,
    execution_at timestamptz,
    webhook_at timestamptz,
    primary key (tenant, workflow, number)
);

create table workflow.draft_run (
    tenant uuid not null,
    workflow uuid not null,
    key text not null,
    execution uuid not null,
    wish text not null,
    at timestamptz not null,
    primary key (tenant, workflow, key)
);

create table workflow.catalogue (
    one integer primary key default 1 check (one = 1),
    digest text not null,
    manifests json not null,
    at timestamptz not null default now()
);
"""

LEARN = """
create function workflow.learn_catalogue(given_digest text, given_manifests json) returns void
language sql security definer set search_path = pg_catalog as $$
    insert into workflow.catalogue (digest, manifests) values (given_digest, given_manifests)
    on conflict (one) do update set digest = excluded.digest, manifests = excluded.manifests, at = excluded.at
$$
"""

DIGEST = """
create function workflow.catalogue_digest() returns text
language sql stable security definer set search_path = pg_catalog as $$
    select digest from workflow.catalogue
$$
"""

READ = """
create function workflow.read_catalogue() returns table (digest text, manifests json)
language sql stable security definer set search_path = pg_catalog as $$
    select c.digest, c.manifests from workflow.catalogue c
$$
"""

TENANT_TABLES = ("definition", "event", "snapshot", "workflow", "revision", "release", "draft_run")
FUNCTIONS = {
    "workflow.learn_catalogue(text, json)": LEARN,
    "workflow.catalogue_digest()": DIGEST,
    "workflow.read_catalogue()": READ,
}


def upgrade() -> None:
    for statement in TABLES.split(";"):
        if statement.strip():
            op.execute(statement)
    for table in TENANT_TABLES:
        for statement in tenant_table("workflow", table):
            op.execute(statement)
    for signature, statement in FUNCTIONS.items():
        op.execute(statement)
        for grant in function_for_api(signature):
            op.execute(grant)
