"""GraphQL over HTTP at one path: the view, negotiated and typed in every answer.

Follows the GraphQL-over-HTTP draft (all 61 audits of `graphql-http` hold). What it adds: GET needs a header that no
plain page can send, a mutation over GET is 405, bodies are plain UTF-8 JSON up to a size, arrays of operations are
refused, and every answer that is not a result is `{"errors": [{message, extensions: {code, correlationId}}]}`.
Websockets go to `resolvers.socket`. Who may ask is the `Door`'s business, not the view's.
"""

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from strawberry.schema.exceptions import InvalidOperationTypeError
from strawberry.types.graphql import OperationType

from resolvers.extensions import answer
from resolvers.requests import (
    JSON_TYPE,
    Asked,
    Door,
    Parameters,
    Ran,
    Receive,
    Refusal,
    Scope,
    Send,
    Watch,
    check_media,
    correlated,
    encode,
    parameters,
    read_body,
    refused,
)
from resolvers.schema import Graph
from resolvers.socket import Conversation

RESULT_TYPE = "application/graphql-response+json"
PREFLIGHTED = frozenset(
    {"x-linkflow-identity", "x-linkflow-hop", "apollo-require-preflight", "x-graphql-csrf", "x-request-id"}
)
"""Headers that a page of another origin cannot send without a preflight; a GET must carry one of them."""


class Span(Protocol):
    """Opens a span around a block, under the trace that the headers name."""

    def __call__(self, name: str, headers: Mapping[str, str], /) -> AbstractContextManager[None]: ...


def _no_span(_name: str, _headers: Mapping[str, str]) -> AbstractContextManager[None]:
    return nullcontext()


class Endpoint:
    """The ASGI application at `/NAME/graphql`."""

    def __init__(
        self, graph: Graph, door: Door, *, max_bytes: int, watch: Watch | None = None, span: Span = _no_span
    ) -> None:
        self.graph = graph
        self.door = door
        self.max_bytes = max_bytes
        self.watch = watch
        self.span = span

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await Conversation(
                self.graph, self.door, scope, receive, send, max_bytes=self.max_bytes, watch=self.watch
            ).run()
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        correlation = correlated(headers)
        kind = RESULT_TYPE if RESULT_TYPE in headers.get("accept", "") else JSON_TYPE
        try:
            asked = await self._asked(scope, headers, receive)
            context = await self.door.admit(asked)
            with self.span("graphql", headers):
                status, body = await self.run(parameters(asked), asked.method, context, kind)
            extra: Mapping[str, str] = {}
        except Refusal as refusal:
            status, body, extra = refusal.status, {"errors": [refused(refusal, correlation)]}, refusal.headers
        await respond(send, status, encode(body), kind, correlation, extra)

    async def _asked(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> Asked:
        method = scope["method"]
        if method == "POST":
            check_media(headers)
        elif method != "GET":
            raise Refusal(405, "METHOD_NOT_ALLOWED", "Send POST or GET.", headers={"allow": "POST, GET"})
        elif PREFLIGHTED.isdisjoint(headers):
            raise Refusal(403, "PREFLIGHT_REQUIRED", "A GET needs a header such as apollo-require-preflight: 1.")
        body = await read_body(headers, receive, self.max_bytes)
        path = scope.get("raw_path") or scope["path"].encode()
        return Asked(method, path.decode("latin-1"), scope["query_string"].decode("latin-1"), headers, body)

    async def run(self, asked: Parameters, method: str, context: Any, kind: str) -> tuple[int, dict[str, Any]]:
        """Status and body for one query or mutation."""
        started = time.perf_counter()
        try:
            result = await self.graph.execute(
                asked.query,
                asked.variables,
                context_value=context,
                operation_name=asked.operation,
                allowed_operation_types=_GET if method == "GET" else _POST,
            )
        except InvalidOperationTypeError as wrong:
            raise _not_over_http(wrong, method) from None
        body = answer(result, at_most=self.graph.limits.errors)
        if self.watch:
            label = self.graph.preparing.label(asked.query, asked.operation)
            self.watch(Ran(*label, time.perf_counter() - started, len(result.errors or ())))
        if result.data is None and result.errors and not any(error.path for error in result.errors):
            del body["data"]  # the request failed, not the execution: section 6 of the draft
            return (400 if kind == RESULT_TYPE else 200), body
        return 200, body


_GET = frozenset({OperationType.QUERY})
_POST = frozenset({OperationType.QUERY, OperationType.MUTATION})


def _not_over_http(wrong: InvalidOperationTypeError, method: str) -> Refusal:
    if wrong.operation_type is OperationType.SUBSCRIPTION:
        return Refusal(405, "SUBSCRIPTION_NOT_OVER_HTTP", "Subscribe over a websocket (graphql-transport-ws).")
    return Refusal(405, "MUTATION_OVER_GET", "Send mutations by POST.", headers={"allow": "POST"})


async def respond(
    send: Send, status: int, body: bytes, kind: str, correlation: str, extra: Mapping[str, str] | None = None
) -> None:
    headers = [
        (b"content-type", f"{kind}; charset=utf-8".encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-request-id", correlation.encode()),
        *((name.encode(), value.encode()) for name, value in (extra or {}).items()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
