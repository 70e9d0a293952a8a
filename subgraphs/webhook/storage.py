"""Webhook's tables: endpoints through SQLAlchemy, calls through the group commit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Boolean,
    Column,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import insert

from subgraphs.platform import writer
from subgraphs.platform.database import Database, Reading, Transaction
from subgraphs.platform.domain import Event, Missing
from subgraphs.platform.security import SecretBox
from subgraphs.webhook.domain import Auth, Dedupe, Endpoint, Preset, Respond, Terms, token_hash

TOPIC = "webhook.endpoints"
"""Woken after every change of endpoints: what processes remember of them is out of date."""

metadata = MetaData(schema="webhook")
MOMENT = DateTime(timezone=True)

endpoint = Table(
    "endpoint",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("workflow", Uuid),
    Column("node", Text),
    Column("release", Integer),
    Column("methods", ARRAY(Text)),
    Column("respond", Text),
    Column("patience", Float),
    Column("dedupe", Text),
    Column("dedupe_header", Text),
    Column("dedupe_window", Float),
    Column("declared", Text),
    Column("declared_header", Text),
    Column("auth", Text),
    Column("preset", Text),
    Column("header", Text),
    Column("secret", LargeBinary),
    Column("token", LargeBinary),
    Column("token_hash", LargeBinary),
    Column("present", Boolean),
    Column("at", MOMENT),
    Column("changed", MOMENT),
)
workflow = Table(
    "workflow",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("release", Integer),
    Column("open", Boolean),
)
call = Table(
    "call",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("endpoint", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("at", MOMENT),
    Column("method", Text),
    Column("path", Text),
    Column("query", Text),
    Column("headers", Text),
    Column("content_type", Text),
    Column("size", Integer),
    Column("body", LargeBinary),
    Column("body_ref", Text),
    Column("status", SmallInteger),
    Column("outcome", Text),
    Column("reason", Text),
    Column("execution", Uuid),
    Column("duplicate_of", Uuid),
)
seen = Table(
    "seen",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("endpoint", Uuid, primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    Column("id", Uuid),
    Column("until", MOMENT),
)

CALL = writer.Table(
    "webhook.call",
    (
        ("tenant", "uuid"),
        ("endpoint", "uuid"),
        ("id", "uuid"),
        ("at", "timestamptz"),
        ("method", "text"),
        ("path", "text"),
        ("query", "text"),
        ("headers", "text"),
        ("content_type", "text"),
        ("size", "integer"),
        ("body", "bytea"),
        ("body_ref", "text"),
        ("status", "smallint"),
        ("outcome", "text"),
        ("reason", "text"),
        ("execution", "uuid"),
        ("duplicate_of", "uuid"),
    ),
    "ingress",
    ("tenant", "endpoint", "id"),
)
SEEN = writer.Table(
    "webhook.seen",
    (("tenant", "uuid"), ("endpoint", "uuid"), ("key", "bytea"), ("id", "uuid"), ("until", "timestamptz")),
    "claim",
    ("tenant", "endpoint", "key"),
)

BY_TOKEN = text("select * from webhook.endpoint_by_token(:hash)")


class Rows:
    """Endpoints as rows and back; what is secret is sealed in rows."""

    def __init__(self, box: SecretBox) -> None:
        self._box = box

    def endpoint(self, row: Mapping[Any, Any]) -> Endpoint:
        terms = Terms(
            methods=tuple(row["methods"]),
            respond=Respond(row["respond"]),
            patience=row["patience"],
            dedupe=Dedupe(row["dedupe"]),
            dedupe_header=row["dedupe_header"],
            window=row["dedupe_window"],
            declared=row["declared"],
            header=row["declared_header"],
        )
        context = f"webhook.endpoint/{row['id']}"
        return Endpoint(
            tenant=row["tenant"],
            id=row["id"],
            workflow=row["workflow"],
            node=row["node"],
            release=row["release"],
            terms=terms,
            auth=Auth(row["auth"]),
            preset=Preset(row["preset"]) if row["preset"] else None,
            header=row["header"],
            secret=self._box.open(row["secret"], f"{context}/secret") if row["secret"] else None,
            token=self._box.open(row["token"], f"{context}/token").decode(),
            present=row["present"],
            at=row["at"],
            changed=row["changed"],
        )

    def row(self, found: Endpoint) -> dict[str, Any]:
        context, terms = f"webhook.endpoint/{found.id}", found.terms
        return {
            "tenant": found.tenant,
            "id": found.id,
            "workflow": found.workflow,
            "node": found.node,
            "release": found.release,
            "methods": list(terms.methods),
            "respond": terms.respond.value,
            "patience": terms.patience,
            "dedupe": terms.dedupe.value,
            "dedupe_header": terms.dedupe_header,
            "dedupe_window": terms.window,
            "declared": terms.declared,
            "declared_header": terms.header,
            "auth": found.auth.value,
            "preset": found.preset.value if found.preset else None,
            "header": found.header,
            "secret": self._box.seal(found.secret, f"{context}/secret") if found.secret else None,
            "token": self._box.seal(found.token.encode(), f"{context}/token"),
            "token_hash": token_hash(found.token),
            "present": found.present,
            "at": found.at,
            "changed": found.changed,
        }


class TenantEndpoints:
    """`domain.Endpoints` on one transaction. Every change wakes those who remember endpoints."""

    def __init__(self, transaction: Transaction, rows: Rows) -> None:
        self._tx = transaction
        self._rows = rows

    def publish(self, *events: Event) -> None:
        self._tx.publish(*events)

    async def by_id(self, id: UUID) -> Endpoint:
        query = select(endpoint).where(self._tx.tenant_filter(endpoint.c.tenant), endpoint.c.id == id)
        row = await self._tx.row(query.with_for_update())
        if row is None:
            raise Missing("There is no such endpoint.", field="input.endpointId")
        return self._rows.endpoint(row)

    async def of_workflow(self, workflow: UUID) -> Sequence[Endpoint]:
        query = select(endpoint).where(self._tx.tenant_filter(endpoint.c.tenant), endpoint.c.workflow == workflow)
        return [self._rows.endpoint(row) for row in await self._tx.rows(query.order_by(endpoint.c.id))]

    async def advance(self, workflow: UUID, release: int) -> bool:
        table = _workflow
        values = {"tenant": self._tx.tenant, "id": workflow, "release": release}
        upsert = insert(table).values(values)
        newer = upsert.on_conflict_do_update(
            index_elements=[table.c.tenant, table.c.id],
            set_={"release": upsert.excluded.release},
            where=table.c.release < upsert.excluded.release,
        )
        return bool((await self._tx.execute(newer)).rowcount)

    async def open(self, workflow: UUID, opened: bool) -> None:
        upsert = insert(_workflow).values({"tenant": self._tx.tenant, "id": workflow, "open": opened, "release": 0})
        key = [_workflow.c.tenant, _workflow.c.id]
        await self._tx.execute(upsert.on_conflict_do_update(index_elements=key, set_={"open": opened}))
        self._tx.wake(TOPIC, 0)

    async def save(self, found: Endpoint) -> None:
        row = self._rows.row(found)
        upsert = insert(endpoint).values(row)
        changes = {name: upsert.excluded[name] for name in row if name not in {"tenant", "id", "at"}}
        key = [endpoint.c.tenant, endpoint.c.id]
        await self._tx.execute(upsert.on_conflict_do_update(index_elements=key, set_=changes))
        self._tx.wake(TOPIC, 0)


_workflow = workflow


@asynccontextmanager
async def endpoints(database: Database, rows: Rows, tenant: UUID) -> AsyncIterator[TenantEndpoints]:
    """The tenant's endpoints in a transaction of their own."""
    async with database.write(tenant) as transaction:
        yield TenantEndpoints(transaction, rows)


async def by_token(reading: Reading, rows: Rows, token: str) -> Endpoint | None:
    """The endpoint whose URL this is, whoever's it is: asked before a tenant is known."""
    row = await reading.row(BY_TOKEN, {"hash": token_hash(token)})
    return rows.endpoint(row) if row else None


def call_row(
    of: Endpoint,
    id: UUID,
    at: datetime,
    request: Mapping[str, Any],
    *,
    status: int,
    outcome: str,
    reason: str | None = None,
    body: bytes | None = None,
    body_ref: str | None = None,
    duplicate_of: UUID | None = None,
) -> tuple[str, tuple[Any, ...]]:
    """A row for the group commit. `request`: method, path, query, headers (JSON text), content_type, size."""
    words = ("method", "path", "query", "headers", "content_type", "size")
    execution = id if outcome == "accepted" else duplicate_of
    told = (request[word] for word in words)
    return CALL.name, (
        of.tenant,
        of.id,
        id,
        at,
        *told,
        body,
        body_ref,
        status,
        outcome,
        reason,
        execution,
        duplicate_of,
    )
