"""What can be asked of Auth's tables before a tenant is known, and by whom."""

from __future__ import annotations

import asyncpg
import pytest

from subgraphs.platform.settings import Settings

BEFORE_A_TENANT = {
    "auth.account_by_email(text)",
    "auth.session_by_refresh_hash(bytea)",
    "auth.sign_up_state(uuid)",
    "auth.sign_ups_overdue(timestamp with time zone)",
    "auth.signing_keys()",
    "auth.first_signing_key(text,bytea,jsonb)",
    "auth.attempts(bytea[])",
    "auth.note_failure(bytea[],timestamp with time zone,interval)",
    "auth.forget_failures(bytea[])",
}


async def test_only_listed_functions_answer_before_a_tenant_is_known(settings: Settings) -> None:
    connection = await asyncpg.connect(settings.dsn("lf_admin"))
    try:
        rows = await connection.fetch(
            """select p.oid::regprocedure::text as name, has_function_privilege('lf_api', p.oid, 'execute') as api,
                      has_function_privilege('lf_engine', p.oid, 'execute') as engine, proconfig
               from pg_proc p where pronamespace = 'auth'::regnamespace and prosecdef"""
        )
    finally:
        await connection.close()
    assert {row["name"] for row in rows} == BEFORE_A_TENANT
    assert all(row["api"] and not row["engine"] for row in rows)
    assert all(row["proconfig"] == ["search_path=pg_catalog"] for row in rows)


@pytest.mark.parametrize("table", ["account", "session", "refresh_token", "sign_up", "signing_key", "attempt"])
async def test_without_a_tenant_no_row_of_auth_can_be_read_or_written(settings: Settings, table: str) -> None:
    connection = await asyncpg.connect(settings.dsn("lf_api"))
    try:
        if table in ("signing_key", "attempt"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"select * from auth.{table}")
        else:
            assert await connection.fetch(f"select * from auth.{table}") == []
            assert await connection.execute(f"update auth.{table} set tenant = gen_random_uuid()") == "UPDATE 0"
    finally:
        await connection.close()
