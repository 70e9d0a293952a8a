"""Indexes of the run list, and the business keys of runs.

Each index serves a filter newest first, so that a page is read from one place of one index whatever the number of runs.
A run that a webhook begins and that ends well pays for one more of them (`run_release`); the others hold only runs that
failed, or that no webhook began.
"""

from __future__ import annotations

from alembic import op

from subgraphs.platform.database import tenant_table

revision = "execution_0002"
down_revision = "execution_0001"
branch_labels = None
depends_on = None

STATEMENTS = """
create index run_release on execution.run (tenant, workflow, release, id desc);
create index run_unwell on execution.run (tenant, workflow, status, id desc) where status > 4;
create index run_by_hand on execution.run (tenant, mode, id desc) where mode <> 'webhook';
create index run_workflow_by_hand on execution.run (tenant, workflow, mode, id desc) where mode <> 'webhook';
create index run_error on execution.run (tenant, (error::jsonb ->> 'code'), id desc) where error is not null;

create table execution.run_key (
    tenant uuid not null,
    run uuid not null,
    name text not null check (length(name) between 1 and 64),
    value text not null check (length(value) <= 256),
    primary key (tenant, run, name)
);
create index run_key_value on execution.run_key (tenant, name, value, run desc)
"""

TEXT = """
do $$ declare trgm text; gin text;
begin
    if (select count(*) from pg_available_extensions where name in ('pg_trgm', 'btree_gin')) < 2 then return; end if;
    create extension if not exists pg_trgm schema execution;
    create extension if not exists btree_gin schema execution;
    select format('%I', n.nspname) into trgm from pg_extension e join pg_namespace n on n.oid = e.extnamespace
        where extname = 'pg_trgm';
    select format('%I', n.nspname) into gin from pg_extension e join pg_namespace n on n.oid = e.extnamespace
        where extname = 'btree_gin';
    execute format('create index run_error_text on execution.run using gin (tenant %s.uuid_ops,
        ((error::jsonb ->> ''code'') || '' '' || (error::jsonb ->> ''message'')) %s.gin_trgm_ops)
        where error is not null', gin, trgm);
end $$
"""
"""Searching error texts by three letters. Where the server lacks the extensions, the failed runs are read instead."""


def upgrade() -> None:
    for statement in STATEMENTS.split(";\n"):
        op.execute(statement)
    op.execute(TEXT)
    for statement in tenant_table("execution", "run_key", engine=True, flush=("upsert",)):
        op.execute(statement)
