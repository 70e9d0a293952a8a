"""Pages of runs, newest first: ids are ordered by time, so an id is the cursor, and nothing is ever counted.

Each filter is led by the index that has its runs in order (`leading`); the rest is checked on the way. Where the
planner might take an index whose order is right and whose rows are wrong (a rare status of a busy workflow), the other
condition is written so that it cannot serve as an index condition: statistics of all tenants together do not know one
tenant's mix, and a prepared statement is planned once for all values.

Error texts and codes are searched as lf_engine, tenant by tenant: under row-level security PostgreSQL does not use an
index for functions that might tell what they see. The rows themselves are then read as lf_api like all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, cast, exists, literal_column, select, union_all
from sqlalchemy.dialects.postgresql import ARRAY, asyncpg
from sqlalchemy.types import SmallInteger, Text

from subgraphs.execution import storage
from subgraphs.execution.domain import CODES, Filter, Head
from subgraphs.execution.storage import run, run_key
from subgraphs.platform.database import Database, Reading

LATEST_START = timedelta(days=8)
"""A run begins within the time its event is kept (7 days); its id carries the time of the event."""

UNWELL: ColumnElement[bool] = literal_column("execution.run.status > 4")
BY_HAND: ColumnElement[bool] = literal_column("execution.run.mode <> 'webhook'")
SAID: ColumnElement[bool] = literal_column("execution.run.error is not null")
"""Predicates of partial indexes, word by word: a parameter in them would hide from the planner that they hold."""

error_code = literal_column("(execution.run.error::jsonb ->> 'code')", Text)
error_words = literal_column(
    "((execution.run.error::jsonb ->> 'code') || ' ' || (execution.run.error::jsonb ->> 'message'))", Text
)
"""Expressions of indexes, likewise."""

_DIALECT = asyncpg.dialect()  # type: ignore[no-untyped-call]


async def page(reading: Reading, database: Database, wanted: Filter, limit: int, after: UUID | None) -> list[Head]:
    """Runs that match, newest first, `limit` at most, from after this id on."""
    mine = reading.tenant_filter(run.c.tenant)
    if wanted.error_code is not None or wanted.error_text is not None:
        assert reading.tenant is not None  # noqa: S101 - the caller's scope was checked
        ids = await _searched(database, reading.tenant, wanted, limit, after)
        statement = select(run).where(mine, run.c.id.in_(ids)).order_by(run.c.id.desc())
        rows = await reading.rows(statement) if ids else []
    else:
        rows = await reading.rows(leading(mine, reading.tenant_filter(run_key.c.tenant), wanted, limit, after))
    return [storage.head(row) for row in rows]


def leading(
    mine: ColumnElement[bool], mine_too: ColumnElement[bool], wanted: Filter, limit: int, after: UUID | None
) -> Select[Any]:
    """The statement of a page, led by the narrowest index: business key, status, or what else there is."""
    where = [mine, *_common(wanted, after)]
    if wanted.keys:
        (name, value), *others = wanted.keys
        led = select(run).join(run_key, (run_key.c.tenant == run.c.tenant) & (run_key.c.run == run.c.id))
        where += [mine_too, run_key.c.name == name, run_key.c.value == value, *map(_has_key, others)]
        if after is not None:
            where.append(run_key.c.run < after)
        if wanted.statuses:
            where.append(_one_of(wanted))
        where += _of_workflow(wanted, plainly=True)
        return led.where(*where).order_by(run_key.c.run.desc()).limit(limit)
    codes = sorted({CODES[status] for status in wanted.statuses})
    if len(codes) == len(CODES):
        codes = []
    pages = [_newest(select(run).where(*where, *_with_status(wanted, code)), limit) for code in codes]
    if not pages:
        return _newest(select(run).where(*where, *_of_workflow(wanted, plainly=True)), limit)
    if len(pages) == 1:
        return pages[0]
    together = union_all(*(select(each.subquery()) for each in pages)).subquery()
    return select(together).order_by(together.c.id.desc()).limit(limit)


def _newest(statement: Select[Any], limit: int) -> Select[Any]:
    return statement.order_by(run.c.id.desc()).limit(limit)


def _with_status(wanted: Filter, code: int) -> list[ColumnElement[bool]]:
    """One status. Of a workflow, those that ended badly have an index of their own; those that are open are few, and
    read by their status; those that ended well are most of the workflow's."""
    if code > CODES["succeeded"]:
        return [run.c.status == code, UNWELL, *_of_workflow(wanted, plainly=True)]
    if code == CODES["succeeded"] and wanted.workflow is not None:
        return [run.c.status + 0 == code, *_of_workflow(wanted, plainly=True)]
    return [run.c.status == code, *_of_workflow(wanted, plainly=False)]


def _of_workflow(wanted: Filter, *, plainly: bool) -> list[ColumnElement[bool]]:
    if wanted.workflow is None:
        return []
    if plainly:
        return [run.c.workflow == wanted.workflow]
    return [run.c.workflow.is_not_distinct_from(wanted.workflow)]


def _common(wanted: Filter, after: UUID | None) -> list[ColumnElement[bool]]:
    """What every page checks: place, mode, release, time."""
    found: list[ColumnElement[bool]] = []
    if after is not None:
        found.append(run.c.id < after)
    if wanted.mode is not None:
        found += [run.c.mode == wanted.mode, *([BY_HAND] if wanted.mode != "webhook" else [])]
    if wanted.release is not None:
        found.append(run.c.release == wanted.release)
    if wanted.started_after is not None:
        found += [run.c.started_at > wanted.started_after, run.c.id > _bound(wanted.started_after - LATEST_START)]
    if wanted.started_before is not None:
        found += [run.c.started_at < wanted.started_before, run.c.id < _bound(wanted.started_before)]
    return found


def _one_of(wanted: Filter) -> ColumnElement[bool]:
    codes = [CODES[status] for status in wanted.statuses]
    return run.c.status == cast(codes, ARRAY(SmallInteger)).any_()


def _has_key(pair: tuple[str, str]) -> ColumnElement[bool]:
    name, value = pair
    other = run_key.alias()
    return exists().where(
        other.c.tenant == run.c.tenant, other.c.run == run.c.id, other.c.name == name, other.c.value == value
    )


async def _searched(database: Database, tenant: UUID, wanted: Filter, limit: int, after: UUID | None) -> Sequence[UUID]:
    """Ids of runs by their error."""
    compiled = searching(tenant, wanted, limit, after).compile(dialect=_DIALECT)
    values = [compiled.params[name] for name in compiled.positiontup or ()]
    return [row["id"] for row in await database.engine.fetch(str(compiled), *values)]


def searching(tenant: UUID, wanted: Filter, limit: int, after: UUID | None) -> Select[Any]:
    """The statement that finds runs by their error."""
    where = [run.c.tenant == tenant, SAID, *_common(wanted, after), *_of_workflow(wanted, plainly=True)]
    where += map(_has_key, wanted.keys)
    if wanted.statuses:
        where.append(_one_of(wanted))
    if wanted.error_code is not None:
        where.append(error_code == wanted.error_code)
    if wanted.error_text is not None:
        where.append(error_words.ilike(_pattern(wanted.error_text)))
    return _newest(select(run.c.id).where(*where), limit)


def _pattern(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _bound(at: datetime) -> UUID:
    """Above every id made before `at`: it lets the key's index bound the scan."""
    milliseconds = max(0, int(at.timestamp() * 1000) + 1)
    return UUID(int=(milliseconds & 0xFFFF_FFFF_FFFF) << 80)
