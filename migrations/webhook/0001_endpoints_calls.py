"""Endpoints and their secret URLs, the calls that came, and the calls that must not count twice."""

from __future__ import annotations

from alembic import op

from subgraphs.platform.database import function_for_api, tenant_table

revision = "webhook_0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
create table webhook.endpoint (
    tenant uuid not null,
    id uuid not null,
    workflow uuid not null,
    node text not null,
    release integer not null,
    methods text[] not null,
    respond text not null check (respond in ('now', 'done', 'node')),
    patience double precision not null,
    dedupe text not null check (dedupe in ('auto', 'id', 'body', 'none')),
    dedupe_header text,
    dedupe_window double precision not null,
    declared text not null,
    declared_header text,
    auth text not null check (auth in ('none', 'header', 'hmac')),
    preset text check (preset in ('github')),
    header text not null,
    secret bytea,
    token bytea not null,
    token_hash bytea not null,
    present boolean not null,
    at timestamptz not null,
    changed timestamptz not null,
    primary key (tenant, id)
);
create unique index endpoint_token on webhook.endpoint (token_hash);
create unique index endpoint_node on webhook.endpoint (tenant, workflow, node);

create table webhook.workflow (
    tenant uuid not null,
    id uuid not null,
    release integer not null default 0,
    open boolean not null default true,
    primary key (tenant, id)
);

create table webhook.call (
    tenant uuid not null,
    endpoint uuid not null,
    id uuid not null,
    at timestamptz not null,
    method text not null,
    path text not null,
    query text not null,
    headers text not null,
    content_type text,
    size integer not null,
    body bytea,
    body_ref text,
    status smallint not null,
    outcome text not null check (outcome in ('accepted', 'duplicate', 'refused')),
    reason text,
    execution uuid,
    duplicate_of uuid,
    primary key (tenant, endpoint, id)
);

create table webhook.seen (
    tenant uuid not null,
    endpoint uuid not null,
    key bytea not null,
    id uuid not null,
    until timestamptz not null,
    primary key (tenant, endpoint, key)
);
create index seen_until on webhook.seen (until)
"""

LOOKUP = """
create function webhook.endpoint_by_token(hash bytea) returns setof webhook.endpoint
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select e.* from webhook.endpoint e
    join webhook.workflow w on w.tenant = e.tenant and w.id = e.workflow
    where e.token_hash = hash and e.present and w.open
$$
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        op.execute(statement)
    op.execute(LOOKUP)
    statements = [
        *tenant_table("webhook", "endpoint", definer=("select",)),
        *tenant_table("webhook", "workflow", definer=("select",)),
        *tenant_table("webhook", "call", flush=("ingress",)),
        *tenant_table("webhook", "seen", engine=True, flush=("claim",)),
        *function_for_api("webhook.endpoint_by_token(bytea)"),
    ]
    for statement in statements:
        op.execute(statement)
