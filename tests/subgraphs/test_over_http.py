"""Every subgraph over real sockets: the graphql-http audits, graphql-transport-ws, and what is refused at the door."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import websockets
from websockets.typing import Subprotocol

from subgraphs.platform import programs
from subgraphs.platform.cli import subgraph_names
from subgraphs.platform.settings import Settings
from tests.subgraphs.graph_client import Client
from tests.subgraphs.listening import listening

NAMES = subgraph_names()
AUDIT = Path(__file__).with_name("audit.mjs")
MODULES = programs.ROUTER / "node_modules" / "graphql-http"


@pytest.fixture(scope="module")
async def client(settings: Settings) -> AsyncIterator[Client]:
    builds = [import_module(f"subgraphs.{name}.service").build for name in NAMES]
    async with listening(settings, builds) as made:
        yield made


@pytest.mark.parametrize("name", NAMES)
async def test_all_audits_of_graphql_http_hold(client: Client, name: str) -> None:
    assert MODULES.exists(), "the gateway's packages are not installed: run `make`"
    settings = client.ground.settings
    identity = (await client.identity()).headers["x-linkflow-identity"]
    url = f"http://127.0.0.1:{settings.serve_port}/{name}/graphql"
    words = [str(programs.node(settings)), str(AUDIT), url, identity, str(settings.gateway_secret_file)]
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    told, _ = await process.communicate()
    found = json.loads(told)
    assert found["failed"] == []
    assert found["ok"] == 61


async def connected(client: Client, name: str, **init: Any) -> websockets.ClientConnection:
    url = f"ws://127.0.0.1:{client.ground.settings.serve_port}/{name}/graphql"
    socket = await websockets.connect(url, subprotocols=[Subprotocol("graphql-transport-ws")])
    await socket.send(json.dumps({"type": "connection_init", "payload": init}))
    return socket


async def admitted(client: Client, name: str) -> dict[str, str]:
    identity = (await client.identity()).headers["x-linkflow-identity"]
    return {"identity": identity, "hop": client.ground.hop.proof("WS", f"/{name}/graphql", b"", identity)}


async def test_a_socket_needs_identity_and_proof(client: Client) -> None:
    good = await admitted(client, "user")
    other = await admitted(client, "tenant")
    for init in (
        {},
        {"identity": good["identity"]},
        {"hop": good["hop"]},
        good | {"hop": other["hop"]},
        good | {"identity": "x.y.z"},
    ):
        async with await connected(client, "user", **init) as socket:
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4401


async def test_an_admitted_socket_answers_as_its_identity(client: Client) -> None:
    for init in (await admitted(client, "user"), {"connectionParams": await admitted(client, "user")}):
        async with await connected(client, "user", **init) as socket:
            assert json.loads(await socket.recv()) == {"type": "connection_ack"}
            await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": "{ me { id } }"}}))
            assert json.loads(await socket.recv()) == {"id": "1", "type": "next", "payload": {"data": {"me": None}}}
            assert json.loads(await socket.recv()) == {"id": "1", "type": "complete"}


async def test_nothing_is_served_without_identity_and_proof(client: Client) -> None:
    body = b'{"query": "{ __typename }"}'
    for name in NAMES:
        path = f"/{name}/graphql"
        good = await client.headers(path, body)
        cases = {
            "identity_missing": {
                "x-linkflow-identity": "",
                "x-linkflow-hop": client.ground.hop.proof("POST", path, body, ""),
            },
            "hop_refused": {"x-linkflow-hop": ""},
            "token_malformed": {
                "x-linkflow-identity": "a.b.c",
                "x-linkflow-hop": client.ground.hop.proof("POST", path, body, "a.b.c"),
            },
        }
        for code, changes in cases.items():
            answer = await client.http.post(path, content=body, headers=good | changes)
            assert (answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) == (401, code), (
                name,
                answer.text,
            )
        assert (await client.http.post(path, content=body + b" ", headers=good)).status_code == 401
        assert (await client.http.post(path, content=body, headers=good)).json() == {"data": {"__typename": "Query"}}


async def test_metrics_have_the_names_operators_know_and_stay_on_this_machine(client: Client) -> None:
    assert (await client.http.get("/health/live")).json() == {"status": "live"}
    assert (await client.http.get("/metrics", headers={"x-forwarded-for": "203.0.113.9"})).status_code == 404
    await client.ask("user", "{ me { id } }")
    text = (await client.http.get("/metrics")).text
    for name in (
        "http_requests_total",
        "http_request_duration_seconds_count",
        "database_connections_active",
        "cache_hit_ratio",
        "message_queue_lag",
        "workflow_executions",
        "workflow_success_rate",
        "execution_duration_seconds",
        "active_users_count",
        "api_usage_by_endpoint",
    ):
        assert f"\n{name}" in text, name
