"""The whole of LinkFlow, started as `linkflow dev` starts it, once for all journeys; and who uses it.

Every journey goes through the edge: once with the gateway answering everything, and once more, when APOLLO_ROUTER_BIN
names an Apollo Router, with that answering queries and mutations.
"""

from __future__ import annotations

import os
import shutil
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
from tests.conftest import free_port
from tests.journeys.person import Person

CHECKOUT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0


@dataclass
class House:
    """The running parts, by name, and the public origins: one for each query pool."""

    home: Path
    ports: dict[str, int]
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def origin(self, pool: str) -> str:
        return f"http://127.0.0.1:{self.ports['port' if pool == 'hive' else 'apollo-edge']}"

    def start(self, name: str, words: list[str], **environment: str) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("LINKFLOW_", "RUST_"))}
        with (self.home / f"{name}.out").open("ab") as output:
            # SIGTERM, so that a launcher whose test run is killed ends its own children.
            self.children[name] = spawn(
                words, env={**kept, **environment}, cwd=CHECKOUT, output=output, on_parent_death=signal.SIGTERM
            )

    def wait(self, name: str, url: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if httpx.get(url, trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            if self.children[name].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start:\n{self.told(name)}")
            time.sleep(0.1)

    def told(self, name: str) -> str:
        """The end of what a part and the launcher's parts wrote."""
        logs = [self.home / f"{name}.out", *sorted((self.home / "logs").glob("*.log"))]
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-2_000:]}" for path in logs if path.exists()
        )

    def environment(self) -> dict[str, str]:
        ports = {f"LINKFLOW_{name.upper()}": str(self.ports[name]) for name in ("port", "gateway_port", "serve_port")}
        return {**ports, "LINKFLOW_HOME": str(self.home), "LINKFLOW_EGRESS_ALLOW": f"127.0.0.1:{self.ports['target']}"}

    def start_linkflow(self) -> None:
        words = [sys.executable, "-m", "subgraphs.platform.cli", "dev", "--no-demo", "--json"]
        self.start("linkflow", words, **self.environment())
        self.wait("linkflow", f"{self.origin('hive')}/health/ready")

    def start_apollo(self, binary: str) -> None:
        words = [binary, "--config", "router/router.yaml", "--supergraph", "supergraph/supergraph.graphql"]
        self.start(
            "apollo",
            words,
            APOLLO_TELEMETRY_DISABLED="true",
            AWS_EC2_METADATA_DISABLED="true",
            AWS_REGION="local",
            ROUTER_GATEWAY_KEY=(self.home / "keys" / "gateway.key").read_bytes().hex(),
            ROUTER_SERVE_URL=f"http://127.0.0.1:{self.ports['serve_port']}",
            ROUTER_LISTEN=f"127.0.0.1:{self.ports['apollo']}",
            ROUTER_HEALTH_LISTEN=f"127.0.0.1:{self.ports['apollo-health']}",
            ROUTER_METRICS_LISTEN=f"127.0.0.1:{self.ports['apollo-metrics']}",
        )
        edge = [str(programs.caddy()), "run", "--config", "router/Caddyfile", "--adapter", "caddyfile"]
        pool = f"127.0.0.1:{self.ports['apollo']}"
        ports = {**self.environment(), "LINKFLOW_PORT": str(self.ports["apollo-edge"]), "LINKFLOW_QUERY_POOL": pool}
        self.start("apollo-edge", edge, XDG_DATA_HOME=str(self.home), XDG_CONFIG_HOME=str(self.home), **ports)
        self.wait("apollo", f"http://127.0.0.1:{self.ports['apollo-health']}/health?ready")
        self.wait("apollo-edge", f"{self.origin('apollo')}/health/live")


@pytest.fixture(scope="session")
def house(scratch: Path) -> Iterator[House]:
    """LinkFlow on a home of its own."""
    home = scratch / "house"
    home.mkdir()
    names = ("port", "gateway_port", "serve_port", "target", "apollo", "apollo-edge", "apollo-health", "apollo-metrics")
    found = House(home, {name: free_port() for name in names})
    try:
        found.start_linkflow()
        yield found
    finally:
        for process in reversed(found.children.values()):
            stop(process, (signal.SIGTERM, 30.0))


@pytest.fixture(scope="session")
def apollo(house: House) -> House:
    binary = os.environ.get("APOLLO_ROUTER_BIN", "")
    if not binary:
        pytest.skip("APOLLO_ROUTER_BIN names no Apollo Router 2.17")
    assert shutil.which(binary), f"APOLLO_ROUTER_BIN={binary} is not a program"
    house.start_apollo(binary)
    return house


@pytest.fixture(scope="session", params=["hive", "apollo"])
def origin(request: pytest.FixtureRequest, house: House) -> str:
    """The public address, by who answers queries behind it."""
    if request.param == "apollo":
        request.getfixturevalue("apollo")
    return house.origin(request.param)


@pytest.fixture
async def ada(origin: str) -> AsyncIterator[Person]:
    """Somebody who has just signed up."""
    async with Person.at(origin) as found:
        await found.sign_up()
        yield found
