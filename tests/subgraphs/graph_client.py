"""A client of served subgraphs that comes in by the public door: token, identity, proof of the hop, HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import orjson

from subgraphs.platform.server import Build, Ground, application, ground_opened
from subgraphs.platform.settings import Settings

PASSWORD = "correct horse battery staple"

SIGN_UP = """
mutation SignUp($input: SignUpInput!) {
  signUp(input: $input) {
    __typename
    ... on Session { accessToken refreshToken expiresAt user { id } tenant { id } }
    ... on SignUpPending { id }
    ... on Problem { code message field nextStep }
  }
}
"""


@dataclass(slots=True)
class Client:
    """Speaks to `/NAME/graphql` as the router would, for whoever holds `token` (nobody: anonymous)."""

    ground: Ground
    http: httpx.AsyncClient
    token: str | None = None
    session: dict[str, Any] = field(default_factory=dict)
    forwarded: str = ""

    async def identity(self) -> httpx.Response:
        """What the edge asks for every request."""
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        if self.forwarded:
            headers["x-forwarded-for"] = self.forwarded
        return await self.http.get("/auth/identity", headers=headers)

    async def headers(self, path: str, body: bytes) -> dict[str, str]:
        answer = await self.identity()
        assert answer.status_code == 200, answer.text
        identity = answer.headers["x-linkflow-identity"]
        return {
            "content-type": "application/json",
            "x-linkflow-identity": identity,
            "x-linkflow-hop": self.ground.hop.proof("POST", path, body, identity),
        }

    async def post(self, name: str, query: str, variables: Mapping[str, Any] | None = None) -> httpx.Response:
        body = orjson.dumps({"query": query, "variables": variables})
        path = f"/{name}/graphql"
        return await self.http.post(path, content=body, headers=await self.headers(path, body))

    async def ask(self, name: str, query: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The data of an operation that must not have errors."""
        answer = (await self.post(name, query, variables)).json()
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data

    def as_(self, session: Mapping[str, Any]) -> Client:
        """The same door for another session."""
        return Client(self.ground, self.http, session["accessToken"], dict(session))

    async def sign_up(self, **changes: Any) -> Client:
        """A client of a new person with a tenant of their own."""
        given = {
            "email": f"{uuid4().hex}@example.com",
            "password": PASSWORD,
            "name": "Ada",
            "organisation": "Analytical Engines",
        }
        session = (await Client(self.ground, self.http).ask("auth", SIGN_UP, {"input": given | changes}))["signUp"]
        assert session["__typename"] == "Session", session
        return self.as_(session | {"email": (given | changes)["email"]})


@asynccontextmanager
async def served(settings: Settings, *builds: Build) -> AsyncIterator[Client]:
    """These subgraphs, opened and mounted as in a real process, and a client nobody is logged in at."""
    async with ground_opened(settings, builds) as ground:
        transport = httpx.ASGITransport(app=application(ground, ground.subgraphs), client=("127.0.0.1", 4321))
        async with httpx.AsyncClient(transport=transport, base_url="http://subgraphs", timeout=30) as http:
            yield Client(ground, http)
