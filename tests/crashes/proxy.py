"""A TCP proxy of our own in front of PostgreSQL that can be told to misbehave.

Modes: `pass`; `blackhole` (bytes vanish, new connections are accepted and get nothing, as when packets are dropped);
`reset` (connections end by RST, new ones too); `delay` (each chunk waits); `half` (half-open: what clients send
arrives, answers vanish); `cut` (a connection ends after so many bytes towards the server).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

RST = struct.pack("ii", 1, 0)


@dataclass
class Proxy:
    """Listens on `port` and passes on to a unix socket. `mode` may be changed at any time."""

    target: str
    mode: str = "pass"
    delay: float = 0.0
    cut_after: int = 0
    port: int = 0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    talks: set[asyncio.Task[None]] = field(default_factory=set)

    def turn(self, mode: str, *, delay: float = 0.0, cut_after: int = 0) -> None:
        self.mode, self.delay, self.cut_after = mode, delay, cut_after
        if mode == "reset":
            for writer in list(self.writers):
                self._reset(writer)

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        found = writer.get_extra_info("socket")
        if found is not None and found.family != socket.AF_UNIX:
            with contextlib.suppress(OSError):
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        writer.transport.abort()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.current_task()
        assert talk is not None
        self.talks.add(talk)
        talk.add_done_callback(self.talks.discard)
        self.writers.add(writer)
        try:
            if self.mode == "reset":
                return
            await self._wait_out("blackhole")
            upstream, downstream = await asyncio.open_unix_connection(self.target)
            self.writers.add(downstream)
            ways = [
                asyncio.create_task(self._pump(reader, downstream, inward=True)),
                asyncio.create_task(self._pump(upstream, writer, inward=False)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                self.writers.discard(downstream)
                downstream.transport.abort()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self.writers.discard(writer)
            if self.mode == "reset":
                self._reset(writer)
            else:
                writer.transport.abort()

    async def _wait_out(self, mode: str) -> None:
        while self.mode == mode:
            await asyncio.sleep(0.05)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, inward: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                if self.mode == "blackhole" or (self.mode == "half" and not inward):
                    return await self._swallow(source)
                if self.mode == "delay":
                    await asyncio.sleep(self.delay)
                passed += len(data)
                if self.mode == "cut" and inward and passed > self.cut_after:
                    return None
                target.write(data)
                await target.drain()
        return None

    async def _swallow(self, source: asyncio.StreamReader) -> None:
        """A stream that lost bytes is of no use any more: it is dead until its owner gives it up."""
        while await source.read(65_536):
            pass


@asynccontextmanager
async def proxying(target: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(target)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for talk in list(proxy.talks):
            talk.cancel()
        await asyncio.gather(*proxy.talks, return_exceptions=True)
