"""Clients of the graph over each of its protocols: what programs of users do, in the least code."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.typing import Subprotocol

SSE = {"accept": "text/event-stream"}
MULTIPART = {"accept": 'multipart/mixed;subscriptionSpec="1.0", application/json'}
HEARTBEAT: dict[str, Any] = {"heartbeat": True}
PATIENCE = 20.0  # seconds before a test that waits for something is a failed test


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def ask(client: httpx.AsyncClient, url: str, query: str, token: str | None = None, **variables: Any) -> Any:
    """The decoded answer to a query or mutation."""
    headers = bearer(token) if token else {}
    answer = await client.post(url, json={"query": query, "variables": variables}, headers=headers)
    assert answer.headers["content-type"].startswith("application/"), answer.text
    return answer.json()


async def sse(client: httpx.AsyncClient, url: str, query: str, token: str, **variables: Any) -> AsyncIterator[Any]:
    """Results of a subscription over Server-Sent Events, `distinct connections` mode; HEARTBEAT for comments."""
    body = {"query": query, "variables": variables}
    async with client.stream("POST", url, json=body, headers=SSE | bearer(token), timeout=PATIENCE) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        event = ""
        async for line in answer.aiter_lines():
            if line.startswith(":"):
                yield HEARTBEAT
            elif line.startswith("event:"):
                event = line.removeprefix("event:").strip()
            elif line.startswith("data:") and event == "next":
                yield json.loads(line.removeprefix("data:"))
            if event == "complete":
                return
    raise AssertionError("the stream ended without `complete`")


async def multipart(
    client: httpx.AsyncClient, url: str, query: str, token: str, **variables: Any
) -> AsyncIterator[Any]:
    """The same over Apollo's multipart protocol."""
    body = {"query": query, "variables": variables}
    async with client.stream("POST", url, json=body, headers=MULTIPART | bearer(token), timeout=PATIENCE) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert 'boundary="graphql"' in answer.headers["content-type"]
        async for line in answer.aiter_lines():
            if line == "--graphql--":
                return
            if line.startswith("{"):
                part = json.loads(line)
                yield part.get("payload", HEARTBEAT)
    raise AssertionError("the stream ended without its closing boundary")


async def over_socket(
    client: httpx.AsyncClient, url: str, query: str, token: str, **variables: Any
) -> AsyncIterator[Any]:
    """The same over graphql-transport-ws, on a connection of its own."""
    del client
    async with opened(url, token) as socket:
        async for result in socket.stream(query, **variables):
            yield result


PROTOCOLS = {"sse": sse, "multipart": multipart, "websocket": over_socket}


class Socket:
    """One graphql-transport-ws connection."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.last_id = 0

    async def send(self, type: str, **rest: Any) -> None:
        await self.connection.send(json.dumps({"type": type, **rest}))

    async def receive(self) -> Any:
        async with asyncio.timeout(PATIENCE):
            return json.loads(await self.connection.recv())

    async def init(self, payload: Any = None) -> None:
        await self.send("connection_init", **({} if payload is None else {"payload": payload}))

    async def subscribe(self, query: str, **variables: Any) -> str:
        self.last_id += 1
        await self.send("subscribe", id=str(self.last_id), payload={"query": query, "variables": variables})
        return str(self.last_id)

    async def stream(self, query: str, **variables: Any) -> AsyncIterator[Any]:
        """Results of one subscription; an `error` message comes as {"errors": [...]}."""
        id = await self.subscribe(query, **variables)
        while True:
            message = await self.receive()
            if message["type"] == "pong":
                yield HEARTBEAT
            elif message["type"] == "next" and message["id"] == id:
                yield message["payload"]
            elif message["type"] == "error" and message["id"] == id:
                yield {"errors": message["payload"]}
                return
            elif message["type"] == "complete" and message["id"] == id:
                return

    async def closed(self) -> tuple[int, str]:
        """The close code and reason, once the other side closes; what comes before is dropped."""
        async with asyncio.timeout(PATIENCE):
            try:
                while True:
                    await self.connection.recv()
            except websockets.ConnectionClosed:
                return self.connection.close_code or 0, self.connection.close_reason or ""


@asynccontextmanager
async def connected(url: str, protocol: str | None = "graphql-transport-ws", **options: Any) -> AsyncIterator[Socket]:
    """A websocket on which nothing was said yet."""
    protocols = [Subprotocol(protocol)] if protocol else None
    address = url.replace("http", "ws", 1)
    async with websockets.connect(address, subprotocols=protocols, ping_interval=None, proxy=None, **options) as found:
        yield Socket(found)


@asynccontextmanager
async def opened(url: str, token: str, **more: Any) -> AsyncIterator[Socket]:
    """A websocket whose `connection_init` was accepted."""
    async with connected(url) as socket:
        await socket.init({"authorization": f"Bearer {token}", **more})
        assert (await socket.receive())["type"] == "connection_ack"
        yield socket


async def results(stream: AsyncIterator[Any]) -> list[Any]:
    """All results of a stream, without its heartbeats."""
    return [result async for result in stream if result is not HEARTBEAT]


async def until(condition: Any, what: str) -> None:
    """Wait until `condition()` holds; fails after PATIENCE."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"never came: {what}"
        await asyncio.sleep(0.02)


async def status_of_large(url: str, body: bytes, headers: dict[str, str]) -> int:
    """The status of a POST that may be refused before it is read, by a client that reads while it sends.

    On plain sockets: asyncio gives up a connection, and the answer that has arrived with it, when a write is reset.
    """
    return await asyncio.to_thread(_status_of_large, httpx.URL(url), body, headers)


def _status_of_large(target: httpx.URL, body: bytes, headers: dict[str, str]) -> int:
    words = {"Host": target.netloc.decode(), "Content-Length": str(len(body)), **headers}
    lines = [
        f"POST {target.raw_path.decode()} HTTP/1.1",
        *(f"{name}: {value}" for name, value in words.items()),
        "",
        "",
    ]
    with socket.create_connection((target.host, target.port or 80), timeout=PATIENCE) as connection:

        def send() -> None:
            with suppress(OSError):
                connection.sendall("\r\n".join(lines).encode() + body)

        sending = threading.Thread(target=send)
        sending.start()
        answer = b""
        try:
            while b"\r\n" not in answer:
                received = connection.recv(4_096)
                assert received, f"closed without an answer: {answer!r}"
                answer += received
        finally:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            sending.join()
    return int(answer.split()[1])
