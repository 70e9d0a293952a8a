"""How Alembic runs one history: that of the schema named in the configuration, as the owner of that schema."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from alembic import context
from sqlalchemy import Connection, MetaData


def metadata_of(name: str) -> MetaData | None:
    """The tables a subgraph declares, for autogenerate; the bus and histories written by hand have none."""
    if find_spec(f"subgraphs.{name}") is None or find_spec(f"subgraphs.{name}.storage") is None:
        return None
    found = getattr(import_module(f"subgraphs.{name}.storage"), "metadata", None)
    return found if isinstance(found, MetaData) else None


def run(connection: Connection, name: str) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata_of(name) if context.config.attributes.get("compare") else None,
        version_table_schema=name,
        include_schemas=True,
        include_name=lambda found, kind, _: kind != "schema" or found == name,
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        context.run_migrations()


run(context.config.attributes["connection"], context.config.attributes["schema"])
