"""One process that serves subgraphs: what they share, how they are mounted, opened, checked and closed.

A subgraph's `service.build(ground)` returns a `Subgraph` and opens nothing. `application` mounts each at
`/NAME/graphql` and its other routes at `/NAME/…`, beside `/health/live`, `/health/ready` and `/metrics` (loopback).
The same object serves one subgraph or all of them.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from inspect import isfunction
from ipaddress import ip_address
from typing import Any, TypeGuard

import orjson
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from resolvers.extensions import CORRELATION
from resolvers.http import Endpoint
from resolvers.requests import Asked, Ran, Receive, Refusal, Scope, Send, correlated
from resolvers.schema import Graph
from subgraphs.platform.bus import Bus
from subgraphs.platform.database import Database
from subgraphs.platform.domain import Caller, Problem
from subgraphs.platform.hop import IDENTITY, HopGuard
from subgraphs.platform.leases import Leases
from subgraphs.platform.objects import Objects
from subgraphs.platform.security import Identities, SecretBox
from subgraphs.platform.settings import Settings
from subgraphs.platform.telemetry import WITHIN, Telemetry, Within, configure_logs, trace_id
from subgraphs.platform.writer import Writer

CHECK_SECONDS = 2.0
"""How long a readiness check may take before it counts as failed."""

log = logging.getLogger("linkflow.server")


@dataclass(slots=True)
class Ground:
    """What all subgraphs of a process stand on. `ports` binds one subgraph's offer to another's need, by name."""

    settings: Settings
    database: Database
    writer: Writer
    leases: Leases
    bus: Bus
    objects: Objects
    identities: Identities
    secrets: SecretBox
    telemetry: Telemetry
    hop: HopGuard
    ports: dict[str, Any] = field(default_factory=dict)
    subgraphs: list[Subgraph] = field(default_factory=list)
    opened: bool = False
    draining: bool = False
    on_drain: list[Callable[[], None]] = field(default_factory=list)

    def drain(self) -> None:
        """The process was told to end: it is not ready any more, takes no new work, and hands back what it owns."""
        if not self.draining:
            self.draining = True
            for begin in self.on_drain:
                begin()


@dataclass(frozen=True, slots=True)
class Incoming:
    """The request an operation belongs to, for contexts that need more than the caller."""

    headers: Mapping[str, str]
    correlation: str


Check = tuple[str, Callable[[], Awaitable[None]]]


@dataclass(slots=True)
class Subgraph:
    """One subgraph, wired. `context(caller, incoming)` makes what its resolvers get, anew for each operation.

    `ready` checks raise when something is missing; their names are shown to operators.
    """

    name: str
    schema: Graph
    context: Callable[[Caller, Incoming], Any]
    routes: list[BaseRoute] = field(default_factory=list)
    start: Callable[[], Awaitable[None]] | None = None
    stop: Callable[[], Awaitable[None]] | None = None
    ready: list[Check] = field(default_factory=list)


Build = Callable[[Ground], Subgraph]


def ground_of(settings: Settings) -> Ground:
    """The ground for these settings; opens nothing, makes key files that are missing."""
    database = Database(settings)
    writer = Writer(database, settings)
    leases = Leases(database, writer, settings)
    database.reach.changed.append(writer.reach)
    return Ground(
        settings=settings,
        database=database,
        writer=writer,
        leases=leases,
        bus=Bus(database, writer, leases, settings),
        objects=Objects(settings, database),
        identities=Identities(settings),
        secrets=SecretBox.from_settings(settings),
        telemetry=Telemetry(settings),
        hop=HopGuard.from_settings(settings),
    )


@asynccontextmanager
async def running(ground: Ground, subgraphs: Sequence[Subgraph]) -> AsyncIterator[None]:
    """Opens everything in order, the bus last (it starts consumers and claims partitions); closes in reverse."""
    async with AsyncExitStack() as stack:
        ground.telemetry.open()
        stack.callback(ground.telemetry.close)
        for resource in (ground.database, ground.writer, ground.leases, ground.objects, ground.identities):
            await resource.open()
            stack.push_async_callback(resource.close)
        ground.telemetry.trace_statements(ground.database.api.sync_engine)
        for subgraph in subgraphs:
            if subgraph.stop:
                stack.push_async_callback(subgraph.stop)
            if subgraph.start:
                await subgraph.start()
        await ground.bus.open()
        stack.push_async_callback(ground.bus.close)
        ground.opened = True
        try:
            yield
        finally:
            ground.opened = False


@asynccontextmanager
async def ground_opened(settings: Settings, subgraphs: Sequence[Build] = ()) -> AsyncIterator[Ground]:
    """An opened ground with these subgraphs built on it (`ground.subgraphs`), for tools and tests."""
    ground = ground_of(settings)
    ground.subgraphs = [build(ground) for build in subgraphs]
    async with running(ground, ground.subgraphs):
        yield ground


class RouterDoor:
    """Lets in what came through the router and carries an identity by Auth; nothing else is believed."""

    def __init__(self, ground: Ground, subgraph: Subgraph) -> None:
        self.ground = ground
        self.subgraph = subgraph

    async def admit(self, asked: Asked) -> Any:
        try:
            self.ground.hop.check(asked.headers, asked.body, method=asked.method, path=asked.path, query=asked.query)
            caller = await self.caller(asked.headers.get(IDENTITY))
        except Problem as problem:
            raise _unauthenticated(problem) from None
        WITHIN.set(Within(self.subgraph.name, trace_id(asked.headers), caller))
        return self.subgraph.context(caller, Incoming(asked.headers, CORRELATION.get() or ""))

    async def admit_socket(self, path: str, payload: Mapping[str, Any]) -> tuple[Callable[[], Any], frozenset[str]]:
        nested = payload.get("connectionParams")
        told = nested if isinstance(nested, dict) and "hop" not in payload else payload
        try:
            self.ground.hop.check_socket(told, path=path)
            token = told.get("identity")
            caller = await self.caller(token if isinstance(token, str) else None)
        except Problem as problem:
            raise _unauthenticated(problem) from None

        def context() -> Any:
            WITHIN.set(Within(self.subgraph.name, "", caller))
            return self.subgraph.context(caller, Incoming({}, CORRELATION.get() or ""))

        return context, frozenset({"query", "mutation", "subscription"})

    async def caller(self, token: str | None) -> Caller:
        if not token:
            raise Refusal(401, "identity_missing", "The request carries no identity.", close=4401)
        caller = await self.ground.identities.caller(token)
        self.ground.telemetry.metrics.saw(caller)
        return caller


def _unauthenticated(problem: Problem) -> Refusal:
    return Refusal(401, problem.code, problem.message, close=4401, next_step=problem.next_step)


class Served(Starlette):
    """The application: GraphQL paths are dispatched directly, the rest is Starlette's; every answer is measured."""

    def __init__(self, ground: Ground, subgraphs: Sequence[Subgraph], **words: Any) -> None:
        super().__init__(**words)
        self.ground = ground
        self.endpoints = {
            f"/{subgraph.name}/graphql": (
                subgraph.name,
                Endpoint(
                    subgraph.schema,
                    RouterDoor(ground, subgraph),
                    max_bytes=ground.settings.max_graphql_bytes,
                    watch=_watch(ground.telemetry, subgraph.name),
                    span=ground.telemetry.span,
                ),
            )
            for subgraph in subgraphs
        }
        self.known = {f"/{s.name}{_first(route)}": s.name for s in subgraphs for route in s.routes}
        self.direct = {f"/{s.name}{_first(route)}": route.app for s in subgraphs for route in s.routes if _whole(route)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await super().__call__(scope, receive, send)
            return
        name, endpoint = self.endpoints.get(scope["path"], (None, None))
        if kind == "websocket":
            if endpoint is None:
                await send({"type": "websocket.close", "code": 4404})
            else:
                await endpoint(scope, receive, send)
            return
        await self.measured(scope, receive, send, name, endpoint)

    async def measured(
        self, scope: Scope, receive: Receive, send: Send, name: str | None, endpoint: Endpoint | None
    ) -> None:
        started, status = time.perf_counter(), 500
        parts = scope["path"].split("/")
        label = scope["path"] if endpoint else "/".join(parts[:3])
        service = name or self.known.get(label, "linkflow")

        async def watched(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if endpoint is not None:
                await endpoint(scope, receive, watched)
            else:
                headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
                correlated(headers)
                WITHIN.set(Within(service, trace_id(headers)))
                await self.direct.get(label, super().__call__)(scope, receive, watched)
        finally:
            path = label if endpoint or label in self.known or label in _OWN else "other"
            spent = time.perf_counter() - started
            self.ground.telemetry.metrics.answered(service, path, scope["method"], status, spent)


_OWN = frozenset({"/health/live", "/health/ready", "/metrics"})


def _whole(route: BaseRoute) -> TypeGuard[Route]:
    """Whether an ASGI application answers whatever lies under the route's first word, so that no router need look."""
    whole = isinstance(route, Route) and route.path == f"{_first(route)}/{{path:path}}"
    return whole and not isfunction(getattr(route, "endpoint", None))


def _first(route: BaseRoute) -> str:
    path = getattr(route, "path", "")
    return "/".join(path.split("/")[:2])


def _watch(telemetry: Telemetry, name: str) -> Callable[[Ran], None]:
    def watch(ran: Ran) -> None:
        telemetry.metrics.usage.labels(name, ran.kind, ran.root).inc()
        log.debug(
            "operation", extra={"kind": ran.kind, "root": ran.root, "operation": ran.name, "seconds": ran.seconds}
        )

    return watch


def _watch_documents(telemetry: Telemetry, subgraph: Subgraph) -> None:
    kept = subgraph.schema.preparing
    telemetry.metrics.watch_cache(f"{subgraph.name}.documents", lambda: (kept.hits, kept.misses))


def settle_heap() -> None:
    """What the start left lives as long as the process: the garbage collector need not walk it again and again, nor
    look at every 700 new objects of requests that free themselves by reference counts."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def application(ground: Ground, subgraphs: Sequence[Subgraph], *, doors: bool = True) -> Served:
    """The ASGI application of these subgraphs. Its lifespan opens the ground unless that is open already. Without
    `doors` they work, and nobody can ask them anything but their health."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        if ground.opened:
            yield
            return
        configure_logs(ground.settings)
        async with running(ground, subgraphs):
            settle_heap()
            yield

    async def live(_request: Request) -> Response:
        return _json({"status": "live"})

    async def ready(_request: Request) -> Response:
        failed = await _failing(ground, subgraphs)
        status = "ready" if not failed else "not ready"
        return _json({"status": status, "failed": failed}, 503 if failed else 200)

    async def metrics(request: Request) -> Response:
        if not _from_this_machine(request):
            return _json({"code": "not_found", "title": "There is nothing here."}, 404)
        await _measure(ground)
        return Response(ground.telemetry.metrics.rendered(), media_type="text/plain; version=0.0.4; charset=utf-8")

    routes: list[BaseRoute] = [
        Route("/health/live", live),
        Route("/health/ready", ready),
        Route("/metrics", metrics),
        *(Mount(f"/{subgraph.name}", routes=subgraph.routes) for subgraph in subgraphs if subgraph.routes and doors),
    ]
    ground.subgraphs = list(subgraphs)
    for subgraph in subgraphs:
        _watch_documents(ground.telemetry, subgraph)
    identities = ground.identities
    ground.telemetry.metrics.watch_cache("identities", lambda: (identities.hits, identities.misses))
    return Served(ground, subgraphs if doors else (), routes=routes, lifespan=lifespan)


async def _failing(ground: Ground, subgraphs: Sequence[Subgraph]) -> dict[str, str]:
    """What keeps the process from being ready, by name of the check."""
    checks: list[Check] = [("database", lambda: _database_answers(ground))]
    checks += [(f"{s.name}: {what}", check) for s in subgraphs for what, check in s.ready]
    outcomes = await asyncio.gather(*(_outcome(check) for _, check in checks))
    failed = {name: why for (name, _), why in zip(checks, outcomes, strict=True) if why}
    if ground.draining:
        failed["process"] = "It was told to stop."
    return failed


async def _database_answers(ground: Ground) -> None:
    async with ground.database.read(None) as reading:
        await reading.scalar(text("select 1"))


async def _outcome(check: Callable[[], Awaitable[None]]) -> str:
    """Why the check failed, or nothing."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except Problem as problem:
        return problem.message
    except Exception as error:  # the boundary of a check: it is logged, and shown by its kind only
        log.warning("not ready", exc_info=error)
        return f"{type(error).__name__} (see the log)"
    return ""


def _from_this_machine(request: Request) -> bool:
    """Whether the peer is on loopback and did not come through a proxy."""
    if request.client is None or "x-forwarded-for" in request.headers or "forwarded" in request.headers:
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False


async def _measure(ground: Ground) -> None:
    """Reads what is known only at scrape time."""
    connections = ground.telemetry.metrics.connections
    connections.labels("api").set(ground.database.api.pool.checkedout())  # type: ignore[attr-defined]
    pool = ground.database.engine
    connections.labels("engine").set(pool.get_size() - pool.get_idle_size())
    for consumer, lag in (await ground.bus.lags()).items():
        ground.telemetry.metrics.queue_lag.labels(consumer).set(lag)


def _json(body: Mapping[str, Any], status: int = 200) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(orjson.dumps(body), status_code=status, media_type="application/json", headers=headers)
