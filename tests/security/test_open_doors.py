"""What answers without a token is exactly what is listed here, at the public address and on every inner port.

The addresses to try are read from the edge's configuration and from the application's own routes. A door that is new
or that answers otherwise fails here, and whoever opens it adds it to the list for review.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import httpx
import pytest
from starlette.routing import Mount, Route

from subgraphs.platform.cli import subgraph_names
from subgraphs.platform.server import Served, application, ground_of
from subgraphs.platform.settings import Settings
from tests.journeys.conftest import House

CADDYFILE = Path(__file__).resolve().parents[2] / "router" / "Caddyfile"
ID = "01a20f66-813a-78ce-8a5e-000000000000"
ELSEWHERE = (
    "/", "/metrics", "/readiness", "/healthcheck", "/debug/pprof/", "/admin", "/config/", "/openapi.json", "/docs",
    "/playground", "/console", "/voyager", "/altair", "/sandbox", "/graphql/", "/GraphQL", "/graphql/schema.json",
    "/.env", "/.git/config", "/server-status", "/graphiql/lib/", "/graphiql/lib/../../package.json",
    "/graphiql/../Caddyfile", "/graphiql/lib/%2e%2e/server.mjs", "//graphql", "/hooks",
)  # fmt: skip
"""Where other products keep a door open, and ways around our own."""

EDGE = {
    "GET /": 302,  # to the page
    "GET /.well-known/jwks.json": 200,  # the keys that tokens are checked with
    "POST /.well-known/jwks.json": 405,
    "GET /executions/ID/status": 404,  # needs the sealed link of the call
    "POST /executions/ID/status": 405,
    "GET /graphiql": 200,  # the page; it can do no more than its visitor
    "POST /graphiql": 405,
    "GET /graphiql/": 200,
    "POST /graphiql/": 405,
    "GET /graphiql/lib/graphiql.css": 200,
    "POST /graphiql/lib/graphiql.css": 405,
    "GET /graphiql/lib/graphiql.js": 200,
    "POST /graphiql/lib/graphiql.js": 405,
    "GET /graphiql/lib/graphql-ws.js": 200,
    "POST /graphiql/lib/graphql-ws.js": 405,
    "GET /graphiql/lib/react-dom.js": 200,
    "POST /graphiql/lib/react-dom.js": 405,
    "GET /graphiql/lib/react.js": 200,
    "POST /graphiql/lib/react.js": 405,
    "GET /graphiql/logo.svg": 200,
    "POST /graphiql/logo.svg": 405,
    "GET /graphiql/page.css": 200,
    "POST /graphiql/page.css": 405,
    "GET /graphiql/page.js": 200,
    "POST /graphiql/page.js": 405,
    "GET /graphql": 400,  # needs a header that no page of another site can send
    "POST /graphql": 200,  # as nobody: signing up, logging in, asking what roles there are
    "GET /health": 404,
    "POST /health": 404,
    "GET /health/live": 200,  # whether it lives, and whether it is ready
    "POST /health/live": 405,
    "GET /health/ready": 200,
    "POST /health/ready": 405,
    "GET /hooks/x": 404,  # nobody's hook
    "POST /hooks/x": 404,
    "GET /oauth/x": 404,
    "POST /oauth/x": 404,
}
"""Method and path → status. Everything else at the public address is 404."""

SERVE = {
    "GET /auth/identity": 200,  # the identity of nobody, for nobody
    "POST /auth/identity": 405,
    "GET /auth/jwks": 200,
    "POST /auth/jwks": 405,
    "GET /executor/steps": 405,
    "POST /executor/steps": 401,  # for processes that hold the key of the hop
    "GET /executor/probes": 405,
    "POST /executor/probes": 401,  # likewise
    "GET /health/live": 200,
    "POST /health/live": 405,
    "GET /health/ready": 200,
    "POST /health/ready": 405,
    "GET /metrics": 200,  # this port is bound to loopback, and what comes through a proxy gets 404
    "POST /metrics": 405,
    "GET /webhook/executions/ID/status": 404,
    "POST /webhook/executions/ID/status": 405,
    "GET /webhook/hooks/x": 404,
    "POST /webhook/hooks/x": 404,
    **{f"GET /{name}/graphql": 403 for name in subgraph_names()},
    **{f"POST /{name}/graphql": 401 for name in subgraph_names()},
}
"""The same for the port that the subgraphs share, which the router and the edge call."""


@pytest.fixture(scope="module")
def served(settings: Settings) -> Served:
    """The application whose routes are read; it is not opened."""
    ground = ground_of(settings)
    builds = [import_module(f"subgraphs.{name}.service").build for name in subgraph_names()]
    return application(ground, [build(ground) for build in builds])


def inner(served: Served) -> list[str]:
    """Every path of the application, with something in place of its parameters."""
    found = list(served.endpoints)
    for route in served.routes:
        if isinstance(route, Mount):
            found += [route.path + below.path for below in route.routes or () if isinstance(below, Route)]
        elif isinstance(route, Route):
            found.append(route.path)
    assert len(found) >= 8
    return [re.sub(r"\{path[^}]*\}", "x", path).replace("{execution}", ID) for path in found]


def outer() -> list[str]:
    """Every path that the edge's configuration names."""
    text = CADDYFILE.read_text()
    matched = re.findall(r"^\s*(?:@\w+ path|path|handle|rewrite) (/.*?)(?: \{)?$", text, re.MULTILINE)
    words = [word for line in matched for word in line.split() if word.startswith("/")]
    expressions = re.findall(r"path_regexp \^(/[^$]*)\$", text)
    assert len(words) > 12
    assert expressions, "the pattern of status links is gone: adapt this reader"
    paths = [re.sub(r"\[[^\]]*\]\{36\}", ID, one) for one in expressions]
    return sorted({word.replace("*", "x") for word in words} | set(paths))


async def crawled(origin: str, paths: list[str]) -> dict[str, int]:
    found = {}
    async with httpx.AsyncClient(base_url=origin, timeout=20, trust_env=False) as client:
        for path in dict.fromkeys(paths):
            for method in ("GET", "POST"):
                words = {"json": {"query": "{ __typename }"}} if method == "POST" else {}
                answer = await client.request(method, httpx.URL(origin + path), **words)  # type: ignore[arg-type]
                assert "set-cookie" not in answer.headers, path
                found[f"{method} {path.replace(ID, 'ID')}"] = answer.status_code
    return found


@pytest.mark.shows("W09")
async def test_the_public_address_opens_just_these_doors(house: House, served: Served) -> None:
    found = await crawled(house.origin("hive"), [*outer(), *inner(served), *ELSEWHERE])
    listed = {door: status for door, status in found.items() if status != 404 or door in EDGE}
    print(f"\n{len(found)} doors tried, {sum(status < 400 for status in found.values())} open")
    assert listed == EDGE


@pytest.mark.shows("W09")
async def test_the_inner_port_opens_just_these(house: House, served: Served) -> None:
    origin = f"http://127.0.0.1:{house.ports['serve_port']}"
    found = await crawled(origin, [*inner(served), *outer(), *ELSEWHERE])
    listed = {door: status for door, status in found.items() if status != 404 or door in SERVE}
    assert listed == SERVE


@pytest.mark.shows("W09")
async def test_the_gateways_port_opens_just_these(house: House, served: Served) -> None:
    origin = f"http://127.0.0.1:{house.ports['gateway_port']}"
    found = await crawled(origin, [*inner(served), *outer(), *ELSEWHERE])
    listed = {door: status for door, status in found.items() if status != 404}
    assert listed == {
        "GET /graphql": 400,
        "POST /graphql": 401,
        "GET /healthcheck": 200,
        "POST /healthcheck": 200,
        "GET /metrics": 200,
        "POST /metrics": 200,
        "GET /readiness": 200,
        "POST /readiness": 200,
    }


async def test_metrics_are_not_told_to_who_comes_through_a_proxy(house: House) -> None:
    origin = f"http://127.0.0.1:{house.ports['serve_port']}"
    async with httpx.AsyncClient(base_url=origin, trust_env=False) as client:
        for headers in ({"x-forwarded-for": "127.0.0.1"}, {"forwarded": "for=127.0.0.1"}):
            assert (await client.get("/metrics", headers=headers)).status_code == 404
