"""Every subgraph as a process of its own, on one database, behind one gateway.

The edge's part of a request (who asks, which path is whose) is done by a transport of the test's client, since each
process has an address of its own here; in a cluster the Ingress does it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from subgraphs.platform import programs
from subgraphs.platform.processes import spawn, stop
from subgraphs.platform.settings import Settings
from tests.conftest import free_port
from tests.journeys.person import Person

CHECKOUT = Path(__file__).resolve().parents[2]
SUBGRAPHS = ("auth", "user", "tenant", "workflow", "node", "execution", "executor", "webhook")
PATIENCE = 60.0


@dataclass
class Street:
    """The processes by name, each subgraph at a port of its own."""

    settings: Settings
    ports: dict[str, int]
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def gateway(self) -> str:
        return f"http://127.0.0.1:{self.settings.gateway_port}"

    def url(self, name: str, path: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}{path}"

    def serve(self, name: str) -> None:
        words = [sys.executable, "-m", "subgraphs.platform.cli", "serve", name, "--port", str(self.ports[name])]
        self._spawn(name, words, {})

    def start_gateway(self) -> None:
        urls = {name: self.url(name, f"/{name}/graphql") for name in SUBGRAPHS}
        environment = {
            **programs.node_environment(self.settings),
            "NODE_ENV": "production",
            "GATEWAY_SUBGRAPH_URLS": json.dumps(urls),
            "GATEWAY_IDENTITY_URL": self.url("auth", "/auth/identity"),
        }
        self._spawn("gateway", [str(programs.node(self.settings)), "router/server.mjs"], environment)

    def _spawn(self, name: str, words: list[str], more: dict[str, str]) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("LINKFLOW_")}
        environment = {**kept, **more, "PYTHONPATH": str(CHECKOUT), **self.settings.environment()}
        with self._log(name).open("ab") as output:
            self.children[name] = spawn(words, env=environment, cwd=CHECKOUT, output=output)

    def _log(self, name: str) -> Path:
        return self.settings.home / "logs" / f"{name}.log"

    def stop(self, name: str, sign: signal.Signals = signal.SIGTERM) -> None:
        stop(self.children.pop(name), (sign, 8.0))

    def stop_all(self) -> None:
        """Tells everybody first, then waits: they end side by side."""
        for child in self.children.values():
            child.terminate()
        for name in list(self.children):
            self.stop(name)

    def wait(self, name: str, url: str) -> None:
        deadline = time.monotonic() + PATIENCE
        why = "no answer"
        while self.children[name].poll() is None and time.monotonic() < deadline:
            try:
                answer = httpx.get(url, trust_env=False, timeout=5)
                if answer.status_code == 200:
                    return
                why = answer.text
            except httpx.TransportError as error:
                why = repr(error)
            time.sleep(0.1)
        raise RuntimeError(f"{name} is not ready: {why}\n{self._log(name).read_text(errors='replace')[-3_000:]}")

    def ready(self) -> None:
        for name in SUBGRAPHS:
            self.wait(name, self.url(name, "/health/ready"))
        self.wait("gateway", f"{self.gateway}/readiness")


class Edge(httpx.AsyncBaseTransport):
    """What the edge does: asks Auth who is calling, and sends each path where it belongs."""

    def __init__(self, street: Street) -> None:
        self._street = street
        self._inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        if path.startswith("/hooks/"):
            return await self._sent(request, self._street.url("webhook", f"/webhook{path}"))
        identity = await self._inner.handle_async_request(self._asking(request))
        await identity.aread()
        if identity.status_code != 200:
            return identity
        request.headers["x-linkflow-identity"] = identity.headers["x-linkflow-identity"]
        return await self._sent(request, f"{self._street.gateway}{path}")

    def _asking(self, request: httpx.Request) -> httpx.Request:
        kept = {name: request.headers[name] for name in ("authorization",) if name in request.headers}
        return httpx.Request("GET", self._street.url("auth", "/auth/identity"), headers=kept)

    async def _sent(self, request: httpx.Request, url: str) -> httpx.Response:
        request.url = httpx.URL(url)
        request.headers["host"] = request.url.netloc.decode()
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


@pytest.fixture(scope="module")
def street(fresh_settings: object) -> Iterator[Street]:
    """Eight subgraphs and a gateway, all started at the same time; on a database nobody has used."""
    ports = {name: free_port() for name in (*SUBGRAPHS, "target")}
    settings: Settings = asyncio.run(
        fresh_settings(  # type: ignore[operator]
            database_pool=3,
            jwks_url=f"http://127.0.0.1:{ports['auth']}/auth/jwks",
            executor_url=f"http://127.0.0.1:{ports['executor']}",
            egress_allow=(f"127.0.0.1:{ports['target']}",),
        )
    )
    found = Street(settings, ports)
    try:
        for name in SUBGRAPHS:
            found.serve(name)
        found.start_gateway()
        found.ready()
        yield found
    finally:
        found.stop_all()


@pytest.fixture
async def ada(street: Street) -> AsyncIterator[Person]:
    """Somebody who has just signed up."""
    async with httpx.AsyncClient(base_url=street.gateway, transport=Edge(street), timeout=30.0) as http:
        found = Person(street.gateway, http)
        await found.sign_up()
        yield found
