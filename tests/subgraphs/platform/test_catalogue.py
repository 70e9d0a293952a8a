"""What the database lets each role do, against lists that were read and agreed to."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from subgraphs.platform.settings import Settings

BEFORE_A_TENANT_IS_KNOWN = {
    "auth.account_by_email(text)",
    "auth.session_by_refresh_hash(bytea)",
    "auth.sign_up_state(uuid)",
    "auth.sign_ups_overdue(timestamp with time zone)",
    "webhook.endpoint_by_token(bytea)",
}
WITHOUT_A_TENANT = {
    "auth.signing_keys()",
    "auth.first_signing_key(text,bytea,jsonb)",
    "auth.attempts(bytea[])",
    "auth.note_failure(bytea[],timestamp with time zone,interval)",
    "auth.forget_failures(bytea[])",
    "node.replace_types(text,json)",
    "node.find_types(text[],text,text,integer)",
    "node.count_types(text[])",
    "node.read_type(text,text)",
    "node.catalogue_digest()",
    "workflow.learn_catalogue(text,json)",
    "workflow.catalogue_digest()",
    "workflow.read_catalogue()",
}
DEFINER = BEFORE_A_TENANT_IS_KNOWN | WITHOUT_A_TENANT
"""Functions that run as the owner: each answers one question of tables that lf_api cannot see, and no more."""

FLUSH = {
    "bus.blob": "INSERT",
    "bus.lease": "SELECT UPDATE",
    "bus.log": "INSERT",
    "execution.gate": "INSERT SELECT UPDATE",
    "execution.inbox": "DELETE INSERT SELECT",
    "execution.journal": "INSERT",
    "execution.run": "INSERT SELECT UPDATE",
    "execution.snapshot": "INSERT",
    "execution.start_key": "INSERT SELECT UPDATE",
    "execution.run_key": "INSERT SELECT UPDATE",
    "execution.wait": "DELETE INSERT SELECT UPDATE",
    "execution.ticket": "DELETE INSERT SELECT",
    "execution.timer": "DELETE INSERT SELECT UPDATE",
    "execution.verdict": "DELETE INSERT SELECT UPDATE",
    "webhook.call": "INSERT",
    "webhook.seen": "INSERT SELECT UPDATE",
}
"""What the flush role may do. Where it only writes, it cannot read: no call, no journal, no event."""


@pytest.fixture
async def catalogue(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(settings.dsn("lf_admin"))
    yield connection
    await connection.close()


async def test_the_functions_that_see_across_tenants_are_the_reviewed_ones(catalogue: asyncpg.Connection) -> None:
    rows = await catalogue.fetch(
        """select p.oid::regprocedure::text as name, proconfig, proowner::regrole::text as owner,
                  has_function_privilege('lf_api', p.oid, 'execute') as api,
                  has_function_privilege('lf_engine', p.oid, 'execute') as engine,
                  has_function_privilege('lf_ingress', p.oid, 'execute') as ingress
           from pg_proc p where prosecdef and pronamespace::regnamespace::text not in ('pg_catalog')"""
    )
    names = {row["name"] for row in rows}
    assert (sorted(names - DEFINER), sorted(DEFINER - names)) == ([], [])
    for row in rows:
        assert row["owner"] == "lf_migrate", row["name"]
        assert any(setting.startswith("search_path=pg_catalog") for setting in row["proconfig"] or ()), row["name"]
        assert (row["api"], row["engine"], row["ingress"]) == (True, False, False), row["name"]


async def test_the_flush_role_may_do_just_what_flushes_need(catalogue: asyncpg.Connection) -> None:
    rows = await catalogue.fetch(
        """select table_schema || '.' || table_name as name,
                  string_agg(distinct privilege_type, ' ' order by privilege_type) as rights
           from information_schema.table_privileges where grantee = 'lf_ingress' group by 1"""
    )
    found = {row["name"]: row["rights"] for row in rows}
    assert sorted(found.items() ^ FLUSH.items()) == []


async def test_no_role_is_a_member_of_another_nor_owns_a_schema(catalogue: asyncpg.Connection) -> None:
    members = await catalogue.fetch(
        """select m.rolname as member, g.rolname as of from pg_auth_members a join pg_roles m on m.oid = member
           join pg_roles g on g.oid = roleid where m.rolname in ('lf_api', 'lf_engine', 'lf_ingress', 'lf_migrate')"""
    )
    assert not [tuple(row.values()) for row in members]
    schemas = await catalogue.fetch(
        "select nspname, nspowner::regrole::text as owner from pg_namespace where nspname !~ '^pg_' "
        "and nspname not in ('information_schema', 'public')"
    )
    assert {row["owner"] for row in schemas} == {"lf_migrate"}


async def test_policies_name_the_role_they_are_for(catalogue: asyncpg.Connection) -> None:
    """A policy for everybody, or one that lets lf_api see more than its tenant, would be a hole."""
    rows = await catalogue.fetch(
        "select schemaname || '.' || tablename as name, roles::text[] as roles, qual, with_check from pg_policies"
    )
    assert rows
    for row in rows:
        assert "public" not in row["roles"], row["name"]
        if "lf_api" in row["roles"]:
            said = f"{row['qual'] or ''}{row['with_check'] or ''}"
            assert "app.tenant" in said, row["name"]
            assert row["roles"] == ["lf_api"], row["name"]
