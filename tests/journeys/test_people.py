"""From sign-up to a session that lives on: people, organisations, tenants, through the supergraph."""

from __future__ import annotations

import pytest

from tests.journeys.person import Person

EVERYTHING = """{
  me { id name email locale role organisation { id name } }
  organisation { id name members(first: 5) { edges { node { id name role } } pageInfo { hasNextPage } } }
  tenant { id name slug state createdAt }
  roles { name scopes }
}"""


@pytest.mark.shows("US-02")
async def test_who_signs_up_sees_themselves_their_organisation_and_their_tenant(ada: Person) -> None:
    found = await ada.ask(EVERYTHING)
    assert (found["me"]["id"], found["me"]["email"]) == (ada.user["id"], ada.email)
    assert (found["me"]["name"], found["me"]["role"]) == ("Ada", "OWNER")
    assert found["me"]["organisation"] == {key: found["organisation"][key] for key in ("id", "name")}
    assert [edge["node"]["name"] for edge in found["organisation"]["members"]["edges"]] == ["Ada"]
    assert (found["tenant"]["id"], found["tenant"]["name"]) == (ada.tenant["id"], "Analytical Engines")
    assert {"OWNER", "VIEWER"} <= {role["name"] for role in found["roles"]}


@pytest.mark.shows("AU-03")
async def test_a_session_is_refreshed_once_with_each_token(ada: Person) -> None:
    first, used = ada.token, ada.refresh_token
    await ada.refresh()
    assert ada.token != first
    assert (await ada.ask("{ me { email } }"))["me"]["email"] == ada.email
    again = await ada.change("refreshSession", "", refreshToken=used)
    assert again["__typename"] == "Unauthenticated"


async def test_logging_out_ends_the_session_and_logging_in_begins_another(ada: Person) -> None:
    before = ada.refresh_token
    ended = await ada.ask("mutation ($i: LogOutInput!) { logOut(input: $i) { ended } }", i={"refreshToken": before})
    assert ended["logOut"]["ended"] is True
    assert (await ada.post("{ me { id } }")).status_code == 401
    ada.token = None
    assert (await ada.change("refreshSession", "", refreshToken=before))["__typename"] == "Unauthenticated"
    await ada.log_in()
    assert (await ada.ask("{ me { id } }"))["me"]["id"] == ada.user["id"]


async def test_a_wrong_password_says_so_and_an_unknown_address_says_the_same(ada: Person) -> None:
    wrong = await ada.change("logIn", "", email=ada.email, password="not the password at all")
    unknown = await ada.change("logIn", "", email=f"x{ada.email}", password="not the password at all")
    assert (wrong["__typename"], wrong["code"]) == (unknown["__typename"], unknown["code"])
    assert wrong["message"] == unknown["message"]


async def test_a_profile_changes_for_all_who_see_it(ada: Person) -> None:
    changed = await ada.change("updateProfile", "... on User { name }", name="Ada Lovelace", locale="en-GB")
    assert changed["name"] == "Ada Lovelace"
    found = await ada.ask("{ me { name locale } organisation { members { edges { node { name } } } } }")
    assert found["me"] == {"name": "Ada Lovelace", "locale": "en-GB"}
    assert found["organisation"]["members"]["edges"][0]["node"]["name"] == "Ada Lovelace"


async def test_nobody_sees_anything(ada: Person) -> None:
    ada.token = None
    answer = (await ada.post("{ me { id } tenant { id } workflows { edges { node { id } } } }")).json()
    data = answer.get("data") or {}
    assert all(value is None for value in data.values())
    assert {error["extensions"]["code"] for error in answer["errors"]} == {"unauthenticated"}
