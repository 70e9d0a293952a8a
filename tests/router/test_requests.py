"""HTTP requests through edge and gateway: what is answered, what is refused and how, what is never told."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from typing import Any

import httpx
import pytest

from subgraphs.platform.processes import stop
from tests.router.clients import ask, bearer
from tests.router.conftest import CHECKOUT, Rig, free_port, node, token

EVERYTHING = "{ me { id name } runs { id owner { id name seenAs } } }"
GET = {"apollo-require-preflight": "1"}


def codes(answer: dict[str, Any]) -> list[str]:
    return [error["extensions"]["code"] for error in answer["errors"]]


def audited(url: str, *headers: str) -> dict[str, Any]:
    words = [str(node()), "tests/router/audit.mjs", url, *headers]
    done = subprocess.run(words, cwd=CHECKOUT, capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_gateway_passes_the_whole_audit_of_graphql_over_http(rig: Rig) -> None:
    url = rig.url("gateway")
    found = audited(url, "apollo-require-preflight=1", f"x-linkflow-identity={rig.identity('ann')}")
    assert (found["rest"], found["ok"], found["total"]) == ([], 61, 61)


def test_the_edge_passes_it_too(rig: Rig) -> None:
    found = audited(rig.url("edge"), "apollo-require-preflight=1", f"authorization=Bearer {token('ann')}")
    assert (found["rest"], found["ok"]) == ([], 61)


async def test_a_query_spans_subgraphs(rig: Rig, door: str, client: httpx.AsyncClient) -> None:
    answer = await ask(client, rig.url(door), EVERYTHING, token("ann"))
    runs = [
        {"id": str(n), "owner": {"id": f"u{n % 2}", "name": f"name of u{n % 2}", "seenAs": "ann"}} for n in range(3)
    ]
    assert answer == {"data": {"me": {"id": "ann", "name": "name of ann"}, "runs": runs}}


@pytest.mark.shows("GW-04")
async def test_one_subgraph_down_leaves_the_rest(mortal: Rig, client: httpx.AsyncClient) -> None:
    client.headers["x-linkflow-identity"] = mortal.identity("ann")
    url = mortal.url("mortal-gateway")
    mortal.kill("mortal")
    answer = await ask(client, url, "{ caller me { id } }")
    assert answer["data"] == {"caller": None, "me": {"id": "ann"}}
    assert codes(answer) == ["DOWNSTREAM_SERVICE_ERROR"]
    assert str(mortal.ports["mortal"]) not in json.dumps(answer)
    mortal.start_subgraph("runs", "mortal")
    mortal.wait_subgraph("mortal")
    assert await ask(client, url, "{ caller me { id } }") == {"data": {"caller": "ann", "me": {"id": "ann"}}}


async def test_a_hung_subgraph_is_cut_at_the_timeout(rig: Rig, door: str, client: httpx.AsyncClient) -> None:
    rig.children["users"].send_signal(signal.SIGSTOP)
    try:
        answer = await ask(client, rig.url(door), "{ caller me { id } }", token("ann"))
    finally:
        rig.children["users"].send_signal(signal.SIGCONT)
    assert answer["data"] == {"caller": "ann", "me": None}
    assert codes(answer) == ["GATEWAY_TIMEOUT"]
    said = json.dumps(answer)
    assert str(rig.ports["users"]) not in said
    assert "me{" not in said.replace(" ", "")


@pytest.mark.shows("SX-21")
async def test_what_broke_inside_stays_inside(rig: Rig, door: str, client: httpx.AsyncClient) -> None:
    answer = await ask(client, rig.url(door), "{ broken caller }", token("ann"))
    assert answer["data"] == {"broken": None, "caller": "ann"}
    (error,) = answer["errors"]
    assert error["path"] == ["broken"]
    assert set(error["extensions"]) <= {"code", "correlationId", "nextStep"}
    assert error["extensions"].get("nextStep", "Try again").startswith("Try again")
    for secret in ("hunter2", "SELECT", "/srv", "runs", "127.0.0.1", "password"):
        assert secret not in json.dumps(answer)


async def test_the_request_id_is_kept_made_and_told(rig: Rig, door: str, client: httpx.AsyncClient) -> None:
    url, body = rig.url(door), {"query": "{ broken }"}
    given = await client.post(url, json=body, headers=bearer(token("ann")) | {"x-request-id": "my-request-0001"})
    assert given.headers["x-request-id"] == "my-request-0001"
    assert given.json()["errors"][0]["extensions"]["correlationId"] == "my-request-0001"
    heard = rig.told()["heard"][-1]["headers"]
    assert heard["x-request-id"] == "my-request-0001"
    odd = await client.post(
        url, json=body, headers=bearer(token("ann")) | {"x-request-id": "<script>alert(1)</script>"}
    )
    assert "<" not in odd.headers["x-request-id"]
    assert len(odd.headers["x-request-id"]) >= 8


async def test_the_trace_of_the_client_reaches_the_subgraph(rig: Rig, door: str, client: httpx.AsyncClient) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = bearer(token("ann")) | {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    await client.post(rig.url(door), json={"query": "{ caller }"}, headers=headers)
    assert rig.told()["heard"][-1]["headers"]["traceparent"].split("-")[1] == trace


STRANGE = [
    ("GET", {"query": "{ caller }"}, {}, None, 400),
    ("GET", {"query": "{ caller }"}, {"cookie": "session=1"}, None, 400),
    ("GET", {"query": 'mutation { rename(name: "x") { id } }'}, GET, None, 405),
    ("GET", {"query": 'mutation { rename(name: "x") { id } }'}, {}, None, 400),
    ("POST", {}, {"content-type": "application/x-www-form-urlencoded"}, b"query={caller}", 415),
    ("POST", {}, {"content-type": "text/plain"}, b'{"query":"{caller}"}', 415),
    ("POST", {}, {"content-type": "multipart/form-data; boundary=x"}, b"--x--", 415),
    ("POST", {}, {"content-type": "application/graphql"}, b"{caller}", 415),
    ("POST", {}, {"content-type": "application/json;charset=utf-7"}, b'{"query":"{caller}"}', 415),
    ("POST", {}, {"content-type": "application/json;charset=utf-16"}, b'{"query":"{caller}"}', 415),
    ("POST", {}, {"content-type": ""}, b'{"query":"{caller}"}', 415),
    ("POST", {}, {"content-type": "application/json", "content-encoding": "gzip"}, b"\x1f\x8b", 415),
    ("PUT", {}, {"content-type": "application/json"}, b'{"query":"{caller}"}', 405),
    ("DELETE", {}, {}, None, 405),
    ("PATCH", {}, {"content-type": "application/json"}, b'{"query":"{caller}"}', 405),
    ("POST", {}, {"content-type": "application/json"}, b"{", 400),
    ("POST", {}, {"content-type": "application/json"}, b"", 400),
    ("POST", {}, {"content-type": "application/json"}, b"[" * 10_000 + b"]" * 10_000, 400),
    ("POST", {}, {"content-type": "application/json"}, b'[{"query":"{caller}"},{"query":"{caller}"}]', 400),
    ("POST", {}, {"content-type": "application/json", "x-http-method-override": "GET"}, b'{"query":"{caller}"}', 200),
]


@pytest.mark.shows("SX-08", "SX-09")
@pytest.mark.parametrize(("method", "parameters", "headers", "body", "status"), STRANGE)
async def test_odd_requests_change_nothing_and_say_why(
    rig: Rig,
    client: httpx.AsyncClient,
    method: str,
    parameters: dict[str, str],
    headers: dict[str, str],
    body: bytes | None,
    status: int,
) -> None:
    url = rig.url("edge")
    answer = await client.request(method, url, params=parameters, content=body, headers=bearer(token("ann")) | headers)
    assert answer.status_code == status, answer.text
    assert "renamed" not in rig.told("users")["counters"]
    if status != 200:
        assert answer.json()["errors"][0]["message"]


async def test_a_get_with_a_header_of_ours_is_answered(rig: Rig, door: str, client: httpx.AsyncClient) -> None:
    answer = await client.get(rig.url(door), params={"query": "{ caller }"}, headers=GET | bearer(token("ann")))
    assert answer.json() == {"data": {"caller": "ann"}}


async def test_batches_run_nothing(rig: Rig, door: str, client: httpx.AsyncClient) -> None:
    for times in (1, 2, 1000):
        batch = [{"query": 'mutation { rename(name: "x") { id } }'}] * times
        answer = await client.post(rig.url(door), json=batch, headers=bearer(token("ann")))
        assert answer.status_code == 400
    assert "renamed" not in rig.told("users")["counters"]


LIMITED = {
    "tokens": ("{ caller " + "caller " * 1_500 + "}", "DOCUMENT_TOO_MANY_TOKENS"),
    "depth": ("{ runs " + "{ owner " * 17 + "{ id }" + "}" * 17 + "}", "DOCUMENT_TOO_DEEP"),
    "aliases": ("{" + "".join(f" a{n}: caller" for n in range(51)) + "}", "DOCUMENT_TOO_MANY_ALIASES"),
    "equal": ("{" + "caller " * 21 + "}", "DOCUMENT_TOO_MANY_EQUAL_FIELDS"),
    "fragments": (
        "{ ...f0 }"
        + "".join(f" fragment f{n} on Query {{ ...f{n + 1} ...f{n + 1} }}" for n in range(30))
        + " fragment f30 on Query { caller }",
        "DOCUMENT_TOO_MANY_EQUAL_FIELDS",
    ),
}


@pytest.mark.shows("GW-10")
@pytest.mark.parametrize("kind", LIMITED)
async def test_large_documents_are_refused_before_they_cost(rig: Rig, client: httpx.AsyncClient, kind: str) -> None:
    query, code = LIMITED[kind]
    answer = await ask(client, rig.url("edge"), query, token("ann"))
    assert codes(answer) == [code]
    assert answer["errors"][0]["extensions"]["nextStep"]
    assert "data" not in answer
    assert rig.told()["heard"] == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"query": "{ caller"}, "GRAPHQL_PARSE_FAILED"),
        ({"query": "{ nobody }"}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": "query($n: Int!) { __typename @include(if: true) a: runs(first: $n) { id } }"}, None),
        ({"query": 1}, None),
    ],
)
async def test_every_refusal_of_the_gateway_says_what_to_do(
    rig: Rig, client: httpx.AsyncClient, body: dict[str, Any], code: str | None
) -> None:
    errors = (
        await client.post(rig.url("gateway"), json=body, headers={"x-linkflow-identity": rig.identity("ann")})
    ).json()["errors"]
    assert code is None or errors[0]["extensions"]["code"] == code
    assert all(error["extensions"]["nextStep"] for error in errors)


async def test_documents_at_the_limits_pass(rig: Rig, client: httpx.AsyncClient) -> None:
    answer = await ask(client, rig.url("edge"), "{" + "".join(f" a{n}: caller" for n in range(50)) + "}", token("ann"))
    assert set(answer["data"].values()) == {"ann"}
    assert (await ask(client, rig.url("edge"), "{" + "caller " * 20 + "}", token("ann")))["data"] == {"caller": "ann"}


@pytest.mark.shows("GW-10")
@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_the_limit_is_413(rig: Rig, client: httpx.AsyncClient, announced: bool) -> None:
    body = json.dumps({"query": "{ caller }", "variables": {"x": "y" * 400_000}}).encode()

    async def pieces() -> Any:
        for at in range(0, len(body), 50_000):
            yield body[at : at + 50_000]

    headers = bearer(token("ann")) | {"content-type": "application/json"}
    answer = await client.post(rig.url("edge"), content=body if announced else pieces(), headers=headers)
    assert answer.status_code == 413
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json()["nextStep"].startswith("Send at most")


async def test_the_gateway_itself_has_the_limit_too(rig: Rig, client: httpx.AsyncClient) -> None:
    body = b'{"query": "' + b" " * (8 * 2**20) + b'{ caller }"}'
    headers = {"content-type": "application/json", "x-linkflow-identity": rig.identity("ann")}
    answer = await client.post(rig.url("gateway"), content=body, headers=headers)
    assert answer.status_code == 413
    assert codes(answer.json()) == ["REQUEST_TOO_LARGE"]


@pytest.mark.shows("GW-07")
@pytest.mark.parametrize(("origin", "echoed"), [("https://console.example", True), ("https://evil.example", False)])
async def test_only_listed_origins_may_read(rig: Rig, client: httpx.AsyncClient, origin: str, echoed: bool) -> None:
    asked = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }
    for method, headers in (("OPTIONS", asked), ("POST", {"origin": origin} | bearer(token("ann")))):
        answer = await client.request(method, rig.url("edge"), headers=headers, json={"query": "{ caller }"})
        allowed = answer.headers.get("access-control-allow-origin")
        assert (allowed == origin) is echoed
        assert allowed != "*"


async def test_introspection_can_be_switched_off(rig: Rig, client: httpx.AsyncClient) -> None:
    part = "closed-gateway"
    rig.ports[part] = free_port()
    rig.start_gateway(part, LINKFLOW_INTROSPECTION="false")
    rig.wait(part, rig.url(part, "/readiness"))
    client.headers["x-linkflow-identity"] = rig.identity("ann")
    try:
        hidden = await ask(client, rig.url(part), "{ __schema { types { name } } caller }")
        assert "data" not in hidden
        assert hidden["errors"]
        assert (await ask(client, rig.url(part), "{ __typename caller }"))["data"]["caller"] == "ann"
        shown = await ask(client, rig.url("gateway"), "{ __schema { queryType { name } } }")
        assert shown["data"]["__schema"]["queryType"]["name"] == "Query"
    finally:
        # The runtime's signal handlers stop Node from exiting by itself: the server does it.
        assert stop(rig.children.pop(part), (signal.SIGTERM, 10.0)) == 0


async def test_a_gateway_with_open_streams_ends_on_a_signal(mortal: Rig) -> None:
    from tests.router.clients import opened

    async with opened(mortal.url("mortal-gateway"), token("ann")) as socket:
        await socket.subscribe("subscription { ticks(count: 1, every: 60) { seq } }")
        process = mortal.children["mortal-gateway"]
        process.send_signal(signal.SIGTERM)
        assert (await socket.closed())[0] == 1001
        assert await asyncio.to_thread(process.wait, 10) == 0


def test_a_bad_setting_is_named(rig: Rig) -> None:
    environment = {"LINKFLOW_HOME": str(rig.folder), "LINKFLOW_GATEWAY_PORT": "none"}
    done = subprocess.run([str(node()), "router/server.mjs"], cwd=CHECKOUT, env=environment, capture_output=True)
    assert done.returncode == 1
    assert b"LINKFLOW_GATEWAY_PORT=none: a whole number from 1 to 65535" in done.stderr


@pytest.mark.shows("GW-14")
async def test_metrics_are_for_the_inside(rig: Rig, client: httpx.AsyncClient) -> None:
    await ask(client, rig.url("edge"), "{ caller }", token("ann"))
    text = (await client.get(rig.url("gateway", "/metrics"))).text
    assert 'linkflow_gateway_subgraph_seconds_count{subgraph="runs",outcome="ok"}' in text
    assert (await client.get(rig.url("edge", "/metrics"))).status_code == 404
