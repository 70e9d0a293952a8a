"""Profiles, organisations, members and roles, through the public door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import event

from subgraphs.auth.service import build as auth
from subgraphs.platform.domain import uuid7
from subgraphs.platform.settings import Settings
from subgraphs.tenant.service import build as tenant
from subgraphs.user.service import build as user
from tests.subgraphs.graph_client import Client, served

UPDATE = """mutation($input: UpdateProfileInput!) { updateProfile(input: $input) {
  __typename ... on User { name avatarUrl locale timeZone } ... on Problem { code field message } } }"""
CHANGE = """mutation($id: ID!, $role: RoleName!) { changeMemberRole(input: {userId: $id, role: $role}) {
  __typename ... on User { id role } ... on Problem { code field } } }"""
ENTITIES = """query($r: [_Any!]!) { _entities(representations: $r) {
  ... on User { id name email role organisation { name } } } }"""


@pytest.fixture(scope="module")
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with served(settings, auth, tenant, user) as made:
        yield made


async def join(client: Client, owner: Client, role: str, count: int = 1) -> list[Client]:
    """People who sign up, and are then moved to the owner's organisation: invitations are not there yet.

    The rows of all three subgraphs get the owner's tenant, as an invitation would have made them.
    """
    import asyncpg

    people = [await client.sign_up(name=f"{role} {number}") for number in range(count)]
    connection = await asyncpg.connect(client.ground.settings.dsn("lf_admin"))
    home = owner.session["tenant"]["id"]
    try:
        for person in people:
            old, who = person.session["tenant"]["id"], person.session["user"]["id"]
            await connection.execute("delete from auth.session where tenant = $1::text::uuid", old)
            await connection.execute(
                "update auth.account set tenant = $1::text::uuid, role = $3 where id = $2::text::uuid", home, who, role
            )
            await connection.execute('delete from "user".member where tenant = $1::text::uuid', old)
            await connection.execute('delete from "user".organisation where tenant = $1::text::uuid', old)
            await connection.execute(
                'update "user".person set tenant = $1::text::uuid where id = $2::text::uuid', home, who
            )
            await connection.execute(
                'insert into "user".member select o.tenant, o.id, $2::text::uuid, $3, clock_timestamp() '
                'from "user".organisation o where o.tenant = $1::text::uuid',
                home,
                who,
                role,
            )
    finally:
        await connection.close()
    return [await log_in(client, person) for person in people]


async def log_in(client: Client, person: Client) -> Client:
    query = """mutation($email: String!) { logIn(input: {email: $email, password: "correct horse battery staple"}) {
      ... on Session { accessToken refreshToken user { id } tenant { id } } } }"""
    return client.as_((await client.ask("auth", query, {"email": person.session["email"]}))["logIn"])


async def change(client: Client, who: Client, role: str) -> dict[str, Any]:
    found: dict[str, Any] = (await client.ask("user", CHANGE, {"id": who.session["user"]["id"], "role": role}))[
        "changeMemberRole"
    ]
    return found


@pytest.mark.shows("US-01")
async def test_a_profile_changes_field_by_field(client: Client) -> None:
    ada = await client.sign_up()
    picture = "https://example.com/a.png"
    steps: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"name": " Ada  Lovelace "}, {"name": "Ada Lovelace", "avatarUrl": None, "locale": "en", "timeZone": "UTC"}),
        (
            {"avatarUrl": picture, "locale": "de-CH"},
            {"name": "Ada Lovelace", "avatarUrl": picture, "locale": "de-CH", "timeZone": "UTC"},
        ),
        (
            {"timeZone": "Asia/Tokyo", "avatarUrl": ""},
            {"name": "Ada Lovelace", "avatarUrl": None, "locale": "de-CH", "timeZone": "Asia/Tokyo"},
        ),
        ({}, {"name": "Ada Lovelace", "avatarUrl": None, "locale": "de-CH", "timeZone": "Asia/Tokyo"}),
    ]
    for given, expected in steps:
        assert (await ada.ask("user", UPDATE, {"input": given}))["updateProfile"] == {"__typename": "User", **expected}
        assert (await ada.ask("user", "{ me { name avatarUrl locale timeZone } }"))["me"] == expected


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\nb\u0007"}, "name"),
        ({"avatarUrl": "http://example.com/a.png"}, "avatarUrl"),
        ({"avatarUrl": "javascript:alert(1)"}, "avatarUrl"),
        ({"avatarUrl": "https://me:secret@example.com/"}, "avatarUrl"),
        ({"avatarUrl": "https://" + "a" * 3_000}, "avatarUrl"),
        ({"avatarUrl": "https://[::1"}, "avatarUrl"),
        ({"locale": "english!"}, "locale"),
        ({"timeZone": "Mars/Olympus"}, "timeZone"),
        ({"timeZone": "/etc/passwd"}, "timeZone"),
    ],
)
async def test_a_wrong_profile_names_its_field_and_changes_nothing(
    client: Client, given: dict[str, str], field: str
) -> None:
    ada = await client.sign_up()
    found = (await ada.ask("user", UPDATE, {"input": {"name": "Changed", **given}}))["updateProfile"]
    assert (found["__typename"], found["field"]) == ("Invalid", field)
    assert (await ada.ask("user", "{ me { name } }"))["me"] == {"name": "Ada"}


@pytest.mark.shows("US-02")
async def test_members_page_through_their_organisation(client: Client) -> None:
    owner = await client.sign_up(organisation="Big")
    await join(client, owner, "viewer", 4)
    query = """query($after: String) { organisation { id name members(first: 2, after: $after) {
      edges { node { id role } } pageInfo { hasNextPage endCursor } } } }"""
    seen, after, pages = [], None, 0
    while True:
        members = (await owner.ask("user", query, {"after": after}))["organisation"]["members"]
        seen += [edge["node"]["role"] for edge in members["edges"]]
        after, pages = members["pageInfo"]["endCursor"], pages + 1
        if not members["pageInfo"]["hasNextPage"]:
            break
    assert seen == ["OWNER", "VIEWER", "VIEWER", "VIEWER", "VIEWER"]
    assert pages == 3


@pytest.mark.parametrize("after", ["", "x", "WzFd", "WyIyMDI2IiwgMV0", "WyIyMDI2LTAxLTAxVDAwOjAwOjAwIiwgIngiXQ"])
async def test_forged_cursors_are_invalid(client: Client, after: str) -> None:
    ada = await client.sign_up()
    answer = await ada.post(
        "user", "query($a: String) { organisation { members(after: $a) { edges { node { id } } } } }", {"a": after}
    )
    assert answer.json()["errors"][0]["extensions"]["code"] == "cursor_malformed"


@pytest.mark.shows("US-03")
async def test_a_changed_role_holds_from_the_next_request_on(client: Client) -> None:
    owner = await client.sign_up()
    (bo,) = await join(client, owner, "viewer")
    assert (await change(bo, bo, "EDITOR"))["code"] == "scope_missing"
    for role, allowed in (("ADMIN", True), ("OPERATOR", False), ("ADMIN", True), ("VIEWER", False)):
        assert await change(owner, bo, role) == {"__typename": "User", "id": bo.session["user"]["id"], "role": role}
        found = (await bo.ask("tenant", 'mutation { renameTenant(input: {name: "Renamed"}) { __typename } }'))[
            "renameTenant"
        ]
        assert found["__typename"] == ("Tenant" if allowed else "Forbidden"), role


@pytest.mark.shows("US-03")
async def test_the_built_in_roles_are_ordered_by_what_they_may(client: Client) -> None:
    roles = (await client.ask("user", "{ roles { name description scopes } }"))["roles"]
    assert [role["name"] for role in roles] == ["OWNER", "ADMIN", "EDITOR", "OPERATOR", "VIEWER"]
    scopes = [set(role["scopes"]) for role in roles]
    assert all(more > fewer for more, fewer in pairwise(scopes))


async def test_the_last_owner_stays_also_when_two_step_down_at_once(client: Client) -> None:
    owner = await client.sign_up()
    assert (await change(owner, owner, "ADMIN"))["code"] == "last_owner"
    (second,) = await join(client, owner, "owner")
    found = await asyncio.gather(change(owner, owner, "ADMIN"), change(second, second, "ADMIN"))
    assert sorted(each["__typename"] for each in found) == ["Conflict", "User"]


async def test_only_owners_make_and_unmake_owners(client: Client) -> None:
    owner = await client.sign_up()
    admin, editor = [*await join(client, owner, "admin"), *await join(client, owner, "editor")]
    assert (await change(admin, editor, "OWNER"))["code"] == "scope_missing"
    assert (await change(admin, owner, "VIEWER"))["code"] == "scope_missing"
    assert (await change(admin, editor, "VIEWER"))["__typename"] == "User"
    assert (await change(owner, admin, "OWNER"))["__typename"] == "User"


async def test_nobody_changes_a_stranger(client: Client) -> None:
    ada, eve = await client.sign_up(), await client.sign_up()
    assert (await change(eve, ada, "VIEWER"))["__typename"] == "Missing"
    for id in (str(uuid7()), "x", "", "' or 1=1"):
        found = (await eve.ask("user", CHANGE, {"id": id, "role": "VIEWER"}))["changeMemberRole"]
        assert (found["__typename"], found["field"]) == ("Missing" if len(id) == 36 else "Invalid", "userId")
    assert (await client.ask("user", CHANGE, {"id": str(uuid4()), "role": "VIEWER"}))["changeMemberRole"][
        "code"
    ] == "unauthenticated"


@pytest.mark.shows("US-19")
async def test_any_list_of_references_is_one_statement_in_the_order_asked(client: Client) -> None:
    owner = await client.sign_up(organisation="Home")
    people = [owner, *await join(client, owner, "editor", 5)]
    stranger = await client.sign_up()
    ids = [person.session["user"]["id"] for person in people]
    asked = [
        ids[3],
        ids[0],
        stranger.session["user"]["id"],
        ids[5],
        ids[3],
        "nonsense",
        str(uuid7()),
        *ids,
        *[str(uuid7()) for _ in range(600)],
    ]
    statements: list[str] = []
    engine = client.ground.database.api.sync_engine
    listener = lambda *words: statements.append(words[2])  # noqa: E731
    event.listen(engine, "before_cursor_execute", listener)
    try:
        found = (await owner.ask("user", ENTITIES, {"r": [{"__typename": "User", "id": id} for id in asked]}))[
            "_entities"
        ]
    finally:
        event.remove(engine, "before_cursor_execute", listener)
    assert [each["id"] if each else None for each in found] == [id if id in ids else None for id in asked]
    reads = [statement for statement in statements if '"user".person' in statement]
    assert len(reads) == 1, statements


async def test_who_asks_only_for_their_id_costs_no_statement(client: Client) -> None:
    ada = await client.sign_up()
    await ada.identity()
    statements: list[str] = []
    engine = client.ground.database.api.sync_engine
    listener = lambda *words: statements.append(words[2])  # noqa: E731
    event.listen(engine, "before_cursor_execute", listener)
    try:
        assert (await ada.ask("user", "{ me { id __typename } }"))["me"]["id"] == ada.session["user"]["id"]
    finally:
        event.remove(engine, "before_cursor_execute", listener)
    assert statements == []


async def test_strangers_are_nothing_to_each_other(client: Client) -> None:
    ada, eve = await client.sign_up(), await client.sign_up()
    for asker, id in ((eve, ada.session["user"]["id"]), (client, ada.session["user"]["id"])):
        found = await asker.ask("user", ENTITIES, {"r": [{"__typename": "User", "id": id}]})
        assert found == {"_entities": [None]}


async def test_the_anonymous_change_nothing(client: Client) -> None:
    found = (await client.ask("user", UPDATE, {"input": {"name": "x"}}))["updateProfile"]
    assert (found["__typename"], found["code"]) == ("Unauthenticated", "unauthenticated")
