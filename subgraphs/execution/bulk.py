"""One thing done to many runs: cancel, run again, delete all that match a filter.

An operation is a row; whoever comes first takes its next page, and page and progress are one transaction: letters and
starts leave with the cursor, so that a crash neither skips a run nor does it twice. The first page is the canary. A
page waits until what the one before it did has shown its effect; too large a share of failures stops the operation.
Only runs that there were when it began are touched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import msgspec
import structlog
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Float,
    Integer,
    Table,
    Text,
    Uuid,
    delete,
    func,
    insert,
    select,
    update,
)  # fmt: skip

from subgraphs.execution import events, lists, storage
from subgraphs.execution.desk import put
from subgraphs.execution.domain import CODES, Filter, Head
from subgraphs.execution.retention import SHORTEST, Retention
from subgraphs.execution.storage import metadata, run, run_key
from subgraphs.platform.database import Database, Transaction
from subgraphs.platform.domain import Invalid, Missing, uuid7
from subgraphs.platform.leases import Leases

log = structlog.get_logger("linkflow.execution")

EVERY = 1.0
PAGE = 100
PATIENCE = timedelta(seconds=60)
"""How long a page waits for its effect; what has none by then has failed."""
TOPIC = "execution.bulk"
ACTIONS = {"cancel": "execution:cancel", "rerun": "execution:start", "delete": "tenant:write"}
"""What may be done, and the scope it needs."""

bulks = Table(
    "bulk",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("action", Text, nullable=False),
    Column("filter", Text, nullable=False),
    Column("by", Uuid, nullable=False),
    Column("canary", Integer, nullable=False),
    Column("tolerated", Float, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("cursor", Uuid),
    Column("matched", BigInteger, nullable=False),
    Column("done", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("finished_at", DateTime(timezone=True)),
)
items = Table(
    "bulk_item",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("bulk", Uuid, primary_key=True),
    Column("target", Uuid, primary_key=True),
    Column("made", Uuid, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """An operation as it is begun. `canary`: runs of the first page; `tolerated`: share of failures, 0 to 1."""

    action: str
    filter: Filter
    by: UUID
    canary: int
    tolerated: float


def checked(asked: Asked) -> Asked:
    if not 1 <= asked.canary <= PAGE:
        raise Invalid(
            f"The canary is 1 to {PAGE} runs.",
            code="canary_out_of_range",
            field="canary",
            next_step="Choose a canary in this range.",
        )
    if not 0 <= asked.tolerated <= 1:
        raise Invalid(
            "What is tolerated is a share from 0 to 1.",
            code="share_out_of_range",
            field="tolerated",
            next_step="Send 0.1 for a tenth.",
        )
    if asked.filter.error_code is not None or asked.filter.error_text is not None:
        raise Invalid(
            "An operation on many runs is not chosen by error text.",
            code="filter_unsupported",
            field="filter",
            next_step="Choose by status, workflow, release, mode, time or business key.",
        )
    return asked


async def matched(database: Database, tenant: UUID, filter: Filter) -> int:
    """How many runs match."""
    async with database.read(tenant) as reading:
        chosen = _chosen(reading, filter, uuid7(), 2**31)
        return int(await reading.scalar(select(func.count()).select_from(chosen.subquery())))


async def begin(database: Database, tenant: UUID, asked: Asked) -> UUID:
    """Stores an operation, and wakes those who carry it out."""
    id, count = uuid7(), await matched(database, tenant, asked.filter)
    row = {
        "tenant": tenant, "id": id, "action": asked.action, "filter": msgspec.json.encode(asked.filter).decode(),
        "by": asked.by, "canary": asked.canary, "tolerated": asked.tolerated, "state": "running", "matched": count,
        "done": 0, "failed": 0, "at": datetime.now(UTC),
    }  # fmt: skip
    async with database.write(tenant) as transaction:
        await transaction.execute(insert(bulks).values(row))
        transaction.wake(TOPIC, 0)
    return id


async def stop(database: Database, tenant: UUID, id: UUID) -> None:
    """Ends an operation where it stands; raises Missing."""
    async with database.write(tenant) as transaction:
        mine = (transaction.tenant_filter(bulks.c.tenant), bulks.c.id == id)
        if await transaction.row(select(bulks.c.id).where(*mine)) is None:
            raise Missing("There is no such operation.", field="bulkId")
        ended = {"state": "stopped", "reason": "Somebody stopped it.", "finished_at": func.clock_timestamp()}
        await transaction.execute(update(bulks).where(*mine, bulks.c.state == "running").values(ended))


async def listed(
    database: Database, tenant: UUID, limit: int, after: UUID | None, only: UUID | None = None
) -> list[Any]:
    """Operations, newest first."""
    async with database.read(tenant) as reading:
        query = select(bulks).where(reading.tenant_filter(bulks.c.tenant))
        if after is not None:
            query = query.where(bulks.c.id < after)
        if only is not None:
            query = query.where(bulks.c.id == only)
        return list(await reading.rows(query.order_by(bulks.c.id.desc()).limit(limit)))


def _chosen(reading: Any, filter: Filter, after: UUID, limit: int) -> Any:
    mine, of_key = reading.tenant_filter(run.c.tenant), reading.tenant_filter(run_key.c.tenant)
    return lists.leading(mine, of_key, filter, limit, after)


class Bulk:
    """Carries operations out; any process may."""

    def __init__(self, database: Database, leases: Leases, retention: Retention) -> None:
        self.database, self.leases, self.retention = database, leases, retention
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._loop())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def wake(self, _partition: int) -> None:
        self._woken.set()

    async def _loop(self) -> None:
        pause = EVERY
        while True:
            try:
                async with asyncio.timeout(pause):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()
            try:
                pause = EVERY if await self.turn() else EVERY * 10
            except Exception:  # a tick's boundary: the next turn finds the same
                log.exception("bulk_failed")

    async def turn(self) -> int:
        """One page of each operation whose last page has shown its effect; how many operations are under way."""
        running = await self.database.engine.fetch("select tenant, id from execution.bulk where state = 'running'")
        for row in running:
            async with self.database.write(row["tenant"]) as transaction:
                await self._page(transaction, row["id"])
        return len(running)

    async def _page(self, transaction: Transaction, id: UUID) -> None:
        mine = (transaction.tenant_filter(bulks.c.tenant), bulks.c.id == id)
        query = select(bulks).where(*mine, bulks.c.state == "running").with_for_update(skip_locked=True)
        bulk = await transaction.row(query)
        if bulk is None:
            return
        failed = await self._judged(transaction, bulk)
        if failed is None:
            return
        changes: dict[str, Any] = {"failed": bulk["failed"] + failed}
        if bulk["done"] and changes["failed"] > bulk["tolerated"] * bulk["done"]:
            changes |= _ended("stopped", f"{changes['failed']} of {bulk['done']} failed.")
        else:
            changes |= await self._next(transaction, bulk)
        await transaction.execute(update(bulks).where(*mine).values(changes))

    async def _judged(self, transaction: Transaction, bulk: Any) -> int | None:
        """How many of the last page failed; None while that is not known. The page is over then."""
        mine = (transaction.tenant_filter(items.c.tenant), items.c.bulk == bulk["id"])
        there = (run.c.tenant == items.c.tenant) & (run.c.id == items.c.made)
        query = select(items.c.at, run.c.status).select_from(items.outerjoin(run, there)).where(*mine)
        rows = await transaction.rows(query)
        good, bad = _verdicts(bulk["action"])
        open_ = [row for row in rows if row["status"] not in good | bad]
        if any(row["at"] > datetime.now(UTC) - PATIENCE for row in open_):
            return None
        await transaction.execute(delete(items).where(*mine))
        return len(open_) + sum(row["status"] in bad for row in rows)

    async def _next(self, transaction: Transaction, bulk: Any) -> dict[str, Any]:
        """Does the next page; what changes of the operation."""
        filter = msgspec.json.decode(bulk["filter"], type=Filter)
        size = bulk["canary"] if bulk["cursor"] is None else PAGE
        rows = await transaction.rows(_chosen(transaction, filter, bulk["cursor"] or bulk["id"], size))
        if not rows:
            return _ended("done", None)
        heads = [storage.head(row) for row in rows]
        act: Callable[..., Any] = {"cancel": self._cancel, "rerun": self._rerun, "delete": self._delete}[bulk["action"]]
        made, failed = await act(transaction, bulk, heads)
        if made:
            of, now = {"tenant": bulk["tenant"], "bulk": bulk["id"]}, datetime.now(UTC)
            words = [{**of, "target": target, "made": new, "at": now} for target, new in made]
            await transaction.execute(insert(items), words)
        transaction.wake(TOPIC, 0)
        return {"cursor": heads[-1].id, "done": bulk["done"] + len(heads), "failed": bulk["failed"] + failed}

    async def _cancel(self, transaction: Transaction, bulk: Any, heads: Sequence[Head]) -> Any:
        chosen = [head for head in heads if not head.final]
        for head in chosen:
            data = {"reason": "One of many that were cancelled together.", "by": str(bulk["by"])}
            await put(transaction, head.id, head.part, "cancel", data, uuid5(bulk["id"], str(head.id)))
        return [(head.id, head.id) for head in chosen], 0

    async def _rerun(self, transaction: Transaction, bulk: Any, heads: Sequence[Head]) -> Any:
        made = [(head.id, uuid7()) for head in heads]
        for target, new in made:
            lease = self.leases.lease_for(new)
            partition = lease.partition if lease is not None else self.leases.partition_of(new)
            data = {"rerunOf": str(target), "startedBy": str(bulk["by"])}
            transaction.publish(events.requested(new, bulk["tenant"], partition, data))
        return made, 0

    async def _delete(self, transaction: Transaction, bulk: Any, heads: Sequence[Head]) -> Any:
        """Those that ended long enough ago; the others count as failed."""
        before = datetime.now(UTC) - timedelta(days=SHORTEST)
        old = [head.id for head in heads if head.finished_at is not None and head.finished_at < before]
        return [], len(heads) - await self.retention.remove(bulk["tenant"], old)


def _verdicts(action: str) -> tuple[set[int], set[int]]:
    """Statuses that say it went well, and that it failed. A run that only waits has begun well."""
    if action == "cancel":
        return {code for code in CODES.values() if code >= CODES["succeeded"]}, set()
    bad = {CODES[status] for status in ("failed", "timed_out")}
    return {CODES[status] for status in ("waiting", "paused", "succeeded", "cancelled")}, bad


def _ended(state: str, reason: str | None) -> dict[str, Any]:
    return {"state": state, "reason": reason, "finished_at": func.clock_timestamp()}
