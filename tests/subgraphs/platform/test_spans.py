"""Spans reach a collector, one per operation, loader and statement, under the trace of the request."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import orjson
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from subgraphs.auth.service import build as auth
from subgraphs.tenant.service import build as tenant
from subgraphs.user.service import build as user
from tests.subgraphs.graph_client import served


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Any]]]:
    """An OTLP/HTTP collector: its address, and the spans it was sent."""
    spans: list[Any] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
            spans.extend(s for r in request.resource_spans for scope in r.scope_spans for s in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", spans
    server.shutdown()
    thread.join()
    server.server_close()


async def test_an_operation_its_loader_and_its_statements_are_spans_of_one_trace(
    fresh_settings: Any, collector: tuple[str, list[Any]]
) -> None:
    address, spans = collector
    settings = await fresh_settings(otel_endpoint=address)
    async with served(settings, auth, tenant, user) as client:
        ada = await client.sign_up()
        body = orjson.dumps({"query": "{ me { name } }"})
        headers = await ada.headers("/user/graphql", body)
        headers["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        answer = await client.http.post("/user/graphql", content=body, headers=headers)
        assert answer.json() == {"data": {"me": {"name": "Ada"}}}
    mine = [span for span in spans if span.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"]
    names = sorted(span.name for span in mine)
    assert names.count("graphql") == 1
    assert names.count("loader") == 1
    assert "sql select" in names
    assert len(mine) < 8, names  # none per field
    operation = next(span for span in mine if span.name == "graphql")
    assert operation.parent_span_id.hex() == "b7ad6b7169203331"
