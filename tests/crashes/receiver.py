"""The outside world inside the test's own process, where a test wants to look at it while it goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Receiver:
    """The outside world: counts what arrives by idempotency key; answers the first call of a `flaky` key with 503."""

    pause: float = 0.02
    calls: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    port: int = 0
    talks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.create_task(self._talk(reader, writer))
        self.talks.add(talk)
        talk.add_done_callback(self.talks.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                key = next(
                    line.split(": ")[1].strip('"') for line in head.split("\r\n") if line.startswith("idempotency-key")
                )
                self.calls[key] += 1
                await asyncio.sleep(self.pause)
                refused = key.endswith(":flaky") and self.calls[key] == 1
                self.done[key] += not refused
                status, body = ("503 Unavailable", "") if refused else ("200 OK", "done")
                writer.write(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
                await writer.drain()


@asynccontextmanager
async def receiving(pause: float) -> AsyncIterator[Receiver]:
    receiver = Receiver(pause)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    async with server:
        yield receiver
        for talk in list(receiver.talks):
            talk.cancel()
        await asyncio.gather(*receiver.talks, return_exceptions=True)
