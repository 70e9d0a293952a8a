"""The migrated database, seen from its catalogue: every schema stands alone, every role has just its rights."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from subgraphs.platform.migrate import schemas
from subgraphs.platform.settings import Settings


@pytest.fixture
async def catalogue(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(settings.dsn("lf_admin"))
    yield connection
    await connection.close()


async def test_every_table_is_in_the_schema_of_a_history(catalogue: asyncpg.Connection) -> None:
    rows = await catalogue.fetch(
        "select schemaname, tablename from pg_tables where schemaname not in ('pg_catalog', 'information_schema')"
    )
    strays = [f"{row['schemaname']}.{row['tablename']}" for row in rows if row["schemaname"] not in schemas()]
    assert not strays
    assert rows


async def test_no_foreign_key_leaves_its_schema(catalogue: asyncpg.Connection) -> None:
    rows = await catalogue.fetch(
        """select conname, conrelid::regclass::text as source, confrelid::regclass::text as target
           from pg_constraint c join pg_class a on a.oid = conrelid join pg_class b on b.oid = confrelid
           where contype = 'f' and a.relnamespace <> b.relnamespace"""
    )
    assert not [tuple(row.values()) for row in rows]


@pytest.mark.shows("TE-03")
async def test_roles_own_nothing_and_bypass_nothing(catalogue: asyncpg.Connection) -> None:
    rows = await catalogue.fetch(
        """select rolname, rolsuper, rolbypassrls, rolcreatedb, rolcreaterole,
                  exists(select 1 from pg_class where relowner = r.oid) as owns
           from pg_roles r where rolname in ('lf_api', 'lf_engine', 'lf_ingress', 'lf_migrate')"""
    )
    found = {row["rolname"]: tuple(row.values())[1:] for row in rows}
    assert found == {
        "lf_api": (False, False, False, False, False),
        "lf_engine": (False, False, False, False, False),
        "lf_ingress": (False, False, False, False, False),
        "lf_migrate": (False, False, False, False, True),
    }


@pytest.mark.shows("TE-03")
async def test_every_tenant_table_forces_its_policies(catalogue: asyncpg.Connection) -> None:
    rows = await catalogue.fetch(
        """select c.oid::regclass::text as name, relrowsecurity, relforcerowsecurity,
                  (select count(*) from pg_policy p where p.polrelid = c.oid) as policies
           from pg_class c join pg_namespace n on n.oid = relnamespace
           join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant' and not attisdropped
           where relkind in ('r', 'p') and nspname = any($1)""",
        schemas(),
    )
    assert rows
    open_tables = [
        row["name"]
        for row in rows
        if not (row["relrowsecurity"] and row["relforcerowsecurity"] and row["policies"] > 0)
    ]
    assert not open_tables


@pytest.mark.shows("TE-03")
async def test_tables_without_a_tenant_are_closed_to_requests(catalogue: asyncpg.Connection) -> None:
    rows = await catalogue.fetch(
        """select c.oid::regclass::text as name from pg_class c join pg_namespace n on n.oid = relnamespace
           where relkind in ('r', 'p') and nspname = any($1)
             and not exists (select 1 from pg_attribute a
                             where a.attrelid = c.oid and a.attname = 'tenant' and not attisdropped)
             and has_table_privilege('lf_api', c.oid, 'select, insert, update, delete')""",
        [name for name in schemas() if name != "bus"],
    )
    assert not [row["name"] for row in rows]


async def test_no_function_is_open_to_everybody(catalogue: asyncpg.Connection) -> None:
    rows = await catalogue.fetch(
        """select p.oid::regprocedure::text as name from pg_proc p join pg_namespace n on n.oid = pronamespace
           where nspname = any($1) and prosecdef and has_function_privilege('public', p.oid, 'execute')""",
        schemas(),
    )
    assert not [row["name"] for row in rows]
