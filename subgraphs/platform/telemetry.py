"""Logs, metrics and spans.

Logs are events with fields, one line each: JSON, or for a terminal coloured text. Every line carries `service`, and
inside a request `correlation_id`, `trace_id`, `tenant` and `user_id`; libraries that log the standard way get the same
form. Metrics are Prometheus families under the names operators know (`Metrics`). Spans exist only when a collector is
configured.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from opentelemetry import trace
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from sqlalchemy import event

from resolvers.extensions import CORRELATION
from subgraphs.platform.domain import Caller

if TYPE_CHECKING:
    from subgraphs.platform.settings import Settings

LONGEST = 2_000
"""Characters of one logged value; what is longer is cut."""

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SLOW = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")


@dataclass(frozen=True, slots=True)
class Within:
    """What a line says about the request it was written in."""

    service: str
    trace: str = ""
    caller: Caller | None = None


WITHIN: ContextVar[Within | None] = ContextVar("within", default=None)


def trace_id(headers: Mapping[str, str]) -> str:
    """The trace id of a W3C `traceparent` header, or nothing."""
    found = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    return found[1] if found else ""


def _add_context(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    within = WITHIN.get()
    line.setdefault("service", within.service if within else "linkflow")
    if correlation := CORRELATION.get():
        line.setdefault("correlation_id", correlation)
    if within and within.trace:
        line.setdefault("trace_id", within.trace)
    if within and within.caller and not within.caller.anonymous:
        line.setdefault("user_id", str(within.caller.subject))
        line.setdefault("tenant", str(within.caller.tenant))
    return line


def _cut(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in line.items():
        if isinstance(value, str) and len(value) > LONGEST and name != "exception":
            line[name] = value[:LONGEST] + "…"
    return line


def configure_logs(settings: Settings) -> None:
    """Sends every log line of the process to stderr in one form. Called once, by the process that owns the stream."""
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_context,
        _cut,
    ]
    last: list[Any] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]  # no values of variables
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for noisy in ("httpx", "httpcore", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared[:1], *shared[2:], structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.log_level.upper())),
        cache_logger_on_first_use=False,
    )


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""What clients make up beside these shall not make series."""


class Metrics:
    """The families of one process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.http_requests = Counter(
            "http_requests", "HTTP requests answered.", ["service", "path", "method", "status"], registry=registry
        )
        self.http_seconds = Histogram(
            "http_request_duration_seconds", "Time to answer.", ["service", "path"], buckets=_FAST, registry=registry
        )
        self._answered: dict[tuple[str, str, str, int], tuple[Counter, Histogram]] = {}
        self._executions: dict[str, Counter] = {}
        self.usage = Gauge(
            "api_usage_by_endpoint",
            "GraphQL operations run, by root field.",
            ["service", "operation", "endpoint"],
            registry=registry,
        )
        self.executions = Counter(
            "workflow_executions", "Executions finished, by how they ended.", ["status"], registry=registry
        )
        self.success_rate = Gauge(
            "workflow_success_rate", "Share of finished executions that succeeded, 0 to 1.", registry=registry
        )
        self.execution_seconds = Histogram(
            "execution_duration_seconds", "From start to end of an execution.", buckets=_SLOW, registry=registry
        )
        self.active_users = Gauge(
            "active_users_count", "Different people who asked for something in five minutes.", registry=registry
        )
        self.connections = Gauge(
            "database_connections_active", "Database connections in use.", ["pool"], registry=registry
        )
        self.cache_hits = Gauge("cache_hit_ratio", "Hits among look-ups, 0 to 1.", ["cache"], registry=registry)
        self.queue_lag = Gauge(
            "message_queue_lag", "Events a consumer has not handled yet.", ["consumer"], registry=registry
        )
        for status in ("SUCCEEDED", "FAILED", "CANCELLED", "TIMED_OUT"):
            self.executions.labels(status)
        self._seen: dict[Any, float] = {}
        self.active_users.set_function(self._active)
        self._succeeded = self._finished = 0

    def saw(self, caller: Caller) -> None:
        if caller.subject is not None:
            self._seen[caller.subject] = time.monotonic()

    def answered(self, service: str, path: str, method: str, status: int, seconds: float) -> None:
        """Counts one HTTP request. The series are kept at hand: finding one by its labels costs more than counting."""
        key = (service, path, method if method in _METHODS else "other", status)
        series = self._answered.get(key)
        if series is None:
            counted = self.http_requests.labels(*key)
            series = self._answered[key] = (counted, self.http_seconds.labels(service, path))
        series[0].inc()
        series[1].observe(seconds)

    def finished(self, status: str, seconds: float) -> None:
        """Counts one finished execution; `status` as in the graph's ExecutionStatus."""
        self._finished += 1
        self._succeeded += status == "SUCCEEDED"
        series = self._executions.get(status)
        if series is None:
            series = self._executions[status] = self.executions.labels(status)
        series.inc()
        self.execution_seconds.observe(seconds)
        self.success_rate.set(self._succeeded / self._finished)

    def watch_cache(self, name: str, counts: Callable[[], tuple[int, int]]) -> None:
        """Registers a cache whose `counts()` are (hits, misses) since the process began."""

        def ratio() -> float:
            hits, misses = counts()
            return hits / (hits + misses) if hits + misses else 0.0

        self.cache_hits.labels(name).set_function(ratio)

    def rendered(self) -> bytes:
        """The exposition text, format 0.0.4."""
        return generate_latest(self.registry)

    def _active(self) -> float:
        since = time.monotonic() - 300
        self._seen = {subject: at for subject, at in self._seen.items() if at >= since}
        return float(len(self._seen))


class Telemetry:
    """What a process tells about itself; opened before everything else and closed last."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.tracer: trace.Tracer | None = None
        self._provider: Any = None

    def open(self) -> None:
        if not self.settings.otel_endpoint:
            return
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        exporter = OTLPSpanExporter(endpoint=f"{self.settings.otel_endpoint}/v1/traces")
        self._provider = TracerProvider(resource=Resource.create({"service.name": "linkflow"}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self.tracer = self._provider.get_tracer("linkflow")
        trace.set_tracer_provider(self._provider)

    def close(self) -> None:
        if self._provider is not None:
            self._provider.shutdown()

    def trace_statements(self, engine: Any) -> None:
        """A span per SQL statement of a SQLAlchemy engine, named by its first word; nothing when spans are off."""
        tracer = self.tracer
        if tracer is None:
            return

        def before(_connection: Any, _cursor: Any, statement: str, _words: Any, context: Any, _many: bool) -> None:
            name = f"sql {statement.lstrip()[:20].partition(' ')[0].lower()}"
            context.linkflow_span = tracer.start_span(name, attributes={"db.query.text": statement[:LONGEST]})

        def after(_connection: Any, _cursor: Any, _statement: str, _words: Any, context: Any, _many: bool) -> None:
            context.linkflow_span.end()

        event.listen(engine, "before_cursor_execute", before)
        event.listen(engine, "after_cursor_execute", after)

    @contextmanager
    def span(self, name: str, headers: Mapping[str, str] | None = None, **attributes: Any) -> Iterator[None]:
        """A span around the block, under the trace of `headers` if they carry one; nothing when spans are off."""
        if self.tracer is None:
            yield
            return
        from opentelemetry.propagate import extract

        parent = extract(dict(headers)) if headers else None
        with self.tracer.start_as_current_span(name, context=parent, attributes=attributes):
            yield
