"""One websocket in the subprotocol `graphql-transport-ws` (the protocol of the npm package graphql-ws, PROTOCOL.md).

The legacy subprotocol `graphql-ws` is not spoken. Close codes: 4400 malformed, 4401 not admitted or not yet, 4406 other
subprotocol, 4408 no init in time, 4409 id in use, 4429 second init. A router multiplexes many clients over one
connection, so operations are not counted here, and each one has a context of its own.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any

import orjson
from strawberry.types import ExecutionResult
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType

from resolvers.extensions import answer
from resolvers.requests import (
    Door,
    Parameters,
    Ran,
    Receive,
    Refusal,
    Scope,
    Send,
    Watch,
    checked,
    correlated,
    encode,
    problems,
    refused,
)
from resolvers.schema import Graph

PROTOCOL = "graphql-transport-ws"
INIT_SECONDS = 10.0

log = logging.getLogger("linkflow.graph")


class Closing(Exception):
    """Ends the conversation with a close code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Conversation:
    def __init__(
        self,
        graph: Graph,
        door: Door,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        max_bytes: int,
        watch: Watch | None = None,
    ) -> None:
        self.graph, self.door = graph, door
        self.max_bytes, self.watch = max_bytes, watch
        self.scope = scope
        self.receive = receive
        self.send = send
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        self.asked_in = False
        self.context: Callable[[], Any] | None = None
        self.kinds: frozenset[str] = frozenset()
        self.running: dict[str, asyncio.Task[None]] = {}
        self.finished: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serves the connection until either side closes it; every operation it started has ended by then."""
        await self.receive()  # websocket.connect
        spoken = PROTOCOL if PROTOCOL in self.scope.get("subprotocols", ()) else None
        await self.send({"type": "websocket.accept", "subprotocol": spoken})
        try:
            if spoken is None:
                raise Closing(4406, "Subprotocol not acceptable")
            await self.serve()
        except Closing as closing:
            reason = closing.reason.encode()[:120].decode(errors="ignore")
            with suppress(RuntimeError, OSError):  # the other side may have closed first
                await self.send({"type": "websocket.close", "code": closing.code, "reason": reason})
        finally:
            tasks = [*self.running.values(), *self.finished]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def serve(self) -> None:
        deadline = asyncio.get_running_loop().time() + INIT_SECONDS
        while True:
            try:
                async with asyncio.timeout_at(None if self.asked_in else deadline):
                    message = await self.receive()
            except TimeoutError:
                raise Closing(4408, "Connection initialisation timeout") from None
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            if text is None or len(text) > self.max_bytes:
                raise Closing(4400, "Messages are JSON text of limited size")
            try:
                await self.heard(orjson.loads(text))
            except ValueError:
                raise Closing(4400, "Messages are JSON text") from None

    async def heard(self, message: Any) -> None:
        match message:
            case {"type": "connection_init", **rest}:
                await self.init(rest.get("payload"))
            case {"type": "ping", **rest}:
                await self.tell({"type": "pong"} | ({"payload": rest["payload"]} if "payload" in rest else {}))
            case {"type": "pong"}:
                pass
            case {"type": "subscribe", "id": str() as id, "payload": dict() as payload} if id:
                self.subscribe(id, payload)
            case {"type": "complete", "id": str() as id}:
                if task := self.running.pop(id, None):
                    self.finished.add(task)
                    task.add_done_callback(self.finished.discard)
                    task.cancel()
            case _:
                raise Closing(4400, "Unknown or malformed message")

    async def init(self, payload: Any) -> None:
        if self.asked_in:
            raise Closing(4429, "Too many initialisation requests")
        self.asked_in = True
        if not isinstance(payload, dict | None):
            raise Closing(4400, "The payload of connection_init is an object")
        correlated(self.headers)
        try:
            self.context, self.kinds = await self.door.admit_socket(self.path, payload or {})
        except Refusal as refusal:
            raise Closing(refusal.close, f"{refusal.code}: {refusal.message}") from None
        await self.tell({"type": "connection_ack"})

    def subscribe(self, id: str, payload: dict[str, Any]) -> None:
        if self.context is None:
            raise Closing(4401, "Unauthorized")
        if id in self.running:
            raise Closing(4409, f"Subscriber for {id} already exists")
        self.running[id] = asyncio.create_task(self.operate(id, payload, self.context))

    async def operate(self, id: str, payload: dict[str, Any], context: Callable[[], Any]) -> None:
        correlation = correlated({})
        try:
            last = await self.stream(id, checked(payload), context())
        except Refusal as refusal:
            last = {"id": id, "type": "error", "payload": [refused(refusal, correlation)]}
        except Exception as failure:  # the boundary of one operation: it is logged, the others go on
            log.error("operation failed", exc_info=failure, extra={"correlation_id": correlation})
            masked = Refusal(500, "INTERNAL_SERVER_ERROR", "Something went wrong on our side.")
            last = {"id": id, "type": "error", "payload": [refused(masked, correlation)]}
        if self.running.get(id) is asyncio.current_task():
            del self.running[id]
            with suppress(RuntimeError, OSError):
                await self.tell(last)

    async def stream(self, id: str, asked: Parameters, context: Any) -> dict[str, Any]:
        """Sends every result; returns the message that ends the operation."""
        graph = self.graph
        started, errors, first = time.perf_counter(), 0, True
        source = await graph.stream(
            asked.query,
            asked.variables,
            context_value=context,
            operation_name=asked.operation,
            allowed_operation_types=frozenset(OperationType(kind) for kind in self.kinds),
        )
        async with aclosing(source):
            async for result in source:
                if first and isinstance(result, PreExecutionError):
                    shown = problems(result.errors or [], graph.limits.errors)
                    return {"id": id, "type": "error", "payload": shown}
                first = False
                if isinstance(result, ExecutionResult):
                    errors += len(result.errors or ())
                    await self.tell({"id": id, "type": "next", "payload": answer(result, at_most=graph.limits.errors)})
        if self.watch:
            label = graph.preparing.label(asked.query, asked.operation)
            self.watch(Ran(*label, time.perf_counter() - started, errors))
        return {"id": id, "type": "complete"}

    async def tell(self, message: dict[str, Any]) -> None:
        await self.send({"type": "websocket.send", "text": encode(message).decode()})
