"""What lies between a process and the server: time, lost requests, lost answers, broken connections, notifications."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from typing import Any

import asyncpg

from subgraphs.platform.commits import Stored
from subgraphs.platform.flush import Batch
from tests.simulation.loop import OWNER
from tests.simulation.server import Server, Session
from tests.simulation.statements import Statements, Tx

SERVER = Context()
GONE = "connection was closed in the middle of operation"
NOBODY = "simulated"


class Wire:
    """Perfect as it stands: no delay, no loss. `Weather` (weather.py) is what a seed makes of it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.statements = Statements(server)
        self.sessions: dict[Session, None] = {}
        self.waiting: list[tuple[int, bool, Session, asyncio.Future[Any]]] = []
        self.holders: dict[int, dict[Session, bool]] = {}
        self.pending: dict[Session, dict[asyncio.Future[Any], None]] = {}
        self.down = False

    # -- what a seed decides

    def delay(self) -> float:
        return 0.0

    def fate(self) -> str:
        """ok; lost: the connection breaks before the statement; unanswered: after it; refused: the statement fails."""
        return "ok"

    def deliveries(self) -> Sequence[float]:
        """After how long each copy of a notification arrives."""
        return (0.0,)

    def dawdle(self) -> float:
        """How long a reader takes over what it read."""
        return 0.0

    def split(self) -> bool:
        """Whether a flush takes its transaction id some time before it commits."""
        return False

    def note(self, *words: Any) -> None:
        """Hears what the server does."""

    # -- connections

    async def open(self, name: str) -> Session:
        session = Session(name, OWNER.get())
        if self.down:
            await asyncio.sleep(self.delay())
            raise OSError("the server cannot be reached")
        self.sessions[session] = None
        self.pending[session] = {}
        return session

    def cut(self, session: Session) -> None:
        """Ends a session: who waits for an answer hears of it; its locks go when its last statement has ended."""
        if not session.alive:
            return
        session.alive = False
        self.sessions.pop(session, None)
        for future in self.pending.pop(session, {}):
            if not future.done():
                future.set_exception(asyncpg.ConnectionDoesNotExistError(GONE))
        self.waiting = [each for each in self.waiting if each[2] is not session]
        if not session.running:
            self._ended(session)

    def _ended(self, session: Session) -> None:
        for lock in list(session.locks):
            self.unlock(session, lock)
        for hook in session.on_end:
            hook()
        session.on_end = []

    # -- statements

    async def call(self, session: Session, work: Callable[[], Any]) -> Any:
        """Has the server do `work` at one instant of its own, and brings the answer."""
        future = self._sent(session)
        loop = asyncio.get_running_loop()
        loop.call_later(self.delay(), self._arrive, session, work, future, self.fate(), context=SERVER)
        return await self._answered(session, future)

    def _sent(self, session: Session) -> asyncio.Future[Any]:
        if not session.alive:
            raise asyncpg.InterfaceError("connection is closed")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        session.running += 1
        self.pending[session][future] = None
        return future

    async def _answered(self, session: Session, future: asyncio.Future[Any]) -> Any:
        try:
            return await future
        except asyncio.CancelledError:
            self.cut(session)
            raise
        finally:
            if session in self.pending:
                self.pending[session].pop(future, None)

    def _arrive(self, session: Session, work: Callable[[], Any], future: asyncio.Future[Any], fate: str) -> None:
        if fate == "lost" or (not session.alive and fate == "ok" and self.split()):
            self._close(session, future)
            return
        result: Any = None
        fault: Exception | None = None
        try:
            if fate == "refused":
                raise asyncpg.QueryCanceledError("canceling statement")
            result = work()
        except Exception as error:  # noqa: BLE001 - the server answers with it
            fault = error
        if fate == "unanswered":
            self._close(session, future)
            return
        self._close(session, None)
        self._reply(future, result, fault)

    def _close(self, session: Session, broken: asyncio.Future[Any] | None) -> None:
        session.running -= 1
        if broken is not None:
            self.cut(session)
        if not session.alive and not session.running:
            self._ended(session)

    def _reply(self, future: asyncio.Future[Any], result: Any, fault: Exception | None) -> None:
        def settle() -> None:
            if not future.done():
                if fault is not None:
                    future.set_exception(fault)
                else:
                    future.set_result(result)

        if wait := self.delay() if self.split() else 0.0:
            asyncio.get_running_loop().call_later(wait, settle, context=SERVER)
        else:
            settle()

    async def flush(self, session: Session, batch: Batch, owner: Any, notice: str | None) -> Stored:
        """The group commit's one statement: it takes its transaction id, and commits at once or some time later."""
        future, fate = self._sent(session), self.fate()
        loop = asyncio.get_running_loop()

        def begin() -> None:
            if fate == "lost" or not session.alive:
                self._close(session, future)
                return
            xid = self.server.begin()
            if self.split():
                loop.call_later(self.delay(), finish, xid, context=SERVER)
            else:
                finish(xid)

        def finish(xid: int) -> None:
            def work() -> Stored:
                try:
                    stored = self.server.flush(batch, owner, xid)
                finally:
                    self.server.end(xid)
                self.note("flush", xid, len(stored.written), len(stored.claimed), batch)
                if notice is not None:
                    self.notify("linkflow_events", f"{notice}{xid}")
                return stored

            self._arrive(session, work, future, fate)
            self.server.end(xid)

        loop.call_later(self.delay(), begin, context=SERVER)
        found: Stored = await self._answered(session, future)
        return found

    # -- notifications

    def listen(self, session: Session, channel: str, callback: Callable[..., None], connection: Any) -> None:
        context = copy_context()

        def hear(payload: str, wait: float) -> None:
            loop = asyncio.get_running_loop()
            loop.call_later(wait, callback, connection, 0, channel, payload, context=context)

        session.ears[channel] = hear

    def notify(self, channel: str, payload: str) -> None:
        for session in list(self.sessions):
            if channel in session.ears:
                for wait in self.deliveries():
                    session.ears[channel](payload, wait)

    # -- advisory locks

    async def lock(self, session: Session, lock: int, shared: bool) -> None:
        """Waits for the lock; while it waits the statement is not under way."""
        future = self._sent(session)
        session.running -= 1

        def ask() -> None:
            if session.alive:
                self.waiting.append((lock, shared, session, future))
                self._grant()

        asyncio.get_running_loop().call_later(self.delay(), ask, context=SERVER)
        await self._answered(session, future)

    def unlock(self, session: Session, lock: int) -> None:
        session.locks.pop(lock, None)
        self.holders.get(lock, {}).pop(session, None)
        self._grant()

    def _grant(self) -> None:
        kept = []
        for each in self.waiting:
            lock, shared, session, future = each
            holders = self.holders.setdefault(lock, {})
            if not holders or (shared and all(holders.values())):
                holders[session] = shared
                session.locks[lock] = None
                if not future.done():
                    future.set_result(None)
            else:
                kept.append(each)
        self.waiting = kept

    def holder(self, lock: int) -> Session | None:
        """Who holds it for himself alone."""
        return next((session for session, shared in self.holders.get(lock, {}).items() if not shared), None)


__all__ = ["SERVER", "Tx", "Wire"]
