"""Tokens verified, keys fetched, secrets sealed.

Every subgraph believes the internal identity and nothing else: an RS256 JWT by Auth, for the audience `subgraphs`,
verified here against Auth's published keys. Client access tokens are verified by the same `Verifier`, in Auth.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import os
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import jwt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from jwt.algorithms import RSAAlgorithm

from subgraphs.platform.domain import Caller, Unauthenticated
from subgraphs.platform.settings import Settings, key_file

if TYPE_CHECKING:
    Keys = Mapping[str, RSAPublicKey]

LEEWAY = 30  # seconds two clocks may differ
LONGEST_TOKEN = 8_192
SMALLEST_KEY = 3_072  # bits (OWASP ASVS 5.0, 11.2.3: 128-bit strength)
INTERNAL_ISSUER, INTERNAL_AUDIENCE, INTERNAL_TYPE = "linkflow-auth", "subgraphs", "id+jwt"
_HEADERS = frozenset({"alg", "typ", "kid"})
_SEGMENT = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


class TokenRefused(Unauthenticated):
    """The token does not hold. `code`: token_malformed, _algorithm, _signature, _expired, _issuer, _audience."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message, code=code, next_step="Call refreshSession or logIn for a new access token.")


class Verifier:
    """Checks tokens of one kind. Everything that is not exactly as we make it is refused.

    Header: `alg` RS256, `typ` as given, a known `kid`, nothing else. Claims: exact issuer, one exact audience, integer
    `exp` and `iat` within LEEWAY, `sub`. The key is never taken from the token. RFC 8725 says why.
    """

    def __init__(self, *, issuer: str, audience: str, kind: str) -> None:
        self.issuer, self.audience, self.kind = issuer, audience, kind

    def key_id(self, token: str) -> str:
        """The key the token names; raises TokenRefused for a header that is not ours."""
        if len(token) > LONGEST_TOKEN or not token.isascii():
            raise TokenRefused("token_malformed", "The token is too long or not ASCII.")
        segments = token.split(".")
        if len(segments) != 3 or not all(map(_SEGMENT.issuperset, segments)) or not segments[0]:
            raise TokenRefused("token_malformed", "The token does not have three base64url parts.")
        header = _strict_object(segments[0])
        if header.get("alg") != "RS256":
            raise TokenRefused("token_algorithm", "The token is not signed with RS256.")
        kid = header.get("kid")
        if header.get("typ") != self.kind or not isinstance(kid, str) or set(header) != _HEADERS:
            raise TokenRefused("token_malformed", "The token's header is not one of ours.")
        if not segments[2]:
            raise TokenRefused("token_malformed", "The token is not signed.")
        _strict_object(segments[1])
        return kid

    def claims(self, token: str, key: RSAPublicKey) -> dict[str, Any]:
        """The claims of a token signed by `key`; raises TokenRefused."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                options={
                    "require": ["exp", "iat", "sub", "iss", "aud"],
                    "verify_aud": False,
                    "verify_iss": False,
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except jwt.InvalidSignatureError:
            raise TokenRefused("token_signature", "The token's signature does not hold.") from None
        except (jwt.PyJWTError, ValueError):
            raise TokenRefused("token_malformed", "The token does not parse.") from None
        self._check(claims)
        return claims

    def _check(self, claims: Mapping[str, Any]) -> None:
        now = time.time()
        for name in ("exp", "iat", "nbf"):
            if name in claims and type(claims[name]) is not int:
                raise TokenRefused("token_malformed", f"The token's {name} is not a whole number.")
        if claims["iss"] != self.issuer:
            raise TokenRefused("token_issuer", "The token is from another issuer.")
        if claims["aud"] != self.audience:
            raise TokenRefused("token_audience", "The token is for another audience.")
        if claims["exp"] <= now - LEEWAY:
            raise TokenRefused("token_expired", "The token has expired.")
        if claims["iat"] > now + LEEWAY or claims.get("nbf", 0) > now + LEEWAY:
            raise TokenRefused("token_malformed", "The token is from the future.")
        if not isinstance(claims["sub"], str) or not claims["sub"]:
            raise TokenRefused("token_malformed", "The token names no subject.")


def _strict_object(segment: str) -> dict[str, Any]:
    """The JSON object in a base64url segment without padding; a repeated key is refused."""
    try:
        text = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
        found = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_refuse)
    except (binascii.Error, ValueError, RecursionError):
        raise TokenRefused("token_malformed", "The token does not parse.") from None
    if not isinstance(found, dict):
        raise TokenRefused("token_malformed", "The token does not parse.")
    return found


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("repeated key")
    return found


def _refuse(word: str) -> Any:
    raise ValueError(word)


def keys_of(jwks: Mapping[str, Any]) -> dict[str, RSAPublicKey]:
    """The usable keys of a JWK set by key id: RSA, for signatures, RS256, large enough."""
    found: dict[str, RSAPublicKey] = {}
    for entry in jwks.get("keys", ()):
        if entry.get("kty") == "RSA" and entry.get("use") == "sig" and entry.get("alg") == "RS256" and entry.get("kid"):
            key = RSAAlgorithm.from_jwk({name: entry[name] for name in ("kty", "n", "e")})
            if isinstance(key, RSAPublicKey) and key.key_size >= SMALLEST_KEY:
                found[entry["kid"]] = key
    return found


class KeySet:
    """Auth's public keys: fetched when first needed, again every `FRESH` seconds of use, and for an unknown key id.

    If Auth cannot be reached the keys at hand stay good for `STALE` seconds. A key that Auth withdraws is refused by
    every process within FRESH seconds.
    """

    FRESH, STALE, PAUSE = 45.0, 600.0, 2.0

    def __init__(self, fetch: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
        self._fetch = fetch
        self._keys: Keys = {}
        self._read_at = self._tried_at = float("-inf")
        self._reading = asyncio.Lock()
        self.generation = 0

    @property
    def fresh(self) -> bool:
        return time.monotonic() - self._read_at < self.FRESH

    async def key(self, kid: str) -> RSAPublicKey | None:
        if not self.fresh or (kid not in self._keys and time.monotonic() - self._tried_at > self.PAUSE):
            await self._read()
        return self._keys.get(kid)

    async def _read(self) -> None:
        async with self._reading:
            now = time.monotonic()
            if now - self._tried_at <= self.PAUSE and self._keys:
                return
            self._tried_at = now
            try:
                found = keys_of(await self._fetch())
            except (httpx.HTTPError, ValueError, KeyError) as error:
                if now - self._read_at > self.STALE:
                    raise Unauthenticated(
                        "Identities cannot be checked at the moment.", code="keys_unavailable", next_step="Try again."
                    ) from error
                return
            if dict(self._keys) != found:
                self.generation += 1
            self._keys, self._read_at = found, now


class Identities:
    """Turns internal identities into callers. A token seen before costs a look-up until it expires."""

    KEPT = 10_000

    def __init__(self, settings: Settings) -> None:
        self._url = settings.jwks_url
        self._http: httpx.AsyncClient | None = None
        self._verifier = Verifier(issuer=INTERNAL_ISSUER, audience=INTERNAL_AUDIENCE, kind=INTERNAL_TYPE)
        self._known: OrderedDict[str, tuple[float, Caller]] = OrderedDict()
        self.keys = KeySet(self._fetched)
        self.hits = self.misses = 0
        self._generation = 0

    async def open(self) -> None:
        self._http = httpx.AsyncClient(timeout=3, trust_env=False)

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()

    def use(self, fetch: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
        """Takes the key set from Auth itself, when Auth is served by this very process."""
        self.keys = KeySet(fetch)

    async def caller(self, token: str) -> Caller:
        """Who the identity says is calling; raises TokenRefused."""
        known = self._known.get(token)
        if known and known[0] > time.time() and self.keys.fresh and self._generation == self.keys.generation:
            self.hits += 1
            return known[1]
        self.misses += 1
        key = await self.keys.key(self._verifier.key_id(token))
        if key is None:
            raise TokenRefused("token_signature", "The token is signed with a key that Auth does not publish.")
        claims = self._verifier.claims(token, key)
        caller = caller_of(claims)
        if self._generation != self.keys.generation:
            self._known.clear()
            self._generation = self.keys.generation
        self._known[token] = (claims["exp"] + LEEWAY, caller)
        if len(self._known) > self.KEPT:
            self._known.popitem(last=False)
        return caller

    async def _fetched(self) -> Mapping[str, Any]:
        if self._http is None:
            raise Unauthenticated("Identities cannot be checked yet.", code="keys_unavailable", next_step="Try again.")
        answer = await self._http.get(self._url)
        answer.raise_for_status()
        found: Mapping[str, Any] = answer.json()
        return found


def caller_of(claims: Mapping[str, Any]) -> Caller:
    """The caller in the claims of a verified internal identity; raises TokenRefused for claims that make no sense."""
    try:
        roles, scopes = frozenset(claims.get("roles", ())), frozenset(claims.get("scopes", ()))
        name, address = str(claims.get("name", "")), str(claims.get("addr", ""))
        if claims["sub"] == "anonymous":
            return Caller(address=address)
        return Caller(
            subject=UUID(claims["sub"]),
            tenant=UUID(claims["tid"]),
            session=UUID(claims["sid"]),
            name=name,
            roles=roles,
            scopes=scopes,
            address=address,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise TokenRefused("token_malformed", "The token's claims are not ours.") from None


class SecretBox:
    """Seals secrets for storage: AES-256-GCM under a key file, a fresh 96-bit nonce each, bound to a context.

    Sealed form: one byte of version, nonce, ciphertext with tag. The same `context` (say `webhook.endpoint/<id>`)
    must be given to open it, so that a sealed value copied into another row does not open.
    """

    _VERSION = b"\x01"

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._signing = hmac.digest(key, b"linkflow signing 1", "sha256")

    @classmethod
    def from_settings(cls, settings: Settings) -> SecretBox:
        """The box of `settings.secret_key_file`; makes that key (mode 0600) when nobody did yet."""
        return cls(key_file(settings.secret_key_file))

    def sign(self, data: bytes, context: str) -> bytes:
        """32 bytes that prove that we said `data` for this purpose: HMAC-SHA256 under a key made from the key file's.
        The same for the same data, so that what is signed may be said again."""
        return hmac.digest(self._signing, context.encode() + b"\0" + data, "sha256")

    def signed(self, data: bytes, signature: bytes, context: str) -> bool:
        """Whether the signature is ours, for this data and purpose; compared in constant time."""
        return hmac.compare_digest(self.sign(data, context), signature)

    def seal(self, secret: bytes, context: str = "") -> bytes:
        nonce = os.urandom(12)
        return self._VERSION + nonce + self._cipher.encrypt(nonce, secret, self._VERSION + context.encode())

    def open(self, sealed: bytes, context: str = "") -> bytes:
        """The secret; raises ValueError if the key, the context or a single bit is not the one it was sealed with."""
        try:
            if sealed[:1] != self._VERSION:
                raise ValueError("sealed by another version")
            return self._cipher.decrypt(sealed[1:13], sealed[13:], self._VERSION + context.encode())
        except InvalidTag:
            raise ValueError("the seal does not hold: another key, context, or content") from None
