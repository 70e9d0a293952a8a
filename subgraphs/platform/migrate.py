"""Roles, schemas and the migration histories: what `linkflow migrate` does.

Each folder of migrations/ is one PostgreSQL schema with one linear Alembic history, its version table inside the
schema, all owned by `lf_migrate`. Roles carry no BYPASSRLS and own nothing, but for `lf_migrate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from subgraphs.platform.domain import Invalid, Missing
from subgraphs.platform.settings import CHECKOUT, Settings

FOLDER = CHECKOUT / "migrations"
FIRST = ("bus",)
LOCK = 0x6C66_6D67  # one migration of a database at a time
WORKING_ROLES = ("lf_api", "lf_engine", "lf_ingress")


@dataclass(frozen=True)
class Applied:
    """What a history did: the revisions before and after (None: none)."""

    schema: str
    before: str | None
    after: str | None


def schemas() -> list[str]:
    """The histories there are, the bus first: others may use what it grants."""
    found = {path.parent.name for path in FOLDER.glob("*/[0-9]*.py")}
    return [name for name in FIRST if name in found] + sorted(found.difference(FIRST))


async def migrate(settings: Settings, names: Sequence[str] = ()) -> list[Applied]:
    """Bring the database up to date: database, roles, schemas, then each history, each in one transaction."""
    wanted = _wanted(names)
    await _make_database(settings)
    admin = await _admin(settings)
    try:
        await admin.execute("select pg_advisory_lock($1)", LOCK)
        await _make_roles(admin, settings)
        await _make_schemas(admin, wanted)
        return await _run(settings, wanted)
    finally:
        await admin.close()


async def _admin(settings: Settings) -> asyncpg.Connection:
    """Raises Invalid where a configured database cannot be reached or does not let us in."""
    try:
        return await asyncpg.connect(settings.dsn("lf_admin"))
    except (OSError, asyncpg.InvalidCatalogNameError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        if settings.database_url is None:
            raise  # the embedded one: ours to have started
        place = settings.database_url.rpartition("@")[2]
        raise Invalid(
            f"The database at {place} cannot be used: {error}.",
            code="database_unreachable",
            field="LINKFLOW_DATABASE_URL",
            next_step="Start it, correct LINKFLOW_DATABASE_URL, or unset it: LinkFlow then brings its own.",
        ) from None


def _wanted(names: Sequence[str]) -> list[str]:
    known = schemas()
    for name in names:
        if name not in known:
            raise Missing(f"There is no history named {name}.", field=name, next_step=f"One of: {', '.join(known)}.")
    return [name for name in known if not names or name in names]


async def _make_database(settings: Settings) -> None:
    """The embedded cluster starts without our database; a configured one must exist."""
    if settings.database_url is not None:
        return
    address = settings.dsn("lf_admin").replace("@/linkflow?", "@/postgres?")
    connection = await asyncpg.connect(address)
    try:
        if not await connection.fetchval("select 1 from pg_database where datname = 'linkflow'"):
            await connection.execute("create database linkflow template template0")
    finally:
        await connection.close()


async def _make_roles(admin: asyncpg.Connection, settings: Settings) -> None:
    present = {row["rolname"] for row in await admin.fetch("select rolname from pg_roles where rolname like 'lf\\_%'")}
    statements = []
    for role in (*WORKING_ROLES, "lf_migrate"):
        if role not in present:
            statements.append(f"create role {role} login nosuperuser nobypassrls nocreatedb nocreaterole")
        if settings.database_url is not None:
            statements.append(f"alter role {role} password '{settings.password(role)}'")
    database = await admin.fetchval("select quote_ident(current_database())")
    statements += [
        "grant lf_migrate to current_user",
        f"revoke all on database {database} from public",
        f"grant connect on database {database} to {', '.join(WORKING_ROLES)}",
        f"grant connect, create on database {database} to lf_migrate",
        "revoke all on schema public from public",
        "alter default privileges for role lf_migrate revoke execute on functions from public",
    ]
    await admin.execute(";\n".join(statements))


async def _make_schemas(admin: asyncpg.Connection, names: Sequence[str]) -> None:
    statements = []
    for name in names:
        statements.append(f'create schema if not exists "{name}" authorization lf_migrate')
        working = ", ".join(WORKING_ROLES)
        statements.append(f'grant usage on schema "{name}" to {working}')
    if statements:
        await admin.execute(";\n".join(statements))


async def _run(settings: Settings, names: Sequence[str]) -> list[Applied]:
    address = settings.dsn("lf_migrate")
    engine = create_async_engine(
        "postgresql+asyncpg://", poolclass=NullPool, async_creator=lambda: asyncpg.connect(address)
    )
    try:
        applied = []
        for name in names:
            async with engine.begin() as connection:
                applied.append(await connection.run_sync(_upgrade, name))
        return applied
    finally:
        await engine.dispose()


def configuration(name: str) -> Config:
    """Alembic's configuration of one history."""
    config = Config()
    config.set_main_option("script_location", _escaped(FOLDER))
    config.set_main_option("version_locations", _escaped(FOLDER / name))
    config.set_main_option("path_separator", "newline")
    config.attributes["schema"] = name
    return config


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%%")


def _upgrade(connection: Connection, name: str) -> Applied:
    config = configuration(name)
    head = ScriptDirectory.from_config(config).get_current_head()
    before = _current(connection, name)
    if before != head:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return Applied(name, before, head)


def _current(connection: Connection, name: str) -> str | None:
    if connection.scalar(text("select to_regclass(:table)"), {"table": f'"{name}".alembic_version'}) is None:
        return None
    found = connection.scalar(text(f'select version_num from "{name}".alembic_version'))  # noqa: S608 - a folder's name
    return None if found is None else str(found)
