"""`GET /auth/identity`: an access token in, the internal identity out; and `GET /auth/jwks`, the keys to check it with.

The edge asks for every HTTP request (Caddy's `forward_auth`), the gateway for every websocket. The same token gets the
same identity until a minute before that expires, so that subgraphs check one signature in minutes, not one a request. A
revoked session, a changed role or name drops what is kept at once, in every process that hears the bus.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from uuid import UUID

import orjson
from starlette.requests import Request
from starlette.responses import Response

from subgraphs.auth.domain import Standing
from subgraphs.auth.tokens import Access, Tokens
from subgraphs.platform.domain import Event, Problem, Unauthenticated
from subgraphs.platform.security import TokenRefused

KEPT = 20_000
SPARE = 60  # seconds an identity has at least when it is handed out

StandingOf = Callable[[Access], Awaitable[Standing | None]]


@dataclass(frozen=True, slots=True)
class Minted:
    """An identity that was handed out. `until` is when its access token ends."""

    identity: str
    expires: int
    until: int
    account: UUID | None = None
    session: UUID | None = None


class Identity:
    """Exchanges tokens, and remembers the outcome."""

    def __init__(self, tokens: Tokens, standing: StandingOf, origins: Collection[str] = ()) -> None:
        self._tokens = tokens
        self._standing = standing
        self._origins = frozenset(origins)
        self._kept: OrderedDict[str, Minted] = OrderedDict()
        self._changes = 0
        self.hits = self.misses = 0

    def heard(self, event: Event) -> None:
        """Forgets what was said of a session or an account."""
        self._changes += 1
        session, account = event.data.get("sessionId"), event.data.get("userId")
        gone = [
            token
            for token, minted in self._kept.items()
            if str(minted.session) == session or (session is None and str(minted.account) == account)
        ]
        for token in gone:
            del self._kept[token]

    async def exchange(self, authorization: str | None, address: str) -> Minted:
        """The identity for an `Authorization` header, or an anonymous one; raises Unauthenticated."""
        token = bearer(authorization) if authorization is not None else None
        key = token or f"anonymous {address}"
        now = int(time.time())
        kept = self._kept.get(key)
        if kept and (kept.expires - now > SPARE or kept.expires == kept.until > now):
            self.hits += 1
            self._kept.move_to_end(key)
            return kept
        self.misses += 1
        changes = self._changes
        minted = self._anonymous(address, now) if token is None else await self._mint(token, now)
        if changes == self._changes:  # else something ended while we read, perhaps this very session
            self._kept[key] = minted
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return minted

    def _anonymous(self, address: str, now: int) -> Minted:
        identity, expires = self._tokens.nobody(address, now)
        return Minted(identity, expires, 0)

    async def _mint(self, token: str, now: int) -> Minted:
        access = self._tokens.read(token)
        standing = await self._standing(access)
        if standing is None:
            raise Unauthenticated("This session is over.", code="session_over", next_step="Log in again.")
        identity, expires = self._tokens.identity(access, standing.name, standing.role, now)
        return Minted(identity, expires, access.expires, access.account, access.session)

    async def answer(self, request: Request) -> Response:
        """The endpoint. 200 with the identity in a header, or 401 with a problem (RFC 9457) and its code."""
        authorizations = request.headers.getlist("authorization")
        try:
            if len(authorizations) > 1:
                raise TokenRefused("token_malformed", "Send one Authorization header.")
            minted = await self.exchange(authorizations[0] if authorizations else None, address_of(request))
        except Problem as problem:
            return refused(problem, self._readable_by(request.headers.get("origin")))
        headers = {
            "x-linkflow-identity": minted.identity,
            "x-linkflow-expires": str(minted.expires),
            "cache-control": "no-store",
        }
        return Response(status_code=200, headers=headers)

    def _readable_by(self, origin: str | None) -> dict[str, str]:
        """The edge passes a refusal on as it is, so pages of allowed origins must be able to read why (CORS)."""
        if origin is None or origin not in self._origins:
            return {}
        return {"access-control-allow-origin": origin, "vary": "origin"}

    async def keys(self, request: Request) -> Response:
        """The JWK set. Whoever keeps it for as long as it says refuses a withdrawn key within a minute."""
        headers = {"cache-control": "public, max-age=30", "access-control-allow-origin": "*"}
        return Response(orjson.dumps(self._tokens.jwks), media_type="application/jwk-set+json", headers=headers)


def bearer(authorization: str) -> str:
    """The token of `Bearer TOKEN` (RFC 6750); raises TokenRefused for any other scheme or form."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token or token != token.strip() or " " in token:
        raise TokenRefused("token_malformed", "Authorization must be: Bearer, a blank, the access token.")
    return token


def address_of(request: Request) -> str:
    """The client's address as the edge saw it: the last entry of X-Forwarded-For, which the edge itself wrote."""
    forwarded = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    return forwarded[:64] or (request.client.host if request.client else "")


def refused(problem: Problem, more: Mapping[str, str]) -> Response:
    """A 401 problem; `code` is stable, `title` is for people. `more`: further headers."""
    body = {
        "type": "about:blank",
        "status": 401,
        "title": problem.message,
        "code": problem.code,
        "nextStep": problem.next_step,
    }
    headers = {
        "www-authenticate": f'Bearer error="invalid_token", error_description="{problem.code}"',
        "cache-control": "no-store",
        **more,
    }
    return Response(orjson.dumps(body), status_code=401, media_type="application/problem+json", headers=headers)
