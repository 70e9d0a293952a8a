"""The view at the edges of HTTP: media types, methods, sizes, malformed requests, refusals."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.resolvers.library import CANARY, asking

JSON = {"content-type": "application/json"}
BOOK = '{"query": "{ book { id } }"}'
RESULT = "application/graphql-response+json"


def codes(answer: httpx.Response) -> list[str]:
    return [error["extensions"]["code"] for error in answer.json()["errors"]]


MALFORMED: dict[str, tuple[str | bytes, str]] = {
    "no json": ("{", "BAD_REQUEST"),
    "empty": ("", "BAD_REQUEST"),
    "depth 10,000": (
        '{"query": "{ book { id } }", "variables": {"a": ' + "[" * 10_000 + "]" * 10_000 + "}}",
        "BAD_REQUEST",
    ),
    "infinity": ('{"query": "{ book { id } }", "variables": {"a": 1e999}}', "BAD_REQUEST"),
    "NaN": ('{"query": "{ book { id } }", "variables": {"a": NaN}}', "BAD_REQUEST"),
    "lone surrogate": ('{"query": "{ book { id } }", "variables": {"a": "\\ud800"}}', "BAD_REQUEST"),
    "not UTF-8": (b'{"query": "{ book { id } }\xff"}', "BAD_REQUEST"),
    "number": ("1", "BAD_REQUEST"),
    "array of one": (f"[{BOOK}]", "BATCHING_REFUSED"),
    "array of 1,000": (f"[{','.join([BOOK] * 1_000)}]", "BATCHING_REFUSED"),
    "no query": ('{"variables": {}}', "BAD_REQUEST"),
    "query of another type": ('{"query": {"a": 1}}', "BAD_REQUEST"),
    "variables of another type": ('{"query": "{ book { id } }", "variables": []}', "BAD_REQUEST"),
    "name of another type": ('{"query": "{ book { id } }", "operationName": 1}', "BAD_REQUEST"),
    "extensions of another type": ('{"query": "{ book { id } }", "extensions": 1}', "BAD_REQUEST"),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_requests_are_400_and_say_why(name: str) -> None:
    body, code = MALFORMED[name]
    async with asking() as client:
        answer = await client.post("/graphql", content=body, headers=JSON)
    assert answer.status_code == 400
    assert codes(answer) == [code]
    assert answer.json()["errors"][0]["extensions"]["correlationId"] == answer.headers["x-request-id"]


MEDIA: list[dict[str, str]] = [
    {},
    {"content-type": "text/plain"},
    {"content-type": "application/x-www-form-urlencoded"},
    {"content-type": "multipart/form-data; boundary=x"},
    {"content-type": "application/graphql"},
    {"content-type": "application/json; charset=utf-7"},
    {"content-type": "application/json; charset=iso-8859-1"},
    {"content-type": "application/json, text/plain"},
    {"content-type": "application/jsonx"},
    {"content-type": "application/json", "content-encoding": "gzip"},
    {"content-type": "application/json", "content-encoding": "br"},
]


@pytest.mark.parametrize("headers", MEDIA)
async def test_other_media_types_are_415(headers: dict[str, str]) -> None:
    async with asking() as client:
        request = client.build_request("POST", "/graphql", content=BOOK)
        request.headers = httpx.Headers({"host": "graph", **headers})
        answer = await client.send(request)
    assert answer.status_code == 415
    assert "data" not in answer.json()


@pytest.mark.parametrize(
    "charset", ["application/json", "application/json; charset=utf-8", 'APPLICATION/JSON;charset="UTF-8"']
)
async def test_plain_json_is_taken(charset: str) -> None:
    async with asking() as client:
        answer = await client.post("/graphql", content=BOOK, headers={"content-type": charset})
    assert (answer.status_code, answer.json()) == (200, {"data": {"book": {"id": "1"}}})


async def test_a_body_over_the_limit_is_413_announced_or_not() -> None:
    async def chunks() -> Any:
        for _ in range(100):
            yield b" " * 1_000

    async with asking(max_bytes=10_000) as client:
        announced = await client.post("/graphql", content=b" " * 10_001, headers=JSON)
        streamed = await client.post("/graphql", content=chunks(), headers=JSON)
        fits = await client.post("/graphql", content=BOOK + " " * (10_000 - len(BOOK)), headers=JSON)
    assert (announced.status_code, streamed.status_code, fits.status_code) == (413, 413, 200)
    assert codes(announced) == codes(streamed) == ["BODY_TOO_LARGE"]


async def test_get_takes_queries_with_a_header_no_page_can_send_and_never_a_mutation() -> None:
    mutation = {"query": 'mutation { fail(input: {kind: ""}) { __typename } }'}
    async with asking() as client:
        bare = await client.get("/graphql", params={"query": "{ book { id } }"}, headers={"cookie": "a=b"})
        asked = await client.get(
            "/graphql", params={"query": "query($k: JSON) { echo(value: $k) }", "variables": '{"k": "ü"}'}, headers=GET
        )
        changed = await client.get("/graphql", params=mutation, headers=GET)
        forms = await client.get("/graphql", params={"query": "{ book { id } }", "variables": "[]"}, headers=GET)
    assert (bare.status_code, codes(bare)) == (403, ["PREFLIGHT_REQUIRED"])
    assert asked.json() == {"data": {"echo": ["ü", None, None]}}
    assert (changed.status_code, codes(changed), changed.headers["allow"]) == (405, ["MUTATION_OVER_GET"], "POST")
    assert forms.status_code == 400


GET = {"apollo-require-preflight": "1"}


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "HEAD"])
async def test_other_methods_are_405(method: str) -> None:
    async with asking() as client:
        answer = await client.request(
            method, "/graphql", headers=JSON | {"x-http-method-override": "POST"}, content=BOOK
        )
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST, GET")


async def test_a_subscription_needs_a_socket() -> None:
    async with asking() as client:
        answer = await client.post("/graphql", json={"query": "subscription { count(to: 1) }"})
    assert (answer.status_code, codes(answer)) == (405, ["SUBSCRIPTION_NOT_OVER_HTTP"])


async def test_who_is_not_let_in_gets_401() -> None:
    async with asking() as client:
        answer = await client.post("/graphql", content=BOOK, headers=JSON | {"x-no": "1"})
    assert (answer.status_code, codes(answer)) == (401, ["identity_missing"])


@pytest.mark.parametrize(
    ("query", "variables"),
    [("{", {}), ("{ nothing }", {}), ("query($a: ID!) { byId(id: $a) }", {"a": None}), ("{ book { id " * 9, {})],
)
async def test_a_failed_request_has_no_data_and_the_status_its_media_type_wants(query: str, variables: Any) -> None:
    body = {"query": query, "variables": variables}
    async with asking() as client:
        plain = await client.post("/graphql", json=body, headers={"accept": "application/json"})
        typed = await client.post("/graphql", json=body, headers={"accept": RESULT})
    assert (plain.status_code, typed.status_code) == (200, 400)
    assert plain.headers["content-type"] == "application/json; charset=utf-8"
    assert typed.headers["content-type"] == f"{RESULT}; charset=utf-8"
    assert "data" not in plain.json()
    assert "data" not in typed.json()


async def test_a_failed_field_keeps_data_and_200() -> None:
    async with asking() as client:
        answer = await client.post("/graphql", json={"query": "{ book { id broken } }"}, headers={"accept": RESULT})
    assert answer.status_code == 200
    assert answer.json()["data"] == {"book": {"id": "1", "broken": None}}
    assert CANARY not in answer.text


async def test_values_that_json_hardly_holds_come_back() -> None:
    literal = '{a: 12345678901234567890123, b: "\\\\u00e9", c: [null, true]}'
    async with asking() as client:
        answer = await client.post("/graphql", json={"query": f"{{ echo(value: {literal}) }}"})
        infinite = await client.post("/graphql", json={"query": "{ echo(value: 1e999) }"})
    assert answer.json()["data"]["echo"][0] == {"a": 12345678901234567890123, "b": "\\u00e9", "c": [None, True]}
    assert codes(infinite)


async def test_the_request_id_is_kept_or_made() -> None:
    async with asking() as client:
        kept = await client.post("/graphql", content=BOOK, headers=JSON | {"x-request-id": "mine-1"})
        made = await client.post("/graphql", content=BOOK, headers=JSON | {"x-request-id": "x" * 200})
    assert kept.headers["x-request-id"] == "mine-1"
    assert len(made.headers["x-request-id"]) == 36
