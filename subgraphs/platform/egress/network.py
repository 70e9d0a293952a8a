"""Connections for the HTTP library: made to an address the guard has just permitted, over asyncio streams."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore

from subgraphs.platform.egress.addresses import Guard
from subgraphs.platform.egress.faults import EgressFailed

CONNECT_SECONDS = 10.0
_READ = 65_536


class Stream(httpcore.AsyncNetworkStream):
    """One TCP or TLS connection. Time limits are the caller's: the whole exchange has one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            return await self._reader.read(max_bytes)
        except (OSError, EOFError) as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        try:
            self._writer.write(buffer)
            await self._writer.drain()
        except (OSError, RuntimeError) as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        self._writer.close()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                await self._writer.start_tls(ssl_context, server_hostname=server_hostname)
        except (OSError, TimeoutError) as error:
            self._writer.close()
            raise EgressFailed("egress.tls", f"No TLS connection: {_reason(error)}.") from error
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            return self._reader.at_eof() or bool(self._reader._buffer) or self._writer.is_closing()  # type: ignore[attr-defined]
        if info == "ssl_object":
            return self._writer.get_extra_info("ssl_object")
        return None


def _reason(error: BaseException) -> str:
    verify = getattr(error, "verify_message", None)
    return str(verify or getattr(error, "reason", None) or getattr(error, "strerror", None) or "it took too long")


class Network(httpcore.AsyncNetworkBackend):
    """Dials; nothing else of this process opens outgoing connections for workflows."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._guard.addresses(host, port)
        failure: BaseException | None = None
        try:
            async with asyncio.timeout(timeout):
                for address in addresses:
                    try:
                        return Stream(*await asyncio.open_connection(address, port, limit=_READ))
                    except OSError as error:
                        failure = error
        except TimeoutError as error:
            failure = error
        raise EgressFailed("egress.connect", f"No connection to {host}:{port}: {_reason(failure)}.")  # type: ignore[arg-type]

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
