"""People, the organisations of a tenant, and who is a member of which with what role."""

from __future__ import annotations

from alembic import op

from subgraphs.platform.database import tenant_table

revision = "user_0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
create table "user".person (
    tenant uuid not null,
    id uuid not null,
    email text not null,
    name text not null,
    avatar_url text,
    locale text not null,
    time_zone text not null,
    at timestamptz not null,
    primary key (tenant, id)
);

create table "user".organisation (
    tenant uuid not null,
    id uuid not null,
    name text not null,
    at timestamptz not null,
    primary key (tenant, id)
);

create table "user".member (
    tenant uuid not null,
    organisation uuid not null,
    person uuid not null,
    role text not null check (role in ('owner', 'admin', 'editor', 'operator', 'viewer')),
    at timestamptz not null,
    primary key (tenant, organisation, person),
    foreign key (tenant, organisation) references "user".organisation (tenant, id) on delete cascade,
    foreign key (tenant, person) references "user".person (tenant, id) on delete cascade
);
create index member_person on "user".member (tenant, person);

create table "user".abandoned (
    tenant uuid primary key,
    sign_up uuid not null,
    at timestamptz not null
)
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        op.execute(statement)
    for table in ("person", "organisation", "member", "abandoned"):
        for statement in tenant_table("user", table):
            op.execute(statement)
