"""Asking a part whether it is there: a GET over HTTP, a connection to a unix socket."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from urllib.parse import urlsplit

SECONDS = 2.0
BYTES = 4096


async def answers(url: str) -> bool:
    """Whether a GET is answered with a status of 2xx."""
    return (await ask(url)).partition(" ")[0].startswith("2")


async def ask(url: str) -> str:
    """The status and the start of the body that answer a GET; empty when nobody answers."""
    parts = urlsplit(url)
    request = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode()
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                writer.write(request)
                told = await reader.read(BYTES)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return ""
    head, _, body = told.decode(errors="replace").partition("\r\n\r\n")
    return f"{head.partition(' ')[2][:3]} {body}"


async def accepts(socket: Path) -> bool:
    """Whether somebody listens on a unix socket."""
    try:
        async with asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_unix_connection(socket)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
