"""Questions about the schema, alone and in one document with data: each part is answered, in the order asked."""

from __future__ import annotations

import httpx
import pytest

from tests.router.clients import ask
from tests.router.conftest import Rig, token

ME = {"id": "ann"}
USER = {"name": "User"}
QUERY = {"queryType": {"name": "Query"}}


@pytest.mark.parametrize(
    ("document", "data"),
    [
        ('{ me { id } __type(name: "User") { name } }', {"me": ME, "__type": USER}),
        ("{ __schema { queryType { name } } me { id } }", {"__schema": QUERY, "me": ME}),
        ("{ ...F me { id } } fragment F on Query { __schema { queryType { name } } }", {"__schema": QUERY, "me": ME}),
        ('{ ...F } fragment F on Query { t: __type(name: "User") { name } me { id } }', {"t": USER, "me": ME}),
        ("{ ... on Query { __schema { queryType { name } } } __typename }", {"__schema": QUERY, "__typename": "Query"}),
        ('{ __type(name: "Nobody") { name } caller }', {"__type": None, "caller": "ann"}),
    ],
)
async def test_schema_and_data_in_one_document(
    rig: Rig, client: httpx.AsyncClient, document: str, data: dict[str, object]
) -> None:
    answer = await ask(client, rig.url("edge"), document, token("ann"))
    assert answer == {"data": data}
    assert list(answer["data"]) == list(data)


async def test_variables_serve_both_parts(rig: Rig, client: httpx.AsyncClient) -> None:
    document = """query ($type: String!, $skip: Boolean!) {
      __type(name: $type) @skip(if: $skip) { name }
      shown: __type(name: $type) { name }
      me @include(if: $skip) { id }
    }"""
    words = {"query": document, "variables": {"type": "User", "skip": True}}
    answer = await client.post(rig.url("edge"), json=words, headers={"authorization": f"Bearer {token('ann')}"})
    assert answer.json() == {"data": {"shown": USER, "me": ME}}


async def test_what_fails_beside_it_stays_told(rig: Rig, client: httpx.AsyncClient) -> None:
    answer = await ask(client, rig.url("edge"), '{ broken __type(name: "User") { name } }', token("ann"))
    assert answer["data"] == {"broken": None, "__type": USER}
    assert [error["path"] for error in answer["errors"]] == [["broken"]]


async def test_the_schema_alone_is_told_by_either(rig: Rig, door: str, client: httpx.AsyncClient) -> None:
    answer = await ask(client, rig.url(door), '{ __schema { queryType { name } } __type(name: "User") { name } }')
    assert answer == {"data": {"__schema": QUERY, "__type": USER}}


async def test_apollo_router_refuses_both_in_one_document(apollo: Rig, client: httpx.AsyncClient) -> None:
    answer = await ask(client, apollo.url("apollo-edge"), '{ me { id } __type(name: "User") { name } }', token("ann"))
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["MIXED_INTROSPECTION"]


async def test_a_browser_is_shown_the_editor(rig: Rig, client: httpx.AsyncClient) -> None:
    page = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    for path in ("/", "/graphql"):
        answer = await client.get(rig.url("edge", path), headers=page)
        assert (answer.status_code, answer.headers["location"]) == (302, "/graphiql")
    asked = await client.get(rig.url("edge"), params={"query": "{ caller }"}, headers=page)
    assert asked.status_code == 400


async def test_an_address_of_nothing_says_where_things_are(rig: Rig, client: httpx.AsyncClient) -> None:
    answer = await client.get(rig.url("edge", "/nowhere"))
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json; charset=utf-8")
    assert answer.json()["code"] == "edge_404"
    assert "/graphiql" in answer.json()["nextStep"]
