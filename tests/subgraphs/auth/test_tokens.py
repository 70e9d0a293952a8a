"""Access tokens and identities: what is believed, and everything that is not."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import jwt
import orjson
import pytest

from subgraphs.auth.service import build as auth
from subgraphs.auth.tokens import Tokens
from subgraphs.platform.security import SMALLEST_KEY, KeySet, TokenRefused, keys_of
from subgraphs.platform.server import Ground, Subgraph
from subgraphs.platform.settings import Settings
from subgraphs.tenant.service import build as tenant
from subgraphs.user.service import build as user
from tests.subgraphs.auth.forgeries import forged, misdated, part
from tests.subgraphs.graph_client import Client, served

TOKENS: dict[str, Tokens] = {}


def auth_with_keys(ground: Ground) -> Subgraph:
    """Auth, and its key ring at hand: tests sign what an attacker could not."""
    made = auth(ground)
    answer: Any = next(route for route in made.routes if getattr(route, "path", "") == "/jwks")
    TOKENS["auth"] = answer.endpoint.__self__._tokens
    return made


@pytest.fixture(scope="module")
async def client(settings: Settings) -> AsyncIterator[Client]:
    opened = replace(settings, cors_origins=("https://app.example",))
    async with served(opened, auth_with_keys, tenant, user) as made:
        yield made


@pytest.fixture(scope="module")
async def ada(client: Client) -> Client:
    return await client.sign_up()


def sign(claims: dict[str, Any], header: dict[str, Any]) -> str:
    keys = TOKENS["auth"]
    assert keys._private is not None
    return jwt.encode(claims, keys._private, algorithm="RS256", headers={"typ": "at+jwt", "kid": keys._kid} | header)


def sign_identity(claims: dict[str, Any], header: dict[str, Any]) -> str:
    return sign(claims, {"typ": "id+jwt"} | header)


async def test_anyone_can_check_an_access_token_with_the_published_keys(ada: Client) -> None:
    answer = await ada.http.get("/auth/jwks")
    (key,) = answer.json()["keys"]
    assert int(answer.headers["cache-control"].rpartition("=")[2]) <= 60
    assert key.keys() == {"kty", "n", "e", "use", "alg", "kid"}
    public = keys_of(answer.json())[key["kid"]]
    assert public.key_size >= SMALLEST_KEY == 3_072
    claims = jwt.decode(
        ada.token or "", public, algorithms=["RS256"], audience="linkflow", issuer=ada.ground.settings.public_url
    )
    assert claims["sub"] == ada.session["user"]["id"]
    assert claims["exp"] - claims["iat"] == ada.ground.settings.access_token_minutes * 60 <= 3_600
    assert jwt.get_unverified_header(ada.token or "")["kid"] == key["kid"]


@pytest.mark.shows("AU-01")
async def test_no_forged_access_token_is_believed(ada: Client) -> None:
    (key,) = (await ada.http.get("/auth/jwks")).json()["keys"]
    tried = 0
    for name, token, code in [*forged(ada.token or "", key), *misdated(part(ada.token or "", 1), sign)]:
        answer = await ada.http.get("/auth/identity", headers=[(b"authorization", f"Bearer {token}".encode())])
        assert answer.status_code == 401, name
        found = answer.json()
        assert "x-linkflow-identity" not in answer.headers
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"].startswith("Bearer ")
        assert code is None or found["code"] == code, (name, found)
        assert found["code"] in CODES, (name, found)
        tried += 1
    assert tried > 100
    assert (await ada.identity()).status_code == 200


CODES = {"token_malformed", "token_algorithm", "token_signature", "token_expired", "token_issuer", "token_audience"}


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "bearer  x", "Basic YTpi", "Digest x", "Token x", "Bearer a b", "Bearer\tx", "x"],
)
async def test_other_ways_to_say_who_one_is_are_refused(client: Client, authorization: str) -> None:
    answer = await client.http.get("/auth/identity", headers={"authorization": authorization})
    assert (answer.status_code, answer.json()["code"]) == (401, "token_malformed")


async def test_pages_of_allowed_origins_may_read_why_they_are_refused(client: Client) -> None:
    for origin, readable in (("https://app.example", "https://app.example"), ("https://evil.example", None)):
        answer = await client.http.get("/auth/identity", headers={"authorization": "Bearer x", "origin": origin})
        assert (answer.status_code, answer.headers.get("access-control-allow-origin")) == (401, readable)


async def test_two_authorizations_are_refused(ada: Client) -> None:
    words = [("authorization", f"Bearer {ada.token}"), ("authorization", f"Bearer {ada.token}")]
    assert (await ada.http.get("/auth/identity", headers=words)).status_code == 401


@pytest.mark.shows("AU-01")
async def test_no_forged_identity_is_believed_by_a_subgraph(ada: Client) -> None:
    identity = (await ada.identity()).headers["x-linkflow-identity"]
    (key,) = (await ada.http.get("/auth/jwks")).json()["keys"]
    body, path = orjson.dumps({"query": "{ me { id } }"}), "/user/graphql"
    tokens = [(name, token) for name, token, _ in forged(identity, key) if token.isascii() and "\x00" not in token]
    right = {"audience 'subgraphs'", "subject 'anonymous'"}  # of an identity these are
    dated = misdated(part(identity, 1), sign_identity)
    tokens += [(name, token) for name, token, _ in dated if name not in right]
    tokens.append(("an access token", ada.token or ""))
    for name, token in tokens:
        headers = {"content-type": "application/json", "x-linkflow-identity": token}
        headers["x-linkflow-hop"] = ada.ground.hop.proof("POST", path, body, token)
        answer = await ada.http.post(path, content=body, headers=headers)
        assert answer.status_code == 401, (name, answer.text)
        assert "data" not in answer.json()


async def test_an_identity_is_no_access_token_and_a_refresh_token_is_nothing(ada: Client) -> None:
    identity = (await ada.identity()).headers["x-linkflow-identity"]
    for token in (identity, ada.session["refreshToken"]):
        answer = await ada.http.get("/auth/identity", headers={"authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json()["code"]) == (401, "token_malformed")


async def test_the_same_token_gets_the_same_identity_until_it_is_nearly_over(ada: Client) -> None:
    first, second = await ada.identity(), await ada.identity()
    assert first.headers["x-linkflow-identity"] == second.headers["x-linkflow-identity"]
    claims = part(first.headers["x-linkflow-identity"], 1)
    assert claims["exp"] == int(first.headers["x-linkflow-expires"])
    assert 60 < claims["exp"] - time.time() <= 300
    assert claims["roles"] == ["owner"]
    assert "tenant:own" in claims["scopes"]


async def test_nobody_is_somebody_without_rights(client: Client) -> None:
    answer = await client.http.get("/auth/identity", headers={"x-forwarded-for": "198.51.100.1, 203.0.113.7"})
    claims = part(answer.headers["x-linkflow-identity"], 1)
    assert (claims["sub"], claims["roles"], claims["scopes"], claims["addr"]) == ("anonymous", [], [], "203.0.113.7")
    assert await client.ask("user", "{ me { id name } organisation { id } }") == {"me": None, "organisation": None}


async def test_a_withdrawn_key_is_not_believed_once_the_keys_are_read_again() -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from jwt.algorithms import RSAAlgorithm

    def published(size: int, kid: str) -> dict[str, Any]:
        public = rsa.generate_private_key(public_exponent=65537, key_size=size).public_key()
        return RSAAlgorithm.to_jwk(public, as_dict=True) | {"kid": kid, "use": "sig", "alg": "RS256"}

    now = {"keys": [published(3_072, "old"), published(2_048, "small")]}

    async def fetch() -> dict[str, Any]:
        return now

    keys = KeySet(fetch)
    assert await keys.key("old") is not None
    assert await keys.key("small") is None
    now["keys"] = [published(3_072, "new")]
    keys._read_at = keys._tried_at = float("-inf")
    assert await keys.key("old") is None
    assert await keys.key("new") is not None
    assert KeySet.FRESH <= 60


async def test_an_unknown_kid_does_not_make_us_fetch_at_every_request() -> None:
    fetched = 0

    async def fetch() -> dict[str, Any]:
        nonlocal fetched
        fetched += 1
        return {"keys": []}

    keys = KeySet(fetch)
    for number in range(500):
        assert await keys.key(f"k{number}") is None
    assert fetched <= 2


async def test_without_keys_nobody_is_believed() -> None:
    async def fetch() -> dict[str, Any]:
        raise ValueError("no answer")

    with pytest.raises(Exception, match="cannot be checked") as raised:
        await KeySet(fetch).key("k")
    assert not isinstance(raised.value, TokenRefused)
