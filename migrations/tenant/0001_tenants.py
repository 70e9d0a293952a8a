"""Tenants. A tenant's own id is its tenant column."""

from __future__ import annotations

from alembic import op

from subgraphs.platform.database import tenant_table

revision = "tenant_0001"
down_revision = None
branch_labels = None
depends_on = None

TABLE = """
create table tenant.tenant (
    tenant uuid primary key,
    name text not null,
    slug text not null,
    state text not null check (state in ('ACTIVE', 'SUSPENDED')),
    sign_up uuid not null,
    at timestamptz not null
);
create unique index tenant_slug on tenant.tenant (slug);

create table tenant.abandoned (
    tenant uuid primary key,
    sign_up uuid not null,
    at timestamptz not null
)
"""


def upgrade() -> None:
    for statement in TABLE.split(";\n"):
        op.execute(statement)
    for table in ("tenant", "abandoned"):
        for statement in tenant_table("tenant", table):
            op.execute(statement)
