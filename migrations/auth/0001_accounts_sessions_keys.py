"""Accounts, sessions and their refresh tokens, sign-ups, signing keys, wrong-password counts."""

from __future__ import annotations

from alembic import op

from subgraphs.platform.database import function_for_api, tenant_table

revision = "auth_0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
create table auth.signing_key (
    kid text primary key,
    sealed bytea not null,
    public jsonb not null,
    made timestamptz not null default clock_timestamp(),
    retired timestamptz
);

create table auth.sign_up (
    tenant uuid not null,
    id uuid not null,
    account uuid not null,
    organisation uuid not null,
    state text not null check (state in ('REQUESTED', 'COMPLETED', 'FAILED')),
    reason text,
    at timestamptz not null,
    ended timestamptz,
    primary key (tenant, id)
);
create index sign_up_open on auth.sign_up (at) where state = 'REQUESTED';

create table auth.account (
    tenant uuid not null,
    id uuid not null,
    email text not null,
    email_key text not null,
    password text not null,
    name text not null,
    role text,
    active boolean not null,
    at timestamptz not null,
    primary key (tenant, id)
);
create unique index account_email on auth.account (email_key);

create table auth.session (
    tenant uuid not null,
    id uuid not null,
    account uuid not null,
    at timestamptz not null,
    used timestamptz not null,
    expires timestamptz not null,
    revoked timestamptz,
    reason text,
    primary key (tenant, id),
    foreign key (tenant, account) references auth.account (tenant, id) on delete cascade
);
create index session_account on auth.session (tenant, account);

create table auth.refresh_token (
    tenant uuid not null,
    hash bytea not null,
    session uuid not null,
    at timestamptz not null,
    used timestamptz,
    primary key (tenant, hash),
    foreign key (tenant, session) references auth.session (tenant, id) on delete cascade
);
create unique index refresh_token_hash on auth.refresh_token (hash);
create index refresh_token_session on auth.refresh_token (tenant, session);

create unlogged table auth.attempt (
    key bytea primary key,
    failures integer not null,
    at timestamptz not null
)
"""

FUNCTIONS = {
    # What must be known before a tenant is: each answers one question, and nothing else of the row.
    "auth.account_by_email(text)": """
create function auth.account_by_email(wanted text)
returns table (tenant uuid, id uuid, password text, active boolean)
language sql stable security definer set search_path = pg_catalog as $$
    select a.tenant, a.id, a.password, a.active from auth.account a where a.email_key = wanted
$$""",
    "auth.session_by_refresh_hash(bytea)": """
create function auth.session_by_refresh_hash(wanted bytea)
returns table (tenant uuid, session uuid)
language sql stable security definer set search_path = pg_catalog as $$
    select r.tenant, r.session from auth.refresh_token r where r.hash = wanted
$$""",
    "auth.sign_up_state(uuid)": """
create function auth.sign_up_state(wanted uuid)
returns table (tenant uuid, state text, reason text, at timestamptz)
language sql stable security definer set search_path = pg_catalog as $$
    select s.tenant, s.state, s.reason, s.at from auth.sign_up s where s.id = wanted
$$""",
    "auth.sign_ups_overdue(timestamptz)": """
create function auth.sign_ups_overdue(before timestamptz)
returns table (tenant uuid, id uuid)
language sql stable security definer set search_path = pg_catalog as $$
    select s.tenant, s.id from auth.sign_up s where s.state = 'REQUESTED' and s.at < before order by s.at limit 100
$$""",
    "auth.signing_keys()": """
create function auth.signing_keys()
returns table (kid text, sealed bytea, public jsonb, retired timestamptz)
language sql stable security definer set search_path = pg_catalog as $$
    select k.kid, k.sealed, k.public, k.retired from auth.signing_key k order by k.made
$$""",
    "auth.first_signing_key(text, bytea, jsonb)": """
create function auth.first_signing_key(new_kid text, new_sealed bytea, new_public jsonb)
returns void
language plpgsql security definer set search_path = pg_catalog as $$
begin
    perform pg_advisory_xact_lock(1818649956);
    if not exists (select from auth.signing_key k where k.retired is null) then
        insert into auth.signing_key (kid, sealed, public) values (new_kid, new_sealed, new_public);
    end if;
end
$$""",
    "auth.attempts(bytea[])": """
create function auth.attempts(wanted bytea[])
returns table (key bytea, failures integer, at timestamptz)
language sql stable security definer set search_path = pg_catalog as $$
    select a.key, a.failures, a.at from auth.attempt a where a.key = any (wanted)
$$""",
    "auth.note_failure(bytea[], timestamptz, interval)": """
create function auth.note_failure(wanted bytea[], moment timestamptz, forgotten interval)
returns void
language sql volatile security definer set search_path = pg_catalog as $$
    delete from auth.attempt a where a.at < moment - forgotten;
    insert into auth.attempt as a (key, failures, at)
    select k, 1, moment from unnest(wanted) k order by k
    on conflict (key) do update set failures = a.failures + 1, at = excluded.at
$$""",
    "auth.forget_failures(bytea[])": """
create function auth.forget_failures(wanted bytea[])
returns void
language sql volatile security definer set search_path = pg_catalog as $$
    delete from auth.attempt a where a.key = any (wanted)
$$""",
}

DEFINED = {
    "sign_up": ("select",),
    "account": ("select",),
    "session": (),
    "refresh_token": ("select",),
}


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        op.execute(statement)
    for table, definer in DEFINED.items():
        for statement in tenant_table("auth", table, definer=definer):
            op.execute(statement)
    for table in ("signing_key", "attempt"):
        op.execute(f"alter table auth.{table} enable row level security")
        op.execute(f"alter table auth.{table} force row level security")
        op.execute(f"create policy definer on auth.{table} to lf_migrate using (true) with check (true)")
    for signature, body in FUNCTIONS.items():
        op.execute(body)
        for statement in function_for_api(signature):
            op.execute(statement)
