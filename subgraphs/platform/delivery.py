"""How one reader of the log gets through its events: in order, once in effect, and past the poisonous ones.

An event whose handling fails is held: it is tried again with growing delays, and after the last attempt it is parked in
`bus.held` (the dead letters). Later events of the same subject wait behind it while it is retried; others go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection

from subgraphs.platform import cursors, eventlog
from subgraphs.platform.commits import Unavailable
from subgraphs.platform.database import Database, Transaction
from subgraphs.platform.domain import Event

log = logging.getLogger("linkflow.bus")

ATTEMPTS = 8
FIRST_DELAY = 0.2
LONGEST_DELAY = 60.0
INBOX = text("insert into bus.inbox (consumer, id, tenant) values (:consumer, :id, :tenant) on conflict do nothing")
HELD = f"""
select h.attempts, h.due, {", ".join("l." + name for name, _ in eventlog.COLUMNS)}, l.xid::text as xid
from bus.held h join bus.log l on l.part = h.part and l.xid = h.xid and l.seq = h.seq
where h.consumer = $1 and h.part = $2 and h.parked is null order by h.xid, h.seq limit 500
"""  # noqa: S608 - our own columns
HOLD = """
insert into bus.held (consumer, id, part, xid, seq, tenant, subject, attempts, due, error)
values ($1, $2, $3, $4::text::xid8, $5, $6, $7, $8, clock_timestamp() + make_interval(secs => $9), $10)
on conflict do nothing
"""
AGAIN = """
update bus.held set attempts = $3, error = $4, due = clock_timestamp() + make_interval(secs => $5),
parked = case when $6 then clock_timestamp() end where consumer = $1 and id = $2
"""
DONE = "delete from bus.held where consumer = $1 and id = $2"

Handle = Callable[[Event, Transaction], Awaitable[None]]


class NotOwned(Exception):
    """The partition went to another process while its events were being started; that process will do it."""


def unreachable(error: BaseException) -> bool:
    """Whether it is the database that failed, not the event: then nothing is held against the event."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated
    return isinstance(
        error,
        (
            OSError,
            NoConnection,
            NotOwned,
            Unavailable,
            asyncpg.InterfaceError,
            asyncpg.PostgresConnectionError,
            asyncpg.OperatorInterventionError,
        ),
    )


def delay(attempts: int) -> float:
    """Seconds until the next attempt, after so many."""
    return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** max(0, attempts - 1))


class Reader(Protocol):
    """One that reads the log under a name: a consumer, or a preparer (bus.py)."""

    @property
    def name(self) -> str: ...

    @property
    def types(self) -> frozenset[str]: ...

    @property
    def head_table(self) -> str | None: ...

    async def attempt(self, event: Event) -> None:
        """Has the event's one effect, or raises."""


@dataclass(slots=True)
class Consumer:
    """Runs a handler in one transaction with the inbox row of the event, as lf_api under the event's tenant."""

    name: str
    types: frozenset[str]
    handle: Handle
    database: Database
    head_table: str | None = None

    async def attempt(self, event: Event) -> None:
        async with self.database.write(event.tenant) as transaction:
            values = {"consumer": self.name, "id": event.id, "tenant": event.tenant}
            if (await transaction.execute(INBOX, values)).rowcount:
                await self.handle(event, transaction)


@dataclass(slots=True)
class Round:
    """One look at a partition by one reader, in a transaction that holds the reader's cursor."""

    connection: cursors.Connection
    reader: Reader
    part: int
    blocked: set[tuple[Any, str]] = field(default_factory=set)
    retry: float | None = None
    """Seconds until something held is due again."""

    async def run(self) -> bool | None:
        """Whether more is waiting; None when another process is at it."""
        cursor = await cursors.lock(self.connection, self.reader.name, self.part)
        if cursor is None:
            return None
        await self._held()
        page = await cursors.page(self.connection, cursor, sorted(self.reader.types), self.reader.head_table)
        if self.reader.head_table is None:
            for row in page.rows:
                await self._fresh(row)
        else:
            await self._together(page.rows)
        if page.moved:
            await cursors.advance(self.connection, page.then)
        return page.then.upto is not None

    async def _fresh(self, row: Any) -> None:
        subject = (row["tenant"], row["subject"])
        if subject in self.blocked:
            await self._hold(row, 0, 0.0, None)
            return
        try:
            await self.reader.attempt(eventlog.event(row))
        except Exception as error:
            if unreachable(error):
                raise
            await self._fault(row, error)

    async def _together(self, rows: Sequence[Any]) -> None:
        """Starting streams: each is its own subject, so they share flushes instead of waiting for each other."""
        attempts = (self.reader.attempt(eventlog.event(row)) for row in rows)
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)
        for row, outcome in zip(rows, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                if unreachable(outcome) or not isinstance(outcome, Exception):
                    raise outcome
                await self._fault(row, outcome)

    async def _fault(self, row: Any, error: Exception) -> None:
        log.warning("bus.event_failed", extra={**self._words(row), "error": repr(error)})
        self.blocked.add((row["tenant"], row["subject"]))
        await self._hold(row, 1, delay(1), repr(error)[:2000])

    def _words(self, row: Any) -> dict[str, str]:
        return {"consumer": self.reader.name, "type": row["type"], "id": str(row["id"])}

    async def _hold(self, row: Any, attempts: int, wait: float, error: str | None) -> None:
        place = (row["id"], self.part, row["xid"], row["seq"], row["tenant"], row["subject"])
        await self.connection.execute(HOLD, self.reader.name, *place, attempts, wait, error)
        self._due_in(wait)

    def _due_in(self, seconds: float) -> None:
        self.retry = seconds if self.retry is None else min(self.retry, seconds)

    async def _held(self) -> None:
        now = datetime.now(UTC)
        for row in await self.connection.fetch(HELD, self.reader.name, self.part):
            subject = (row["tenant"], row["subject"])
            if subject in self.blocked:
                continue
            if row["due"] > now:
                self.blocked.add(subject)
                self._due_in((row["due"] - now) / timedelta(seconds=1))
            else:
                await self._retry(row)

    async def _retry(self, row: Any) -> None:
        try:
            await self.reader.attempt(eventlog.event(row))
        except Exception as error:
            if unreachable(error):
                raise
            attempts = row["attempts"] + 1
            parked = attempts >= ATTEMPTS
            if parked:
                log.exception("bus.event_parked", extra=self._words(row))
            else:
                self.blocked.add((row["tenant"], row["subject"]))
                self._due_in(delay(attempts))
            again = (attempts, repr(error)[:2000], delay(attempts), parked)
            await self.connection.execute(AGAIN, self.reader.name, row["id"], *again)
        else:
            await self.connection.execute(DONE, self.reader.name, row["id"])
