"""Gateway, edge and (when APOLLO_ROUTER_BIN names one) Apollo Router over two sample subgraphs, each a process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from subgraphs.platform import programs
from subgraphs.platform.processes import spawn, stop
from subgraphs.platform.settings import Settings, key_file

CHECKOUT = Path(__file__).resolve().parents[2]
SAMPLE = Path(__file__).with_name("sample.py")
UPSTREAM_TIMEOUT = 1.6  # seconds: short, so that streams outlive it quickly
SUBGRAPHS = ("runs", "users")
JSON = {"content-type": "application/json"}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def token(subject: str, *, ends: float = 4e9) -> str:
    """An access token the sample's Auth takes: who, and until when."""
    return f"{quote(subject)}~{ends:.3f}"


@dataclass
class Rig:
    """What runs, where it listens, and how to talk to it."""

    folder: Path
    ports: dict[str, int]
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def url(self, part: str, path: str = "/graphql") -> str:
        return f"http://127.0.0.1:{self.ports[part]}{path}"

    @property
    def key(self) -> Path:
        return self.folder / "keys" / "gateway.key"

    def start(self, part: str, words: list[str], **environment: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LINKFLOW_", "RUST_"))}
        with (self.folder / f"{part}.log").open("ab") as log:
            self.children[part] = spawn(words, env={**kept, **environment}, cwd=CHECKOUT, output=log)

    def wait(self, part: str, url: str) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                if httpx.get(url).status_code < 500:
                    return
            except httpx.TransportError:
                pass
            process = self.children[part]
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{part} did not start:\n{(self.folder / f'{part}.log').read_text()}")
            time.sleep(0.05)

    def log(self, part: str) -> str:
        return (self.folder / f"{part}.log").read_text(errors="replace")

    def start_subgraph(self, name: str, part: str = "") -> None:
        part = part or name
        words = [sys.executable, str(SAMPLE), str(self.ports[part]), str(self.key), name]
        self.start(part, words, PYTHONPATH=str(CHECKOUT))

    def wait_subgraph(self, part: str) -> None:
        self.wait(part, self.url(part, "/counters"))

    def alive(self, part: str) -> bool:
        return part in self.children and self.children[part].poll() is None

    def kill(self, part: str) -> None:
        self.children[part].kill()
        self.children[part].wait()

    def start_gateway(self, part: str = "gateway", **changes: str) -> None:
        environment = {
            "LINKFLOW_HOME": str(self.folder),
            "LINKFLOW_GATEWAY_PORT": str(self.ports[part]),
            "LINKFLOW_SERVE_PORT": str(self.ports["runs"]),
            "LINKFLOW_CORS_ORIGINS": "https://console.example",
            "GATEWAY_SUPERGRAPH": str(self.folder / "supergraph.graphql"),
            "GATEWAY_SUBGRAPH_URLS": f'{{"users": "{self.url("users", "/users/graphql")}"}}',
            "GATEWAY_UPSTREAM_TIMEOUT_MS": str(int(UPSTREAM_TIMEOUT * 1000)),
            "GATEWAY_HEARTBEAT_MS": "300",
            "GATEWAY_RECHECK_MS": "100",
            "GATEWAY_REQUEST_TIMEOUT_MS": "2000",
        }
        self.start(part, [str(node()), "router/server.mjs"], **{**environment, **changes})

    def start_edge(self, part: str, query_pool: str) -> None:
        words = [str(programs.caddy()), "run", "--config", "router/Caddyfile", "--adapter", "caddyfile"]
        self.start(
            part,
            words,
            HOME=str(self.folder),
            XDG_DATA_HOME=str(self.folder),
            XDG_CONFIG_HOME=str(self.folder),
            LINKFLOW_PORT=str(self.ports[part]),
            LINKFLOW_GATEWAY_PORT=str(self.ports["gateway"]),
            LINKFLOW_SERVE_PORT=str(self.ports["runs"]),
            LINKFLOW_QUERY_POOL=f"127.0.0.1:{self.ports[query_pool]}",
            LINKFLOW_MAX_GRAPHQL_BYTES="300000",
            LINKFLOW_MAX_WEBHOOK_BYTES="200000",
        )

    def start_apollo(self, binary: str) -> None:
        words = [binary, "--config", "router/router.yaml", "--supergraph", str(self.folder / "supergraph.graphql")]
        self.start("apollo", words, **self.apollo_environment())

    def apollo_environment(self) -> dict[str, str]:
        return {
            "APOLLO_TELEMETRY_DISABLED": "true",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_REGION": "local",
            "ROUTER_GATEWAY_KEY": self.key.read_bytes().hex(),
            "ROUTER_LISTEN": f"127.0.0.1:{self.ports['apollo']}",
            "ROUTER_HEALTH_LISTEN": f"127.0.0.1:{self.ports['apollo-health']}",
            "ROUTER_METRICS_LISTEN": f"127.0.0.1:{self.ports['apollo-metrics']}",
            "ROUTER_UPSTREAM_TIMEOUT": f"{UPSTREAM_TIMEOUT}s",
        }

    def told(self, part: str = "runs") -> dict[str, Any]:
        """What the sample process of `part` counted and heard."""
        found: dict[str, Any] = httpx.get(self.url(part, "/counters")).json()
        return found

    def control(self, **words: Any) -> None:
        for name in SUBGRAPHS:
            httpx.post(self.url(name, "/control"), json=words).raise_for_status()

    def identity(self, subject: str) -> str:
        """The internal identity Auth makes for `subject`."""
        answer = httpx.get(self.url("runs", "/auth/identity"), headers={"authorization": f"Bearer {token(subject)}"})
        return answer.headers["x-linkflow-identity"]

    def stop(self) -> None:
        for part in reversed(list(self.children)):
            process = self.children[part]
            process.send_signal(signal.SIGCONT)
            stop(process, (signal.SIGTERM, 5.0))


def stop_part(rig: Rig, part: str) -> int:
    """End one child by SIGTERM; its exit code."""
    return stop(rig.children.pop(part), (signal.SIGTERM, 10.0))


def node() -> Path:
    return programs.node(Settings())


def compose(folder: Path, ports: dict[str, int]) -> None:
    subprocess.run(
        [sys.executable, str(SAMPLE), "0", str(folder), "sdl"],
        check=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    lines = ["federation_version: =2.14.4", "subgraphs:"]
    for name in SUBGRAPHS:
        url = f"http://127.0.0.1:{ports[name]}/{name}/graphql"
        lines.append(f'  {name}: {{routing_url: "{url}", schema: {{file: {name}.graphql}}}}')
    (folder / "rover.yaml").write_text("\n".join(lines))
    words = [str(node()), "router/compose.mjs", str(folder / "rover.yaml"), str(folder / "supergraph.graphql")]
    subprocess.run(words, check=True, cwd=CHECKOUT)


@pytest.fixture(scope="session")
def apollo_binary() -> str:
    binary = os.environ.get("APOLLO_ROUTER_BIN", "")
    if not binary:
        pytest.skip("APOLLO_ROUTER_BIN names no Apollo Router 2.17")
    assert shutil.which(binary), f"APOLLO_ROUTER_BIN={binary} is not a program"
    return binary


@pytest.fixture(scope="session")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Everything but Apollo Router, which `apollo` adds."""
    folder = tmp_path_factory.mktemp("router")
    names = ("runs", "users", "gateway", "edge", "apollo", "apollo-health", "apollo-metrics", "apollo-edge")
    found = Rig(folder, {name: free_port() for name in names})
    key_file(found.key)
    compose(folder, found.ports)
    try:
        for name in SUBGRAPHS:
            found.start_subgraph(name)
        found.start_gateway()
        found.start_edge("edge", "gateway")
        for name in SUBGRAPHS:
            found.wait_subgraph(name)
        found.wait("gateway", found.url("gateway", "/readiness"))
        found.wait("edge", found.url("edge", "/health/live"))
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="session")
def apollo(rig: Rig, apollo_binary: str) -> Rig:
    """The rig with Apollo Router as query pool behind an edge of its own."""
    rig.start_apollo(apollo_binary)
    rig.start_edge("apollo-edge", "apollo")
    rig.wait("apollo", rig.url("apollo-health", "/health?ready"))
    rig.wait("apollo-edge", rig.url("apollo-edge", "/health/live"))
    return rig


@pytest.fixture(params=["edge", "apollo-edge"])
def door(request: pytest.FixtureRequest, rig: Rig) -> str:
    """The part of the rig that clients talk to: an edge before Hive alone, and one before Apollo Router and Hive."""
    if request.param == "apollo-edge":
        request.getfixturevalue("apollo")
    return str(request.param)


@pytest.fixture
def mortal(rig: Rig) -> Rig:
    """A gateway of its own (`mortal-gateway`) over a `runs` of its own (`mortal`), which a test may kill."""
    for part in ("mortal", "mortal-gateway"):
        rig.ports.setdefault(part, free_port())
    if not rig.alive("mortal"):
        rig.start_subgraph("runs", "mortal")
    if not rig.alive("mortal-gateway"):
        urls = {"runs": rig.url("mortal", "/runs/graphql"), "users": rig.url("users", "/users/graphql")}
        rig.start_gateway("mortal-gateway", GATEWAY_SUBGRAPH_URLS=json.dumps(urls))
    rig.wait_subgraph("mortal")
    rig.wait("mortal-gateway", rig.url("mortal-gateway", "/readiness"))
    return rig


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30) as found:
        yield found


@pytest.fixture(autouse=True)
def fresh(rig: Rig) -> None:
    """Counters begin at nothing in every test."""
    rig.control(reset=True, identity=300)
