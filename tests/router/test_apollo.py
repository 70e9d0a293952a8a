"""Apollo Router 2.17 itself, without a licence: it starts, it behaves, and the lint knows what it would refuse."""

from __future__ import annotations

import asyncio
import copy
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from router.licence_lint import needs_licence
from tests.router.clients import ask, bearer
from tests.router.conftest import CHECKOUT, Rig, free_port, token
from tests.router.test_requests import audited, codes

CONFIG = CHECKOUT / "router" / "router.yaml"
SUPERGRAPH = CHECKOUT / "supergraph" / "supergraph.graphql"


def config() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    return found


# -- the licence lint


def with_path(path: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(config())
    *parents, last = path.split(".")
    at = changed
    for key in parents:
        at = at.setdefault(key, {})
    at[last] = value
    return changed


LICENSED: list[tuple[str, Any]] = [
    ("subscription", {"enabled": True, "mode": {"passthrough": {"all": {"path": "/ws"}}}}),
    ("response_cache", {"enabled": True, "subgraph": {"all": {"enabled": False}}}),
    (
        "demand_control",
        {"enabled": False, "mode": "measure", "strategy": {"static_estimated": {"list_size": 1, "max": 1}}},
    ),
    (
        "demand_control",
        {"enabled": True, "mode": "measure", "strategy": {"static_estimated": {"list_size": 1, "max": 1}}},
    ),
    ("batching", {"enabled": False, "mode": "batch_http_link"}),
    ("batching", {"enabled": True, "mode": "batch_http_link"}),
    ("persisted_queries", {"enabled": False}),
    ("coprocessor", {"url": "http://127.0.0.1:1"}),
    ("authentication.router", {"jwt": {"jwks": [{"url": "http://127.0.0.1:1/jwks"}]}}),
    ("authorization.directives", {"enabled": False}),
    ("authorization.directives", {"enabled": True}),
    ("limits.router.max_depth", 10),
    ("limits.router.max_height", 10),
    ("limits.router.max_aliases", 10),
    ("limits.router.max_root_fields", 10),
    ("apq.router.cache.redis", {"urls": ["redis://127.0.0.1:1"]}),
    ("supergraph.query_planning.cache.redis", {"urls": ["redis://127.0.0.1:1"]}),
]
FREE: list[tuple[str, Any]] = [
    ("subscription", {"enabled": False}),
    ("authorization", {"require_authentication": False}),
    ("preview_file_uploads", {"enabled": True, "protocols": {"multipart": {"enabled": True}}}),
    ("limits.router.max_recursive_selections", 1_000),
    ("apq.enabled", False),
    ("supergraph.introspection", False),
    ("traffic_shaping.router.global_rate_limit", {"capacity": 10, "interval": "1s"}),
    ("response_cache", {"enabled": False, "subgraph": {"all": {"enabled": False}}}),
]
LINK = '@link(url: "https://specs.apollo.dev/{spec}", for: SECURITY)'


def test_the_configuration_needs_no_licence() -> None:
    supergraph = SUPERGRAPH.read_text() if SUPERGRAPH.exists() else ""
    assert needs_licence(config(), supergraph) == []


@pytest.mark.parametrize(("path", "value"), LICENSED)
def test_the_lint_finds_what_is_licensed(path: str, value: Any) -> None:
    assert needs_licence(with_path(path, value), "")


@pytest.mark.parametrize(("path", "value"), FREE)
def test_the_lint_lets_pass_what_is_free(path: str, value: Any) -> None:
    assert needs_licence(with_path(path, value), "") == []


def test_a_value_from_the_environment_counts_as_true() -> None:
    assert needs_licence(with_path("subscription", {"enabled": "${env.X:-false}"}), "") == ["subscription.enabled"]


@pytest.mark.parametrize("spec", ["authenticated", "requiresScopes", "policy"])
def test_the_lint_reads_the_supergraph(spec: str) -> None:
    assert needs_licence({}, f"schema {LINK.format(spec=f'{spec}/v0.1')} {{ query: Query }}") == [f"@{spec}"]


class Starting:
    """Starts the binary on a configuration until it serves (True) or ends (False)."""

    def __init__(self, rig: Rig, binary: str, folder: Path) -> None:
        self.rig, self.binary, self.folder = rig, binary, folder

    def serves(self, changed: dict[str, Any], supergraph: str) -> bool:
        (self.folder / "router.yaml").write_text(yaml.safe_dump(changed))
        (self.folder / "supergraph.graphql").write_text(supergraph)
        ports = {
            name: f"127.0.0.1:{free_port()}"
            for name in ("ROUTER_LISTEN", "ROUTER_HEALTH_LISTEN", "ROUTER_METRICS_LISTEN")
        }
        environment = {**self.rig.apollo_environment(), **ports, "ROUTER_RHAI": str(CHECKOUT / "router" / "rhai")}
        words = [self.binary, "--config", "router.yaml", "--supergraph", "supergraph.graphql", "--log", "info"]
        process = subprocess.Popen(
            words, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert process.stdout
        try:
            said = b""
            for line in process.stdout:
                said += line
                if b"GraphQL endpoint exposed" in line:
                    return True
            assert b"license" in said.lower(), said.decode(errors="replace")[-3_000:]
            return False
        finally:
            process.kill()
            process.stdout.close()
            process.wait()


@pytest.mark.shows("GW-03")
def test_the_lint_agrees_with_the_router_itself(rig: Rig, apollo_binary: str, tmp_path: Path) -> None:
    starting = Starting(rig, apollo_binary, tmp_path)
    supergraph = (rig.folder / "supergraph.graphql").read_text()
    assert starting.serves(config(), supergraph)
    for path, value in [*LICENSED, *FREE]:
        changed = with_path(path, value)
        assert starting.serves(changed, supergraph) is not bool(needs_licence(changed, supergraph)), (path, value)


# -- the four traps, and what clients see


async def test_trap_1_the_script_does_not_switch_the_redaction_off(apollo: Rig, client: httpx.AsyncClient) -> None:
    answer = await ask(client, apollo.url("apollo-edge"), "{ broken caller }", token("ann"))
    (error,) = answer["errors"]
    assert "hunter2" not in json.dumps(answer)
    assert error["message"] == "Subgraph errors redacted"
    assert set(error["extensions"]) == {"code", "correlationId"}


def test_trap_2_request_bodies_are_not_compressed() -> None:
    def keys(node: Any) -> Iterator[str]:
        for key, value in node.items() if isinstance(node, dict) else ():
            yield str(key)
            yield from keys(value)

    assert "compression" not in set(keys(config()["traffic_shaping"]))


async def test_trap_2_bodies_arrive_readable(apollo: Rig, client: httpx.AsyncClient) -> None:
    large = "{ caller " + " " * 60_000 + "}"
    assert (await ask(client, apollo.url("apollo-edge"), large, token("ann"))) == {"data": {"caller": "ann"}}
    assert "content-encoding" not in apollo.told()["heard"][-1]["headers"]


async def test_trap_3_each_request_keeps_its_own_id(apollo: Rig, client: httpx.AsyncClient) -> None:
    """Deduplication and a propagated request id exclude each other; the configuration says which one it is."""
    assert config()["traffic_shaping"]["all"]["deduplicate_query"] is False
    named = [f"request-{n:04}" for n in range(10)]

    async def one(id: str) -> str:
        headers = bearer(token("ann")) | {"x-request-id": id}
        answer = await client.post(apollo.url("apollo-edge"), json={"query": "{ caller }"}, headers=headers)
        return answer.headers["x-request-id"]

    assert await asyncio.gather(*(one(id) for id in named)) == named
    assert sorted(call["headers"]["x-request-id"] for call in apollo.told()["heard"]) == named


def test_apollo_router_gives_57_of_61_in_the_audit(apollo: Rig) -> None:
    identity = f"x-linkflow-identity={apollo.identity('ann')}"
    found = audited(apollo.url("apollo"), "apollo-require-preflight=1", identity)
    assert (found["ok"], found["total"]) == (57, 61)
    assert {one["status"] for one in found["rest"]} <= {"warn", "notice"}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("{ caller " + "caller " * 4_500 + "}", "PARSING_ERROR"),
        ("{ runs " + "{ owner " * 40 + "{ id }" + "}" * 40 + "}", "PARSING_ERROR"),
        ("{ nothing }", "GRAPHQL_VALIDATION_FAILED"),
    ],
)
async def test_documents_are_limited_here_too(apollo: Rig, client: httpx.AsyncClient, query: str, code: str) -> None:
    answer = await client.post(apollo.url("apollo-edge"), json={"query": query}, headers=bearer(token("ann")))
    assert answer.status_code == 400
    assert codes(answer.json())[0] == code
    assert apollo.told()["heard"] == []


async def test_it_runs_unlicensed(apollo: Rig, client: httpx.AsyncClient) -> None:
    text = (await client.get(apollo.url("apollo-metrics", "/metrics"))).text
    assert 'license_state="unlicensed"' in text
