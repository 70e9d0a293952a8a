"""Signing up, end to end through auth, tenant and user in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from subgraphs.auth.service import build as auth
from subgraphs.platform.settings import Settings
from subgraphs.tenant.service import build as tenant
from subgraphs.user.service import build as user
from tests.subgraphs.graph_client import Client, served


@pytest.fixture(scope="module")
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with served(settings, auth, tenant, user) as made:
        yield made


async def test_a_stranger_signs_up_and_is_somebody(client: Client) -> None:
    ada = await client.sign_up(organisation="Analytical Engines", timeZone="Europe/London")
    me = (await ada.ask("user", "{ me { id name role timeZone organisation { name } } }"))["me"]
    assert me == {
        "id": ada.session["user"]["id"],
        "name": "Ada",
        "role": "OWNER",
        "timeZone": "Europe/London",
        "organisation": {"name": "Analytical Engines"},
    }
    mine = (await ada.ask("tenant", "{ tenant { id name slug state } }"))["tenant"]
    assert mine["id"] == ada.session["tenant"]["id"]
    assert mine["slug"].startswith("analytical-engines-")
