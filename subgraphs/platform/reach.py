"""Whether the database can be reached, known within two seconds by whoever asks, and told to those who wait for it.

One connection is asked every quarter of a second. What does not answer twice in a row is away: readiness says so, new
calls are refused at once instead of each waiting for a timeout of its own, and callers who wait for a commit are told.
After some seconds more every connection is given up, for packets may have been lost and no end of a connection told.
When the database answers again, everything goes on by itself.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress

import asyncpg
from sqlalchemy.exc import SQLAlchemyError

from subgraphs.platform.commits import Unavailable

log = logging.getLogger("linkflow.database")

EVERY = 0.25
ANSWER = 0.8
"""Seconds an answer may take."""
STRIKES = 2
GONE = 4.0
"""Seconds away after which connections are given up."""
FAULTS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Reach:
    """Asks, and tells. `connect` makes the connection that is asked; `watch(connection)` has one given up with all.

    `with reach:` around work on the database refuses it while that is away, and has faults of it told as such.
    """

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]]) -> None:
        self.ok = True
        self.changed: list[Callable[[bool], None]] = []
        """Told when the database has gone away (False), and when it is back (True)."""
        self._connect = connect
        self._asked: asyncpg.Connection | None = None
        self._watched: weakref.WeakSet[asyncpg.Connection] = weakref.WeakSet()
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        self._task = asyncio.create_task(self._asking(), name="reach")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._drop()

    def __enter__(self) -> None:
        if not self.ok:
            raise Unavailable("The database cannot be reached.")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None and not self.ok and isinstance(error, (*FAULTS, SQLAlchemyError)):
            raise Unavailable("The database cannot be reached.") from error

    def watch(self, connection: asyncpg.Connection) -> asyncpg.Connection:
        self._watched.add(connection)
        return connection

    async def _asking(self) -> None:
        clock = asyncio.get_running_loop().time
        strikes, since = 0, 0.0
        while True:
            before = clock()
            await asyncio.sleep(EVERY)
            if clock() - before > EVERY + ANSWER:
                continue  # it was us who stood still
            began = clock()
            if await self._answers():
                strikes = 0
                self._found()
                continue
            strikes += 1
            since = began if strikes == 1 else since
            if strikes == STRIKES and self.ok:
                self._missed()
            if clock() - since > GONE:
                self._give_up()

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(ANSWER):
                if self._asked is None or self._asked.is_closed():
                    self._asked = await self._connect()
                await self._asked.execute("select")
        except FAULTS:
            self._drop()
            return False
        except Exception:  # the asking must not end
            log.exception("database.asking_failed")
            self._drop()
            return False
        return True

    def _found(self) -> None:
        if not self.ok:
            self.ok = True
            log.warning("database.back")
            self._tell()

    def _missed(self) -> None:
        self.ok = False
        log.warning("database.away")
        self._tell()

    def _tell(self) -> None:
        for callback in self.changed:
            try:
                callback(self.ok)
            except Exception:  # one listener's fault must not cost the others the news
                log.exception("database.telling_failed")

    def _give_up(self) -> None:
        for connection in list(self._watched):
            if not connection.is_closed():
                connection.terminate()

    def _drop(self) -> None:
        if self._asked is not None:
            asked, self._asked = self._asked, None
            with suppress(*FAULTS):
                asked.terminate()
