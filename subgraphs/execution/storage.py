"""Execution's tables, what the group commit writes of them, and how rows become values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Column, DateTime, Integer, LargeBinary, MetaData, RowMapping, SmallInteger, Table, Text, Uuid

from subgraphs.engine.run import STATUSES
from subgraphs.engine.step import StepError
from subgraphs.execution.domain import Claim, Head, Held
from subgraphs.execution.waits import OpenWait
from subgraphs.platform import writer
from subgraphs.platform.objects import Objects, Ref

metadata = MetaData(schema="execution")

run = Table(
    "run",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("part", SmallInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("workflow", Uuid),
    Column("name", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("release", Integer),
    Column("revision", Integer),
    Column("status", SmallInteger, nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False),
    Column("finished_at", DateTime(timezone=True)),
    Column("error", Text),
    Column("started_by", Uuid),
    Column("rerun_of", Uuid),
    Column("parent", Uuid),
)

journal = Table(
    "journal",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("run", Uuid, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

inbox = Table(
    "inbox",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("run", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("part", SmallInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("data", Text, nullable=False),
)

wait = Table(
    "wait",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("run", Uuid, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("since", DateTime(timezone=True), nullable=False),
    Column("until", DateTime(timezone=True)),
)

answered = Table(
    "answered",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("run", Uuid, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("port", Text, nullable=False),
    Column("by", Uuid),
    Column("at", DateTime(timezone=True), nullable=False),
)

delegation = Table(
    "delegation",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("run", Uuid, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("by", Uuid, nullable=False),
    Column("approver", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)

paused = Table(
    "paused",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("workflow", Uuid, primary_key=True),
    Column("by", Uuid),
    Column("reason", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)

run_key = Table(
    "run_key",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("run", Uuid, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

start_key = Table(
    "start_key",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("id", Uuid, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("until", DateTime(timezone=True), nullable=False),
)

release = Table(
    "release",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("workflow", Uuid, primary_key=True),
    Column("release", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("definition", Text, nullable=False),
    Column("types", Text, nullable=False),
)

RUN = writer.Table(
    "execution.run",
    (
        ("tenant", "uuid"),
        ("id", "uuid"),
        ("part", "smallint"),
        ("version", "integer"),
        ("epoch", "bigint"),
        ("workflow", "uuid"),
        ("name", "text"),
        ("mode", "text"),
        ("release", "integer"),
        ("revision", "integer"),
        ("status", "smallint"),
        ("started_at", "timestamptz"),
        ("finished_at", "timestamptz"),
        ("error", "text"),
        ("started_by", "uuid"),
        ("rerun_of", "uuid"),
        ("parent", "uuid"),
    ),
    "head",
    ("tenant", "id"),
)
JOURNAL = writer.Table(
    "execution.journal",
    (("tenant", "uuid"), ("run", "uuid"), ("version", "integer"), ("epoch", "bigint"), ("data", "bytea")),
    "insert",
    ("tenant", "run", "version"),
)
SNAPSHOT = writer.Table(
    "execution.snapshot",
    (("tenant", "uuid"), ("run", "uuid"), ("version", "integer"), ("data", "bytea")),
    "insert",
    ("tenant", "run", "version"),
)
TIMER = writer.Table(
    "execution.timer",
    (("tenant", "uuid"), ("run", "uuid"), ("name", "text"), ("part", "smallint"), ("due", "timestamptz")),
    "upsert",
    ("tenant", "run", "name"),
)
INBOX = writer.Table(
    "execution.inbox",
    (("tenant", "uuid"), ("run", "uuid"), ("id", "uuid"), ("part", "smallint"), ("kind", "text"), ("data", "text")),
    "delete",
    ("tenant", "run", "id"),
)
WAIT = writer.Table(
    "execution.wait",
    (
        ("tenant", "uuid"),
        ("run", "uuid"),
        ("step", "text"),
        ("attempt", "integer"),
        ("kind", "text"),
        ("name", "text"),
        ("detail", "text"),
        ("since", "timestamptz"),
        ("until", "timestamptz"),
    ),
    "upsert",
    ("tenant", "run", "step"),
)
RUN_KEY = writer.Table(
    "execution.run_key",
    (("tenant", "uuid"), ("run", "uuid"), ("name", "text"), ("value", "text")),
    "upsert",
    ("tenant", "run", "name"),
)
START_KEY = writer.Table(
    "execution.start_key",
    (("tenant", "uuid"), ("key", "text"), ("id", "uuid"), ("hash", "bytea"), ("until", "timestamptz")),
    "claim",
    ("tenant", "key"),
)
WRITTEN = (RUN, JOURNAL, SNAPSHOT, TIMER, INBOX, WAIT, START_KEY)

Row = Mapping[str, Any] | RowMapping

_error = msgspec.json.Decoder(StepError)


def head(row: Row) -> Head:
    """A row of `execution.run`."""
    return Head(
        tenant=row["tenant"],
        id=row["id"],
        part=row["part"],
        version=row["version"],
        workflow=row["workflow"],
        name=row["name"],
        mode=row["mode"],
        release=row["release"],
        revision=row["revision"],
        status=STATUSES[row["status"]],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        error=_error.decode(row["error"]) if row["error"] else None,
        started_by=row["started_by"],
        rerun_of=row["rerun_of"],
        parent=row["parent"],
    )


def held(row: Row) -> Held:
    """A row of `execution.release`."""
    return Held(
        tenant=row["tenant"],
        workflow=row["workflow"],
        release=row["release"],
        name=row["name"],
        definition=msgspec.json.decode(row["definition"]),
        types=msgspec.json.decode(row["types"]),
    )


def opened(row: Row) -> OpenWait:
    """A row of `execution.wait`."""
    return OpenWait(
        tenant=row["tenant"],
        run=row["run"],
        step=row["step"],
        attempt=row["attempt"],
        kind=row["kind"],
        name=row["name"],
        detail=msgspec.json.decode(row["detail"]),
        since=row["since"],
        until=row["until"],
    )


def claim(row: Row) -> Claim:
    """A row of `execution.start_key`."""
    return Claim(tenant=row["tenant"], key=row["key"], run=row["id"], hash=row["hash"])


HEADS = "select * from execution.run where tenant = $1 and id = $2"
OPEN = "select tenant, id from execution.run where part = $1 and status = 1"
CHUNKS = """
select j.tenant, j.run, j.version, j.data from unnest($1::uuid[], $2::uuid[], $3::integer[]) q(tenant, run, after)
join execution.journal j on j.tenant = q.tenant and j.run = q.run and j.version > q.after
order by j.tenant, j.run, j.version
"""
SNAPSHOTS = """
select distinct on (s.tenant, s.run) s.run, s.version, s.data
from unnest($1::uuid[], $2::uuid[]) q(tenant, run)
join execution.snapshot s on s.tenant = q.tenant and s.run = q.run
order by s.tenant, s.run, s.version desc
"""
RUNS = """
select r.* from unnest($1::uuid[], $2::uuid[]) q(tenant, run)
join execution.run r on r.tenant = q.tenant and r.id = q.run
"""
UNFINISHED = "select tenant, id from execution.run where status < 4 order by id desc limit $1"
NEWEST_RELEASES = """
with newest as (
  select tenant, workflow, max(release) as release from execution.release group by 1, 2 order by 2 desc limit $1
)
select r.* from newest join execution.release r using (tenant, workflow, release)
"""
RELEASE = "select * from execution.release where tenant = $1 and workflow = $2 and release = $3"
NEWEST = """
select release from execution.release where tenant = $1 and workflow = $2 order by release desc limit 1
"""
AT_ONCE = 500  # due timers and letters of one look
DUE = f"""
select tenant, run, name, due from execution.timer
where part = any($1::smallint[]) and due <= clock_timestamp() order by due limit {AT_ONCE}
"""  # noqa: S608
MAIL = f"""
select tenant, run, id, kind, data from execution.inbox where part = any($1::smallint[]) order by seq limit {AT_ONCE}
"""  # noqa: S608
FINAL = "select status >= 4 as final from execution.run where tenant = $1 and id = $2"
OVER = """
delete from execution.timer t using execution.run r
where t.tenant = $1 and t.run = $2 and t.name = $3 and r.tenant = t.tenant and r.id = t.run and r.status >= 4
"""
EXPIRED = "delete from execution.start_key where until < clock_timestamp()"
DISCARD = "delete from execution.inbox where tenant = $1 and run = $2 and id = $3"
WATCHED = "select id, version from execution.run where (tenant, id) in (select * from unnest($1::uuid[], $2::uuid[]))"


def key(run: UUID, node: str) -> str:
    """The idempotency key of a step: the same for every attempt, in every process."""
    return f"{run}:{node}"


async def whole(objects: Objects, tenant: UUID, given: Any) -> Any:
    """JSON that may have come as a claim check, in place."""
    reference = Ref.of(given)
    return given if reference is None else msgspec.json.decode(await objects.get(tenant, reference))
