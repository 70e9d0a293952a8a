"""Auth in one process, User in another: keys come over HTTP, the sign-up crosses the border, and so do changes."""

from __future__ import annotations

from typing import Any

import httpx

from subgraphs.auth.service import build as auth
from subgraphs.platform.server import application, ground_opened
from subgraphs.tenant.service import build as tenant
from subgraphs.user.service import build as user
from tests.subgraphs.graph_client import PASSWORD, SIGN_UP
from tests.subgraphs.listening import listening


async def test_two_processes_make_one_product(fresh_settings: Any) -> None:
    settings = await fresh_settings()
    async with listening(settings, [auth, tenant]) as first, ground_opened(settings, [user]) as other:
        transport = httpx.ASGITransport(app=application(other, other.subgraphs))
        async with httpx.AsyncClient(transport=transport, base_url="http://user") as http:
            given = {"email": "ada@example.com", "password": PASSWORD, "name": "Ada", "organisation": "Engines"}
            session = (await first.ask("auth", SIGN_UP, {"input": given}))["signUp"]
            assert session["__typename"] == "Session"
            ada = first.as_(session)
            for query, expected in (
                ("{ me { name role } }", {"me": {"name": "Ada", "role": "OWNER"}}),
                (
                    'mutation { updateProfile(input: {name: "Ada L"}) { ... on User { name } } }',
                    {"updateProfile": {"name": "Ada L"}},
                ),
            ):
                body = httpx.Request("POST", "http://x", json={"query": query}).content
                headers = await ada.headers("/user/graphql", body)
                answer = await http.post("/user/graphql", content=body, headers=headers)
                assert answer.json() == {"data": expected}
            forged = headers["x-linkflow-identity"][:-6] + "AAAAAA"
            headers |= {
                "x-linkflow-identity": forged,
                "x-linkflow-hop": other.hop.proof("POST", "/user/graphql", body, forged),
            }
            refused = await http.post("/user/graphql", content=body, headers=headers)
            assert refused.status_code == 401
            assert refused.json()["errors"][0]["extensions"]["code"] == "token_signature"
