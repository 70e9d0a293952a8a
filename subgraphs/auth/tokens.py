"""The tokens Auth makes: access tokens for clients, internal identities for subgraphs, opaque refresh tokens.

Both JWTs are RS256 under the same 3072-bit keys, told apart by issuer, audience and type. Keys are made at first start,
stored sealed, and published as a JWK set.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from jwt.algorithms import RSAAlgorithm

from subgraphs.platform.domain import ROLES
from subgraphs.platform.security import (
    INTERNAL_AUDIENCE,
    INTERNAL_ISSUER,
    INTERNAL_TYPE,
    SMALLEST_KEY,
    SecretBox,
    TokenRefused,
    Verifier,
)

ACCESS_AUDIENCE, ACCESS_TYPE = "linkflow", "at+jwt"  # RFC 9068
IDENTITY_LIFE = 300
REFRESH_PREFIX = "lfr_"
_CONTEXT = "auth.signing_key/"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A signing key as the table holds it: private part sealed, public part as a JWK."""

    kid: str
    sealed: bytes
    public: Mapping[str, Any]


def make_key(secrets_box: SecretBox) -> StoredKey:
    """A new key; its id is the thumbprint of RFC 7638."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=SMALLEST_KEY)
    jwk = RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
    core = json.dumps({name: jwk[name] for name in ("e", "kty", "n")}, separators=(",", ":"), sort_keys=True)
    kid = base64.urlsafe_b64encode(hashlib.sha256(core.encode()).digest()).rstrip(b"=").decode()
    plain = private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = {"kty": "RSA", "n": jwk["n"], "e": jwk["e"], "use": "sig", "alg": "RS256", "kid": kid}
    return StoredKey(kid, secrets_box.seal(plain, _CONTEXT + kid), public)


def refresh_token() -> str:
    """A new refresh token: 256 random bits behind a prefix that secret scanners can know."""
    return REFRESH_PREFIX + secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True)
class Access:
    """The claims of a verified access token."""

    account: UUID
    tenant: UUID
    session: UUID
    expires: int


class Tokens:
    """Signs with the newest key, verifies with all that are published."""

    def __init__(self, *, issuer: str, access_life: timedelta) -> None:
        self._issuer = issuer
        self._life = int(access_life.total_seconds())
        self._verifier = Verifier(issuer=issuer, audience=ACCESS_AUDIENCE, kind=ACCESS_TYPE)
        self._private: RSAPrivateKey | None = None
        self._kid = ""
        self._public: dict[str, RSAPublicKey] = {}
        self.jwks: dict[str, Any] = {"keys": []}

    def take(self, keys: Sequence[StoredKey], box: SecretBox) -> None:
        """Uses these keys from now on, the last for signing; raises ValueError if the seal of one does not hold."""
        for stored in keys:
            private = serialization.load_der_private_key(box.open(stored.sealed, _CONTEXT + stored.kid), None)
            if not isinstance(private, RSAPrivateKey) or private.key_size < SMALLEST_KEY:
                raise ValueError(f"signing key {stored.kid} is not RSA of {SMALLEST_KEY} bits")
            self._private, self._kid = private, stored.kid
            self._public[stored.kid] = private.public_key()
        self.jwks = {"keys": [dict(stored.public) for stored in keys]}

    def access(self, account: UUID, tenant: UUID, session: UUID, now: int) -> tuple[str, int]:
        """An access token and the second it expires."""
        expires = now + self._life
        claims = {
            "iss": self._issuer,
            "aud": ACCESS_AUDIENCE,
            "sub": str(account),
            "tid": str(tenant),
            "sid": str(session),
            "iat": now,
            "exp": expires,
            "jti": secrets.token_urlsafe(12),
        }
        return self._signed(claims, ACCESS_TYPE), expires

    def read(self, token: str) -> Access:
        """What a client's access token says; raises TokenRefused with a stable code."""
        key = self._public.get(self._verifier.key_id(token))
        if key is None:
            raise TokenRefused("token_signature", "The token is signed with a key that is not ours.")
        claims = self._verifier.claims(token, key)
        try:
            return Access(UUID(claims["sub"]), UUID(claims["tid"]), UUID(claims["sid"]), claims["exp"])
        except (KeyError, TypeError, ValueError, AttributeError):
            raise TokenRefused("token_malformed", "The token's claims are not ours.") from None

    def identity(self, access: Access, name: str, role: str | None, now: int) -> tuple[str, int]:
        """An internal identity for the holder of an access token, and when it expires (never after that token)."""
        expires = min(now + IDENTITY_LIFE, access.expires)
        claims = {
            "sub": str(access.account),
            "tid": str(access.tenant),
            "sid": str(access.session),
            "name": name,
            "roles": [role] if role else [],
            "scopes": sorted(ROLES.get(role or "", ())),
        }
        return self._internal(claims, now, expires), expires

    def nobody(self, address: str, now: int) -> tuple[str, int]:
        """An internal identity for an anonymous caller at this network address."""
        expires = now + IDENTITY_LIFE
        claims = {"sub": "anonymous", "roles": [], "scopes": [], "addr": address}
        return self._internal(claims, now, expires), expires

    def _internal(self, claims: dict[str, Any], now: int, expires: int) -> str:
        common = {"iss": INTERNAL_ISSUER, "aud": INTERNAL_AUDIENCE, "iat": now, "exp": expires}
        return self._signed(common | claims, INTERNAL_TYPE)

    def _signed(self, claims: dict[str, Any], kind: str) -> str:
        if self._private is None:
            raise RuntimeError("there is no signing key yet")
        return jwt.encode(claims, self._private, algorithm="RS256", headers={"typ": kind, "kid": self._kid})
