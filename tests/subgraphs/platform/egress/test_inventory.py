"""Who dials out at all: every place that opens a connection is known, and what workflows say goes through the guard."""

from __future__ import annotations

import ast
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from subgraphs.executor.nodes import catalogue
from subgraphs.executor.runner import Runner, Tools
from subgraphs.platform.egress import Egress
from tests.subgraphs.executor.steps import request
from tests.subgraphs.platform.egress.evil import serving

ROOT = Path(__file__).resolve().parents[4]
LIBRARIES = frozenset(
    {"httpx", "httpcore", "requests", "aiohttp", "urllib3", "urllib.request", "http.client", "smtplib", "ftplib",
     "telnetlib", "paramiko", "websockets", "pycurl", "socks"}
)  # fmt: skip
CALLS = frozenset({"open_connection", "create_connection", "sock_connect", "connect_ex"})
KNOWN = {
    "subgraphs/platform/egress/network.py": "the guarded client itself",
    "subgraphs/execution/remote.py": "the Executor of another process, at the address in the settings",
    "subgraphs/platform/security.py": "the key set of Auth, at the address in the settings",
    "subgraphs/platform/demo.py": "a client of our own edge, started by `linkflow dev`",
    "subgraphs/platform/probes.py": "whether our own database and sandbox answer, for the launcher and the doctor",
}


def dialling() -> Iterator[str]:
    for folder in ("subgraphs", "resolvers"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text())
            if any(_dials(node) for node in ast.walk(tree)):
                yield str(path.relative_to(ROOT))


def _dials(node: ast.AST) -> bool:
    match node:
        case ast.Import(names=names):
            return any(alias.name in LIBRARIES for alias in names)
        case ast.ImportFrom(module=str(module)):
            return module in LIBRARIES
        case ast.Call(func=ast.Attribute(attr=name)) | ast.Call(func=ast.Name(id=name)):
            return name in CALLS
    return False


@pytest.mark.shows("S04")
def test_every_place_that_dials_is_known() -> None:
    unknown = sorted(set(dialling()) - set(KNOWN))
    assert not unknown, "use subgraphs.platform.egress for addresses users name, or say here why not"


@pytest.mark.shows("S04")
async def test_no_node_type_dials_past_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example of every type but the sandboxed one, with an address in each text: no socket is connected."""
    dialled: list[Any] = []
    connect = socket.socket.connect

    def noting(self: socket.socket, address: Any) -> None:
        dialled.append(address)
        connect(self, address)

    async with serving() as canary:
        egress = Egress()
        runner = Runner(Tools(egress=egress))
        monkeypatch.setattr(socket.socket, "connect", noting)
        for node in catalogue().values():
            for example in node.manifest.examples:
                parameters = {**example.parameters, **({"url": canary.url()} if "url" in example.parameters else {})}
                await runner.run(request(node.manifest.type, parameters, *example.input))
        await egress.close()
    assert canary.connections == 0
    assert not [address for address in dialled if canary.port in tuple(address)]
