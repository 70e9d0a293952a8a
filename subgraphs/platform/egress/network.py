"""HTTP/1.1 connections: dialled at an address the guard has just permitted, kept for the next call to that origin."""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import httptools

from subgraphs.platform.egress.addresses import Guard
from subgraphs.platform.egress.faults import EgressFailed

CONNECT_SECONDS = 10.0
CONNECTIONS = 256
"""Calls of a process under way at the same time; more of them wait."""
KEPT = 64
KEPT_SECONDS = 4.0
"""Shorter than servers keep idle connections, so that few requests meet one that is just being closed."""
HEAD_LIMIT = 131_072
"""Bytes of an answer before its body."""


class Origin(Protocol):
    @property
    def scheme(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


class Sink(Protocol):
    """Takes an answer as it arrives; what it raises ends the exchange."""

    def head(self, status: int, headers: list[tuple[str, str]]) -> bool:
        """Called once; answers whether the body is wanted."""

    def body(self, piece: bytes) -> None:
        """Called for each piece of the body as it was sent, chunks taken apart."""


class Stale(Exception):
    """A kept connection turned out to be closed before it answered anything."""


@dataclass(slots=True)
class Exchange:
    """One request on a connection, and what has arrived of its answer."""

    method: bytes
    sink: Sink
    done: asyncio.Future[bool]
    headers: list[tuple[str, str]] = field(default_factory=list)
    status: int = 0
    received: int = 0
    to_end: bool = False


class Connection(asyncio.Protocol):
    """One connection, one exchange at a time. The methods `on_…` are called by the parser."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.reused = False
        self.expiry: asyncio.TimerHandle | None = None
        self._exchange: Exchange | None = None
        self._parser = httptools.HttpResponseParser(self)

    @property
    def open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    async def run(self, request: bytes, method: bytes, sink: Sink) -> bool:
        """Sends and waits; answers whether the connection may be kept. Raises Stale or EgressFailed."""
        if self.transport is None or not self.open:
            raise Stale
        exchange = Exchange(method, sink, asyncio.get_running_loop().create_future())
        self._exchange, self._parser = exchange, httptools.HttpResponseParser(self)
        self.transport.write(request)
        try:
            return await exchange.done
        finally:
            self._exchange = None
            if not exchange.done.done() or exchange.done.cancelled() or exchange.done.exception() is not None:
                self.transport.abort()

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None or exchange.done.done():
            self.abort()
            return
        exchange.received += len(data)
        if not exchange.headers and exchange.received > HEAD_LIMIT:
            self._fail(EgressFailed("egress.disconnected", "The head of the answer is too large.", sent=True))
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(EgressFailed("egress.disconnected", "The other side changed the protocol.", sent=True))
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            self._fail(cause if isinstance(cause, Exception) else error)
        except httptools.HttpParserError:
            self._fail(EgressFailed("egress.disconnected", "The other side does not speak HTTP.", sent=True))

    def connection_lost(self, error: Exception | None) -> None:
        exchange = self._exchange
        if exchange is not None and not exchange.done.done():
            if exchange.to_end and error is None:
                exchange.done.set_result(False)
            elif self.reused and not exchange.received:
                exchange.done.set_exception(Stale())
            else:
                self._fail(EgressFailed("egress.disconnected", "The other side broke off.", sent=True))
        if self.expiry is not None:
            self.expiry.cancel()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _fail(self, error: Exception) -> None:
        if self._exchange is not None and not self._exchange.done.done():
            self._exchange.done.set_exception(error)
        self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        exchange = self._exchange
        if exchange is None or exchange.done.done():
            self.abort()  # a second answer to one request is nobody's
        else:
            exchange.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        exchange = self._exchange
        if exchange is None or exchange.done.done():
            return
        exchange.status = self._parser.get_status_code()
        if exchange.status < 200:
            return
        wanted = exchange.sink.head(exchange.status, exchange.headers)
        names = {name for name, _ in exchange.headers}
        exchange.to_end = "content-length" not in names and "transfer-encoding" not in names
        if not wanted or exchange.method == b"HEAD":
            exchange.done.set_result(exchange.method == b"HEAD" and self._parser.should_keep_alive())

    def on_body(self, piece: bytes) -> None:
        if self._exchange is not None and not self._exchange.done.done():
            self._exchange.sink.body(piece)

    def on_message_complete(self) -> None:
        exchange = self._exchange
        if exchange is None or exchange.done.done():
            return
        if exchange.status < 200:
            exchange.headers.clear()
        else:
            exchange.done.set_result(self._parser.should_keep_alive())


class Network:
    """Dials and keeps connections; nothing else of this process opens outgoing connections for workflows."""

    def __init__(self, guard: Guard, trust: ssl.SSLContext) -> None:
        self._guard = guard
        self._trust = trust
        self._idle: defaultdict[tuple[str, str, int], list[Connection]] = defaultdict(list)
        self._kept = 0
        self._slots = asyncio.Semaphore(CONNECTIONS)

    async def exchange(
        self, origin: Origin, request: bytes, method: bytes, sink: Sink, sending: Callable[[], None]
    ) -> None:
        """One request and its answer, into `sink`. `sending` is called when the request begins to leave."""
        key = (origin.scheme, origin.host, origin.port)
        async with self._slots:
            connection = self._take(key) or await self._dial(origin)
            sending()
            try:
                keep = await connection.run(request, method, sink)
            except BaseException:
                connection.abort()
                raise
            if keep and connection.open:
                self._keep(key, connection)
            else:
                connection.abort()

    def close(self) -> None:
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()
        self._kept = 0

    def _take(self, key: tuple[str, str, int]) -> Connection | None:
        connections = self._idle.get(key)
        while connections:
            connection = connections.pop()
            self._kept -= 1
            if connection.expiry is not None:
                connection.expiry.cancel()
            if not connections:
                del self._idle[key]
            if connection.open:
                return connection
        return None

    def _keep(self, key: tuple[str, str, int], connection: Connection) -> None:
        if self._kept >= KEPT:
            connection.abort()
            return
        connection.reused = True
        self._idle[key].append(connection)
        self._kept += 1
        connection.expiry = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._expire, key, connection)

    def _expire(self, key: tuple[str, str, int], connection: Connection) -> None:
        connection.abort()
        connections = self._idle.get(key, [])
        if connection in connections:
            connections.remove(connection)
            self._kept -= 1
            if not connections:
                del self._idle[key]

    async def _dial(self, origin: Origin) -> Connection:
        addresses = await self._guard.addresses(origin.host, origin.port)
        secure = {"ssl": self._trust, "server_hostname": origin.host} if origin.scheme == "https" else {}
        loop = asyncio.get_running_loop()
        failure: BaseException = TimeoutError()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                for address in addresses:
                    try:
                        _, made = await loop.create_connection(Connection, address, origin.port, **secure)  # type: ignore[call-overload]
                        return made  # type: ignore[no-any-return]
                    except OSError as error:
                        failure = error
        except TimeoutError as error:
            failure = error
        code = "egress.tls" if isinstance(failure, ssl.SSLError) else "egress.connect"
        raise EgressFailed(code, f"No connection to {origin.host}:{origin.port}: {_reason(failure)}.")


def _reason(error: BaseException) -> str:
    verify = getattr(error, "verify_message", None)
    if verify:
        return f"its certificate does not hold ({verify})"
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or "it took too long")
