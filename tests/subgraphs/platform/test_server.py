"""The process around the subgraphs: readiness that names what failed, logs, metrics, secrets."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from resolvers.extensions import CORRELATION
from subgraphs.platform.domain import Caller, Problem, uuid7
from subgraphs.platform.security import SecretBox
from subgraphs.platform.server import Ground, Subgraph, application
from subgraphs.platform.settings import Settings
from subgraphs.platform.telemetry import WITHIN, Metrics, Telemetry, Within, configure_logs, trace_id
from tests.resolvers.library import graph


def http(ground: Ground, *subgraphs: Subgraph, peer: str = "127.0.0.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=application(ground, subgraphs), client=(peer, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://subgraphs")


async def test_readiness_names_what_failed_and_tells_nothing_else(ground: Ground) -> None:
    async def broken() -> None:
        raise RuntimeError("password=secret")

    async def missing() -> None:
        raise Problem("The catalogue is not here yet.")

    async def fine() -> None:
        return None

    checks: Any = [("store", broken), ("catalogue", missing), ("clock", fine)]
    async with http(ground, Subgraph("library", graph(), lambda *_: None, ready=checks)) as client:
        answer = await client.get("/health/ready")
        live = await client.get("/health/live")
    assert answer.status_code == 503
    failed = answer.json()["failed"]
    assert failed.keys() == {"library: store", "library: catalogue"}
    assert failed["library: catalogue"] == "The catalogue is not here yet."
    assert "secret" not in answer.text
    assert live.status_code == 200


async def test_ready_when_nothing_failed(ground: Ground) -> None:
    async with http(ground) as client:
        answer = await client.get("/health/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready", "failed": {}})


@pytest.mark.parametrize(
    ("peer", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("::1", {}, 200),
        ("203.0.113.5", {}, 404),
        ("127.0.0.1", {"x-forwarded-for": "127.0.0.1"}, 404),
        ("127.0.0.1", {"forwarded": "for=127.0.0.1"}, 404),
    ],
)
async def test_metrics_are_for_this_machine_only(
    ground: Ground, peer: str, headers: dict[str, str], status: int
) -> None:
    async with http(ground, peer=peer) as client:
        assert (await client.get("/metrics", headers=headers)).status_code == status


async def test_what_is_not_there_is_404(ground: Ground) -> None:
    async with http(ground, Subgraph("library", graph(), lambda *_: None)) as client:
        for path in ("/", "/graphql", "/other/graphql", "/library", "/library/graphql/", "/metrics/x", "/health"):
            assert (await client.get(path)).status_code == 404, path


@pytest.mark.shows("OB-01")
@pytest.mark.shows("OB-02")
def test_metrics_have_the_names_operators_look_for() -> None:
    metrics = Metrics()
    metrics.http_requests.labels("user", "/user/graphql", "POST", 200).inc()
    metrics.http_seconds.labels("user", "/user/graphql").observe(0.01)
    metrics.usage.labels("user", "query", "me").inc()
    metrics.connections.labels("api").set(2)
    metrics.queue_lag.labels("auth.complete").set(7)
    metrics.watch_cache("identities", lambda: (3, 1))
    for _ in range(2):
        metrics.saw(Caller(subject=uuid7(), tenant=uuid7()))
    metrics.saw(Caller())
    metrics.finished("SUCCEEDED", 0.2)
    metrics.finished("FAILED", 2.0)
    text = metrics.rendered().decode().splitlines()
    for line in (
        'http_requests_total{method="POST",path="/user/graphql",service="user",status="200"} 1.0',
        'http_request_duration_seconds_count{path="/user/graphql",service="user"} 1.0',
        'api_usage_by_endpoint{endpoint="me",operation="query",service="user"} 1.0',
        'database_connections_active{pool="api"} 2.0',
        'message_queue_lag{consumer="auth.complete"} 7.0',
        'cache_hit_ratio{cache="identities"} 0.75',
        "active_users_count 2.0",
        'workflow_executions_total{status="SUCCEEDED"} 1.0',
        "workflow_success_rate 0.5",
        "execution_duration_seconds_count 2.0",
    ):
        assert line in text, line


@pytest.mark.shows("OB-04")
def test_log_lines_are_events_with_fields_and_say_for_whom(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, root = io.StringIO(), logging.getLogger()
    kept, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "stderr", stream)
    who = Caller(subject=uuid7(), tenant=uuid7())
    tokens = WITHIN.set(Within("user", "a" * 32, who)), CORRELATION.set("request-7")
    try:
        configure_logs(settings)
        logging.getLogger("linkflow.user").warning("role changed", extra={"workflow_id": "w1", "long": "x" * 10_000})
        logging.getLogger("linkflow.user").debug("not at this level")
        try:
            raise ValueError("why")
        except ValueError:
            logging.getLogger("linkflow.user").exception("failed")
    finally:
        WITHIN.reset(tokens[0])
        CORRELATION.reset(tokens[1])
        root.handlers[:] = kept
        root.setLevel(level)
    first, second = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert first["event"] == "role changed"
    assert first["level"] == "warning"
    assert first["service"] == "user"
    assert first["user_id"] == str(who.subject)
    assert first["tenant"] == str(who.tenant)
    assert first["trace_id"] == "a" * 32
    assert first["correlation_id"] == "request-7"
    assert first["workflow_id"] == "w1"
    assert len(first["long"]) < 3_000
    assert "ValueError: why" in second["exception"]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "0af7651916cd43dd8448eb211c80319c"),
        ("", ""),
        ("00-zz-b7ad6b7169203331-01", ""),
        ("garbage", ""),
    ],
)
def test_trace_ids_come_from_traceparent(header: str, expected: str) -> None:
    assert trace_id({"traceparent": header}) == expected


def test_no_span_is_made_unless_a_collector_is_named(settings: Settings) -> None:
    telemetry = Telemetry(settings)
    telemetry.open()
    with telemetry.span("graphql", {}):
        assert telemetry.tracer is None
    telemetry.close()


def test_a_sealed_secret_opens_in_its_place_only(settings: Settings) -> None:
    box = SecretBox.from_settings(settings)
    assert os.stat(settings.secret_key_file).st_mode & 0o777 == 0o600
    sealed = box.seal(b"hunter2", "webhook.endpoint/1")
    assert b"hunter2" not in sealed
    assert box.seal(b"hunter2", "webhook.endpoint/1") != sealed
    assert SecretBox.from_settings(settings).open(sealed, "webhook.endpoint/1") == b"hunter2"
    wrong = [
        (sealed, "webhook.endpoint/2"),
        (sealed[:-1] + bytes([sealed[-1] ^ 1]), "webhook.endpoint/1"),
        (b"", ""),
        (sealed[:10], ""),
    ]
    for text, context in wrong:
        with pytest.raises(ValueError, match="seal"):
            box.open(text, context)
    assert isinstance(settings.secret_key_file, Path)
