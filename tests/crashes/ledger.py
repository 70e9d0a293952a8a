"""The outside world as a process of its own: what the steps of runs do there is written down, line by line, and judged.

`python -m tests.crashes.ledger FILE PAUSE` listens on a free port, which it prints. A call to /DOOR/NAME is one
line {door, name, key, nth} when it came and one more with `done` when it was carried out. Doors: `plain` does what it
is told each time; `idem` honours Idempotency-Key and does a thing once; `flaky` refuses the first call of a key with
503; `broken` answers 500. No fault is ever injected here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import IO, Any

DONE = {"plain", "idem", "flaky"}


class Ledger:
    """What was asked and done, by door and key."""

    def __init__(self, file: IO[bytes], pause: float) -> None:
        self.file, self.pause = file, pause
        self.calls: Counter[tuple[str, str]] = Counter()
        self.done: set[tuple[str, str]] = set()

    def write(self, **line: Any) -> None:
        self.file.write(json.dumps(line).encode() + b"\n")

    async def act(self, door: str, name: str, key: str) -> tuple[int, str]:
        self.calls[door, key] += 1
        nth = self.calls[door, key]
        self.write(door=door, name=name, key=key, nth=nth)
        await asyncio.sleep(self.pause)
        if door == "broken":
            return 500, "broken"
        if door == "flaky" and nth == 1:
            return 503, "later"
        if door != "idem" or (door, key) not in self.done:
            self.done.add((door, key))
            self.write(door=door, name=name, key=key, nth=nth, done=True)
        return 200, "done"

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lines = head.split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
                await reader.readexactly(int(headers.get("content-length", "0")))
                _, door, name = lines[0].split(" ")[1].split("/", 2)
                key = headers.get("idempotency-key", "").strip('"')
                status, body = await self.act(door, name, key)
                writer.write(f"HTTP/1.1 {status} x\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
                await writer.drain()


async def main(path: Path, pause: float) -> None:
    with path.open("ab", buffering=0) as file:
        server = await asyncio.start_server(Ledger(file, pause).talk, "127.0.0.1", 0, backlog=1000)
        print(server.sockets[0].getsockname()[1], flush=True)
        async with server:
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until our parent is gone
            server.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
