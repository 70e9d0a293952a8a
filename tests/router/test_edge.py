"""The edge: which address goes where, what never gets through, how large and how slow a request may be."""

from __future__ import annotations

import asyncio
import json
import re
import time

import httpx
import pytest

from tests.router.clients import bearer
from tests.router.conftest import CHECKOUT, Rig, token

RUN = "0192f0c1-2345-7abc-8def-0123456789ab"
ROUTES = {
    "/hooks/abc": "/webhook/hooks/abc",
    "/hooks/abc/def?x=1": "/webhook/hooks/abc/def",
    "/resume/abc": "/execution/resume/abc",
    f"/executions/{RUN}/status": f"/webhook/executions/{RUN}/status",
    "/oauth/token": "/auth/oauth/token",
    "/.well-known/jwks.json": "/auth/jwks",
    "/health/live": "/health/live",
    "/health/ready": "/health/ready",
}
INSIDE = (
    "/auth/identity /auth/jwks /auth/graphql /workflow/graphql /runs/graphql /metrics /health/metrics /hooks "
    "/executions/x/status /webhook/hooks/abc /config/ /readiness /healthcheck /graphql/ /graphql/x "
    "/graphiql/lib/package.json /graphiql/lib/ /graphiql/index.html /.env /router.yaml /graphiql/../router.yaml "
    "/graphiql/lib/..%2f..%2fpackage.json /graphiql/page.js/x /control /counters //auth/identity "
    "/hooks/../auth/identity /hooks/..%2fauth/identity /oauth/../identity /oauth/..%2fidentity"
).split()
CLOSED = [*INSIDE, f"/executions/{RUN}"]


@pytest.mark.parametrize(("asked", "arrived"), ROUTES.items())
async def test_public_addresses_go_to_who_owns_them(
    rig: Rig, client: httpx.AsyncClient, asked: str, arrived: str
) -> None:
    answer = await client.get(rig.url("edge", asked))
    assert answer.json()["path"] == arrived


async def raw_get(rig: Rig, path: str) -> tuple[int, str]:
    """A GET of exactly this path: clients tidy dots away before they send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.ports["edge"])
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    await writer.drain()
    text = (await reader.read()).decode(errors="replace")
    writer.close()
    return int(text.split()[1]), text


@pytest.mark.parametrize("path", CLOSED)
async def test_everything_else_is_closed(rig: Rig, path: str) -> None:
    status, text = await raw_get(rig, path)
    if '"path"' in text:  # it reached the subgraphs' process, under the prefix of the route that it matches
        assert re.search(r'"path":"/(webhook/hooks|auth/oauth)/[^"]*\.\./', text) is None, text
        assert re.search(r'"path":"/(webhook/hooks|auth/oauth)/', text), text
    else:
        assert status in {400, 404}, text
    assert "x-linkflow-identity" not in text.lower()


async def test_a_404_is_json_and_names_no_program(rig: Rig, client: httpx.AsyncClient) -> None:
    answer = await client.get(rig.url("edge", "/nothing"))
    assert (answer.status_code, answer.json()["code"]) == (404, "edge_404")
    for text in (str(answer.headers), str((await client.get(rig.url("edge", "/health/live"))).headers)):
        assert "caddy" not in text.lower()


async def test_a_webhook_keeps_its_own_headers_and_loses_ours(rig: Rig, client: httpx.AsyncClient) -> None:
    sent = {
        "x-github-event": "push",
        "x-hub-signature-256": "sha256=00",
        "x-linkflow-identity": "forged",
        "x-forwarded-for": "10.0.0.1",
        "x-user-id": "theirs",
    }
    answer = await client.post(rig.url("edge", "/hooks/abc"), content=b"{}", headers=sent)
    headers = answer.json()["headers"]
    assert (headers["x-github-event"], headers["x-hub-signature-256"], headers["x-user-id"]) == (
        "push",
        "sha256=00",
        "theirs",
    )
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert "x-linkflow-identity" not in headers


@pytest.mark.shows("GW-10")
@pytest.mark.parametrize(("size", "status"), [(199_000, 200), (201_000, 413)])
async def test_a_webhook_may_be_so_large(rig: Rig, client: httpx.AsyncClient, size: int, status: int) -> None:
    answer = await client.post(rig.url("edge", "/hooks/abc"), content=b"x" * size)
    assert answer.status_code == status
    if status == 413:
        assert answer.json()["nextStep"] == "Send at most 200000 bytes."


@pytest.mark.parametrize(
    ("connection", "upgrade"),
    [("Upgrade", "websocket"), ("upgrade", "websocket"), ("keep-alive, UPGRADE", "WebSocket")],
)
async def test_a_socket_is_asked_for_in_any_case_of_letters(rig: Rig, connection: str, upgrade: str) -> None:
    """Both are case-insensitive (RFC 9110); browsers write `Upgrade`, the WebSocket of Node.js `upgrade`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.ports["edge"])
    head = f"GET /graphql HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\nUpgrade: {upgrade}\r\n"
    head += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    writer.write((head + "Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n").encode())
    async with asyncio.timeout(30):
        assert (await reader.readline()).split()[1] == b"101"
    writer.close()


async def test_slow_heads_are_cut(rig: Rig) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.ports["edge"])
    writer.write(b"POST /graphql HTTP/1.1\r\nHost: localhost\r\n")
    started = time.monotonic()
    async with asyncio.timeout(30):
        await reader.read()  # the edge answers or closes; a reader that gets nothing waits until the timeout
    assert time.monotonic() - started < 25
    writer.close()


async def test_slow_bodies_are_cut(rig: Rig) -> None:
    """By the gateway, which reads them; the edge only passes bodies on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.ports["gateway"])
    head = "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
    head += f"X-Linkflow-Identity: {rig.identity('ann')}\r\n\r\n"
    writer.write(head.encode() + b'{"que')
    async with asyncio.timeout(30):
        assert (await reader.readline()).split()[1] == b"408"
    writer.close()


async def test_the_edge_offers_no_admin_and_calls_nobody() -> None:
    text = (CHECKOUT / "router" / "Caddyfile").read_text()
    for setting in ("admin off", "auto_https off", "persist_config off"):
        assert setting in text


@pytest.mark.shows("GW-10")
async def test_large_headers_are_refused(rig: Rig, client: httpx.AsyncClient) -> None:
    answer = await client.post(rig.url("edge"), json={}, headers=bearer(token("ann")) | {"x-large": "y" * 60_000})
    assert answer.status_code == 431


async def test_subscriptions_go_to_the_live_pool_and_the_rest_to_the_query_pool(
    apollo: Rig, client: httpx.AsyncClient
) -> None:
    url, ann = apollo.url("apollo-edge"), bearer(token("ann"))
    await client.post(url, json={"query": "{ caller }"}, headers=ann)
    assert "authorization" in apollo.told()["heard"][-1]["headers"]  # Apollo's signature of the hop
    body = {"query": "subscription { ticks(count: 1) { seq } }"}
    answer = await client.post(url, json=body, headers=ann | {"accept": "text/event-stream"})
    assert '"seq":1' in answer.text
    refused = await client.post(url, json=body, headers=ann)
    assert "SUBSCRIPTION" in json.dumps(refused.json())
