"""A server that misbehaves on request, a canary that counts who dials it, and a DNS server whose answers change."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import dnslib

from subgraphs.platform.egress import Resolver


@dataclass
class Seen:
    """One request as the server got it."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """`seen`: requests in order; `connections`: how many dialled; `sent`: bytes of the last endless body."""

    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    sent: int = 0
    answer: Callable[[Seen], bytes | None] = lambda seen: None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, path: str = "/") -> str:
        return f"http://{self.host}{path}"


def response(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def _serve(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    server.connections += 1
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            seen = Seen(lines[0], headers, body)
            server.seen.append(seen)
            await _answer(server, seen, writer)
            if writer.is_closing():
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def _answer(server: Server, seen: Seen, writer: asyncio.StreamWriter) -> None:
    path = seen.line.split(" ")[1]
    made = server.answer(seen)
    if made is not None:
        writer.write(made)
        if b"connection: close" in made:
            await writer.drain()
            writer.close()
    elif path.startswith("/slow/"):
        await asyncio.sleep(float(path.removeprefix("/slow/")))
        writer.write(response("200 OK", b"late"))
    elif path == "/endless":
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"a" * 65536 + b"\r\n")
            server.sent += 65536
            await writer.drain()
    elif path == "/gzip-bomb":
        writer.write(response("200 OK", gzip.compress(b"\0" * 100_000_000), "content-encoding: gzip"))
    elif path == "/deflate":
        writer.write(response("200 OK", zlib.compress(b"hello"), "content-encoding: deflate"))
    elif path == "/broken-gzip":
        writer.write(response("200 OK", b"no gzip", "content-encoding: gzip"))
    elif path == "/brotli":
        writer.write(response("200 OK", b"x", "content-encoding: br"))
    elif path == "/huge-header":
        writer.write(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 1_000_000 + b"\r\n\r\n")
    elif path == "/nonsense":
        writer.write(b"220 smtp ready\r\n\r\n")
    elif path == "/hang-up":
        writer.close()
    else:
        writer.write(response("200 OK", seen.body or b"ok", "x-one: 1", "x-two: a", "x-two: b"))
    if not writer.is_closing():
        await writer.drain()


@asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[Server]:
    server = Server()
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await _serve(server, reader, writer)
        except asyncio.CancelledError:
            writer.close()
        finally:
            tasks.discard(task)

    listener = await asyncio.start_server(accept, host, 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Zone(asyncio.DatagramProtocol):
    """A DNS server with TTL 0: each name has a list of answers, given in turn; the last one repeats."""

    def __init__(self) -> None:
        self.answers: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: tuple[str | int, ...]) -> None:
        query = dnslib.DNSRecord.parse(data)
        name = str(query.q.qname).rstrip(".")
        self.asked.append(name)
        turns = self.answers.get(name, [[]])
        found = turns.pop(0) if len(turns) > 1 else turns[0]
        if found == ["silent"]:
            return
        reply = query.reply()
        for value in found:
            if value.startswith("cname:"):
                reply.add_answer(dnslib.RR(query.q.qname, dnslib.QTYPE.CNAME, ttl=0, rdata=dnslib.CNAME(value[6:])))
            elif ":" in value:
                reply.add_answer(dnslib.RR(query.q.qname, dnslib.QTYPE.AAAA, ttl=0, rdata=dnslib.AAAA(value)))
            else:
                reply.add_answer(dnslib.RR(query.q.qname, dnslib.QTYPE.A, ttl=0, rdata=dnslib.A(value)))
        self.transport.sendto(reply.pack(), address)


@asynccontextmanager
async def naming() -> AsyncIterator[tuple[Zone, Resolver]]:
    """The server, and a resolver that asks it over UDP."""
    loop = asyncio.get_running_loop()
    transport, zone = await loop.create_datagram_endpoint(Zone, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]

    async def resolve(name: str) -> Sequence[str]:
        for _ in range(8):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
                asking.setblocking(False)
                await loop.sock_connect(asking, ("127.0.0.1", port))
                await loop.sock_sendall(asking, dnslib.DNSRecord.question(name).pack())
                reply = dnslib.DNSRecord.parse(await loop.sock_recv(asking, 4096))
            alias = [str(rr.rdata).rstrip(".") for rr in reply.rr if rr.rtype == dnslib.QTYPE.CNAME]
            if not alias:
                found = [str(rr.rdata) for rr in reply.rr]
                if not found:
                    raise OSError("no such name")
                return found
            name = alias[0]
        raise OSError("an alias of an alias of an alias")

    try:
        yield zone, resolve
    finally:
        transport.close()
