"""A tenant, as its own people see it, and as nobody else does."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from subgraphs.auth.service import build as auth
from subgraphs.platform.domain import uuid7
from subgraphs.platform.settings import Settings
from subgraphs.tenant.domain import slug
from subgraphs.tenant.service import build as tenant
from subgraphs.user.service import build as user
from tests.subgraphs.graph_client import Client, served

ENTITIES = "query($r: [_Any!]!) { _entities(representations: $r) { ... on Tenant { id name slug state createdAt } } }"
RENAME = """mutation($name: String!) { renameTenant(input: {name: $name}) {
  __typename ... on Tenant { name slug } ... on Problem { code field } } }"""


@pytest.fixture(scope="module")
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with served(settings, auth, tenant, user) as made:
        yield made


async def test_a_tenant_is_renamed_and_keeps_its_address(client: Client) -> None:
    ada = await client.sign_up(organisation="Before & After")
    before = (await ada.ask("tenant", "{ tenant { slug } }"))["tenant"]["slug"]
    found = (await ada.ask("tenant", RENAME, {"name": "  Behind   After "}))["renameTenant"]
    assert found == {"__typename": "Tenant", "name": "Behind After", "slug": before}
    for name in ("", "x" * 101, "a\u0000"):
        found = (await ada.ask("tenant", RENAME, {"name": name}))["renameTenant"]
        assert (found["__typename"], found["field"]) == ("Invalid", "name")
    assert (await client.ask("tenant", RENAME, {"name": "Mine"}))["renameTenant"]["code"] == "unauthenticated"


@pytest.mark.parametrize("filtered", [True, False])
async def test_another_tenant_is_not_there_even_without_the_filter_of_the_application(
    client: Client, fresh_settings: object, filtered: bool
) -> None:
    settings = await fresh_settings(tenant_filter=filtered)  # type: ignore[operator]
    async with served(settings, auth, tenant, user) as alone:
        ada, eve = await alone.sign_up(organisation="Ada's"), await alone.sign_up(organisation="Eve's")
        theirs = ada.session["tenant"]["id"]
        asked = [{"__typename": "Tenant", "id": id} for id in (theirs, eve.session["tenant"]["id"], "x", str(uuid7()))]
        found = (await eve.ask("tenant", ENTITIES, {"r": asked}))["_entities"]
        assert [each["name"] if each else None for each in found] == [None, "Eve's", None, None]
        await eve.ask("tenant", RENAME, {"name": "Stolen"})
        assert (await ada.ask("tenant", "{ tenant { name } }"))["tenant"] == {"name": "Ada's"}
        members = "{ organisation { members { edges { node { id } } } } }"
        edges = (await eve.ask("user", members))["organisation"]["members"]["edges"]
        assert [edge["node"]["id"] for edge in edges] == [eve.session["user"]["id"]]
        person = {"r": [{"__typename": "User", "id": ada.session["user"]["id"]}]}
        query = "query($r: [_Any!]!) { _entities(representations: $r) { ... on User { email } } }"
        assert (await eve.ask("user", query, person))["_entities"] == [None]
    assert client.token is None


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("Analytical Engines", "analytical-engines-"),
        ("Zürich & Söhne", "zurich-sohne-"),
        ("汉字", "tenant-"),
        ("--", "tenant-"),
    ],
)
def test_slugs_are_plain_and_unique(name: str, start: str) -> None:
    first, second = slug(name, uuid7()), slug(name, uuid7())
    assert first.startswith(start)
    assert first != second
