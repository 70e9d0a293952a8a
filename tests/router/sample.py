"""Subgraphs and an Auth for the router's tests: `python sample.py PORT KEYFILE NAME...` serves those that are named.

They check what real subgraphs check (hop proof, identity) and tell at `/counters` what reached them.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jwt
import strawberry
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from strawberry.asgi import GraphQL
from strawberry.exceptions import ConnectionRejectionError
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL

from subgraphs.platform.hop import HopGuard, HopRefused

SECRET = "the stand-in's signing key, 32 bytes or more"
PATHS: dict[str, str] = {}
GUARD: list[HopGuard] = []
counters: Counter[str] = Counter()
heard: list[dict[str, Any]] = []
revoked: set[str] = set()
life = {"identity": 300}
cached: dict[str, tuple[str, float]] = {}


# -- Auth


def identity_of(token: str | None) -> str:
    """`Bearer <subject>~<expiry>`: the subject's identity, the same as long as it has a minute to live."""
    now = time.time()
    key = token or ""
    if key in cached and cached[key][1] - now > 60:
        return cached[key][0]
    subject = unquote(token.split("~")[0]) if token else "anonymous"
    counters["identities"] += 1
    expiry = now + life["identity"]
    claims = {"sub": subject, "aud": "subgraphs", "exp": expiry, "iat": now, "nth": counters["identities"]}
    if token:
        claims["tid"] = f"tenant-of-{subject}"
    cached[key] = (jwt.encode(claims, SECRET, algorithm="HS256"), expiry)
    return cached[key][0]


async def identity(request: Request) -> Response:
    counters["identity asked"] += 1
    header = request.headers.get("authorization")
    token = header.removeprefix("Bearer ") if header else None
    if token is not None:
        expiry = token.partition("~")[2]
        if token in revoked or not expiry or float(expiry) < time.time():
            return JSONResponse({"code": "unauthenticated", "message": "The token has ended."}, 401)
        if token.startswith("suspended"):
            return JSONResponse({"code": "forbidden", "message": "The tenant is suspended."}, 403)
    return Response(headers={"X-Linkflow-Identity": identity_of(token)})


async def control(request: Request) -> Response:
    """POST {"revoke": token} or {"identity": seconds}; {"reset": true} forgets what was counted and heard."""
    body = await request.json()
    if "revoke" in body:
        revoked.add(body["revoke"])
    if "identity" in body:
        life["identity"] = body["identity"]
        cached.clear()
    if "reset" in body:
        totals = {name: value for name, value in counters.items() if name.startswith("open")}
        counters.clear()
        counters.update(totals)
        heard.clear()
    return JSONResponse({})


async def told(_: Request) -> Response:
    return JSONResponse({"counters": counters, "heard": heard})


# -- who calls a subgraph


def subject(token: str) -> dict[str, Any]:
    return jwt.decode(token, SECRET, algorithms=["HS256"], audience="subgraphs")


def caller(info: strawberry.Info) -> dict[str, Any]:
    return subject(info.context["identity"])


class Endpoint(GraphQL[Any, None]):
    async def get_context(self, request: Any, response: Any) -> Any:
        return {"identity": request.headers.get("x-linkflow-identity", ""), "path": request.url.path}

    async def on_ws_connect(self, context: Any) -> Any:
        payload = context["connection_params"] or {}
        try:
            GUARD[0].check_socket(payload, path=context["path"])
            subject(payload["identity"])
        except (HopRefused, jwt.InvalidTokenError):
            counters["sockets refused"] += 1
            raise ConnectionRejectionError({"code": "refused"}) from None
        context["identity"] = payload["identity"]
        counters["sockets"] += 1
        heard.append({"socket": subject(payload["identity"])["sub"], "keys": sorted(payload)})
        return strawberry.UNSET


class Guarded:
    """Refuses HTTP requests without hop proof or identity, and writes down the headers of the rest."""

    def __init__(self, app: ASGIApp, name: str) -> None:
        self.app, self.name = app, name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        body = await request.body()
        headers = dict(request.headers.items())
        try:
            GUARD[0].check(headers, body, method=request.method, path=f"/{self.name}/graphql", query=request.url.query)
            who = subject(headers.get("x-linkflow-identity", ""))
        except (HopRefused, jwt.InvalidTokenError) as error:
            counters[f"{self.name} refused"] += 1
            await JSONResponse({"code": "refused", "message": str(error)}, 401)(scope, receive, send)
            return
        counters[self.name] += 1
        heard.append(
            {"subgraph": self.name, "sub": who["sub"], "nth": who["nth"], "headers": headers, "body": json.loads(body)}
        )

        async def replay() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, send)


# -- users


@strawberry.federation.type(keys=["id"])
class User:
    id: strawberry.ID
    name: str | None
    seen_as: str | None = None

    @classmethod
    def resolve_reference(cls, info: strawberry.Info, id: strawberry.ID, **_: Any) -> "User":
        return cls(id=id, name=f"name of {id}", seen_as=caller(info)["sub"])


@strawberry.type
class UsersQuery:
    @strawberry.field
    def me(self, info: strawberry.Info) -> User | None:
        who = caller(info)["sub"]
        return User(id=strawberry.ID(who), name=f"name of {who}", seen_as=who)

    @strawberry.field
    async def slow(self, seconds: float) -> str | None:
        await asyncio.sleep(seconds)
        return "awake"


@strawberry.type
class UsersMutation:
    @strawberry.mutation
    def rename(self, name: str) -> User | None:
        counters["renamed"] += 1
        return User(id=strawberry.ID("x"), name=name)


# -- runs


@strawberry.federation.type(name="User", keys=["id"])
class RunUser:
    id: strawberry.ID


@strawberry.type
class Tick:
    seq: int
    caller: str
    owner: RunUser | None


@strawberry.type
class Run:
    id: strawberry.ID
    owner: RunUser | None


@strawberry.type
class RunsQuery:
    @strawberry.field
    def runs(self, first: int = 3) -> list[Run] | None:
        return [Run(id=strawberry.ID(str(n)), owner=RunUser(id=strawberry.ID(f"u{n % 2}"))) for n in range(first)]

    @strawberry.field
    def caller(self, info: strawberry.Info) -> str | None:
        return caller(info)["sub"]

    @strawberry.field
    def broken(self) -> str | None:
        raise RuntimeError("password=hunter2 in SELECT * FROM secrets at /srv/secret/path.py")

    @strawberry.field
    def echo(self, text: str) -> str | None:
        return text


@strawberry.type
class RunsSubscription:
    @strawberry.subscription
    async def ticks(
        self, info: strawberry.Info, count: int = 5, every: float = 0.02, after_seq: int = 0
    ) -> AsyncGenerator[Tick, None]:
        counters["open streams"] += 1
        try:
            who = caller(info)["sub"]
            for seq in range(after_seq + 1, count + 1):
                await asyncio.sleep(every)
                yield Tick(seq=seq, caller=who, owner=RunUser(id=strawberry.ID(f"u{seq}")))
        finally:
            counters["open streams"] -= 1


SCHEMAS = {
    "users": strawberry.federation.Schema(query=UsersQuery, mutation=UsersMutation, federation_version="2.9"),
    "runs": strawberry.federation.Schema(
        query=RunsQuery, subscription=RunsSubscription, federation_version="2.9", types=[RunUser]
    ),
}


def application(names: list[str], key: Path) -> ASGIApp:
    GUARD.append(HopGuard(key.read_bytes()))
    routes = [
        Route("/auth/identity", identity),
        Route("/control", control, methods=["POST"]),
        Route("/counters", told),
        Route("/{door:path}", door, methods=["GET", "POST"]),
    ]
    rest = Starlette(routes=routes)
    protocols = [GRAPHQL_TRANSPORT_WS_PROTOCOL]
    endpoints = {
        f"/{name}/graphql": Guarded(
            Endpoint(
                SCHEMAS[name],
                graphql_ide=None,
                subscription_protocols=protocols,
                max_subscriptions_per_connection=None,
            ),
            name,
        )
        for name in names
    }

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await endpoints.get(scope.get("path", ""), rest)(scope, receive, send)

    return application


async def door(request: Request) -> Response:
    """Anything else that the edge lets through: says where it arrived."""
    await request.body()
    return JSONResponse({"path": request.url.path, "headers": dict(request.headers)})


def main(port: int, key: Path, names: list[str]) -> None:
    if names == ["sdl"]:
        for name, schema in SCHEMAS.items():
            (key / f"{name}.graphql").write_text(schema.as_str())
        return
    uvicorn.run(application(names, key), host="127.0.0.1", port=port, log_level="warning", ws="websockets-sansio")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
