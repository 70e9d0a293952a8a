"""The tables of schema `workflow`. The event store is the truth, the rest follows from it within the same commit."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Column, DateTime, Integer, LargeBinary, MetaData, Table, Text, Uuid
from sqlalchemy.types import TypeEngine

metadata = MetaData(schema="workflow")


def _key(name: str, kind: type[TypeEngine[Any]]) -> Column[Any]:
    return Column(name, kind, primary_key=True, autoincrement=False)


definition = Table(
    "definition",
    metadata,
    _key("tenant", Uuid),
    _key("digest", Text),
    Column("body", LargeBinary, nullable=False),
)
"""Documents as they were sent, by the SHA-256 of their bytes: revisions with the same content share one."""

event = Table(
    "event",
    metadata,
    _key("tenant", Uuid),
    _key("workflow", Uuid),
    _key("version", Integer),
    Column("type", Text, nullable=False),
    Column("data", JSON, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)

snapshot = Table(
    "snapshot",
    metadata,
    _key("tenant", Uuid),
    _key("workflow", Uuid),
    Column("version", Integer, nullable=False),
    Column("state", JSON, nullable=False),
)

workflow = Table(
    "workflow",
    metadata,
    _key("tenant", Uuid),
    _key("id", Uuid),
    Column("name", Text, nullable=False),
    Column("draft", Integer, nullable=False),
    Column("release", Integer, nullable=False),
    Column("archived_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("created_by", Uuid, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
)

revision = Table(
    "revision",
    metadata,
    _key("tenant", Uuid),
    _key("workflow", Uuid),
    _key("number", Integer),
    Column("parent", Integer),
    Column("source", Integer),
    Column("name", Text),
    Column("message", Text, nullable=False),
    Column("author", Uuid, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("digest", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("faults", JSON, nullable=False),
)

release = Table(
    "release",
    metadata,
    _key("tenant", Uuid),
    _key("workflow", Uuid),
    _key("number", Integer),
    Column("revision", Integer, nullable=False),
    Column("name", Text),
    Column("message", Text, nullable=False),
    Column("author", Uuid, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("digest", Text, nullable=False),
    Column("execution_at", DateTime(timezone=True)),
    Column("webhook_at", DateTime(timezone=True)),
)

call = Table(
    "call",
    metadata,
    _key("tenant", Uuid),
    _key("workflow", Uuid),
    _key("release", Integer),
    _key("node", Text),
    Column("callee", Uuid, nullable=False),
    Column("pinned", Integer),
)
"""Which workflow a node of a release calls, and which release of it; none: the newest."""

draft_run = Table(
    "draft_run",
    metadata,
    _key("tenant", Uuid),
    _key("workflow", Uuid),
    _key("key", Text),
    Column("execution", Uuid, nullable=False),
    Column("wish", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)
"""Wishes to run a draft that came with a key. `wish`: SHA-256 of what was asked for."""

catalogue = Table(
    "catalogue",
    metadata,
    Column("one", Integer, primary_key=True, autoincrement=False),
    Column("digest", Text, nullable=False),
    Column("manifests", JSON, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)
"""Workflow's own copy of the node types, one row. It has no tenant: requests reach it by functions only."""
