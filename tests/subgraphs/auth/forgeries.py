"""Tokens that must not be believed, made from what an attacker can have: a good token, the public keys."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import RSAAlgorithm

Sign = Callable[[dict[str, Any], dict[str, Any]], str]


def encode(data: Any) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def part(token: str, at: int) -> dict[str, Any]:
    text = token.split(".")[at]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return found


def unsigned(header: Any, claims: Any, signature: str = "") -> str:
    return f"{encode(header)}.{encode(claims)}.{signature}"


def hmac_signed(header: dict[str, Any], claims: dict[str, Any], key: bytes, digest: Any = hashlib.sha256) -> str:
    body = f"{encode(header)}.{encode(claims)}"
    return f"{body}.{encode(hmac.new(key, body.encode(), digest).digest())}"


def forged(good: str, jwk: dict[str, Any]) -> Iterator[tuple[str, str, str | None]]:
    """(name, token, the code it is refused with, or nothing where several are right)."""
    header, claims = part(good, 0), part(good, 1)
    signature = good.split(".")[2]
    public = RSAAlgorithm.from_jwk({name: jwk[name] for name in ("kty", "n", "e")})
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)  # type: ignore[union-attr]
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)  # type: ignore[union-attr]
    for word in ("none", "None", "NONE", "nOnE", "none ", "", "RS256\u0000", "rs256"):
        yield f"alg {word!r}", unsigned(header | {"alg": word}, claims), "token_algorithm"
        yield f"alg {word!r} with the signature", unsigned(header | {"alg": word}, claims, signature), "token_algorithm"
    for name, key in (
        ("PEM", pem),
        ("DER", der),
        ("JWK", json.dumps(jwk).encode()),
        ("n", jwk["n"].encode()),
        ("no key", b""),
    ):
        yield f"HS256 under the {name}", hmac_signed(header | {"alg": "HS256"}, claims, key), "token_algorithm"
    yield "HS512 under the PEM", hmac_signed(header | {"alg": "HS512"}, claims, pem, hashlib.sha512), "token_algorithm"
    yield from _other_keys(header, claims)
    yield from _headers(header, claims, signature, jwk)
    yield from _shapes(good, header, claims, signature)


def _other_keys(header: dict[str, Any], claims: dict[str, Any]) -> Iterator[tuple[str, str, str | None]]:
    other = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    own = RSAAlgorithm.to_jwk(other.public_key(), as_dict=True) | {"kid": header["kid"], "use": "sig", "alg": "RS256"}

    def signed(**changes: Any) -> str:
        return jwt.encode(claims, other, algorithm="RS256", headers={**header, **changes})

    yield "another RSA key, our kid", signed(), "token_signature"
    yield "another RSA key, its own kid", signed(kid="mine"), "token_signature"
    for name, value in (
        ("jwk", own),
        ("jku", "http://127.0.0.1:1/k"),
        ("x5u", "http://127.0.0.1:1/c"),
        ("x5c", ["MIIB"]),
    ):
        yield f"another key, offered as {name}", signed(**{name: value}), "token_malformed"
    for kid in ("../../keys/gateway.key", "' or 1=1 --", "http://127.0.0.1:1/", "a\u0000b", "", "k" * 500, "/dev/null"):
        yield f"kid {kid[:20]!r}", signed(kid=kid), None
    curve = ec.generate_private_key(ec.SECP256R1())
    yield "ES256", jwt.encode(claims, curve, algorithm="ES256", headers=header | {"alg": "ES256"}), "token_algorithm"
    nothing = encode(bytes(64))
    yield "ES256 with r = s = 0", unsigned(header | {"alg": "ES256"}, claims, nothing), "token_algorithm"
    for algorithm in ("PS256", "RS384", "RS512"):
        yield (
            algorithm,
            jwt.encode(claims, other, algorithm=algorithm, headers=header | {"alg": algorithm}),
            "token_algorithm",
        )


def _headers(
    header: dict[str, Any], claims: dict[str, Any], signature: str, jwk: dict[str, Any]
) -> Iterator[tuple[str, str, str | None]]:
    changed: dict[str, Any] = {
        "crit of something unknown": {"crit": ["b64"], "b64": False},
        "b64 false": {"b64": False},
        "jwk with the true key": {"jwk": jwk},
        "zip": {"zip": "DEF"},
        "cty": {"cty": "JWT"},
        "typ JWT": {"typ": "JWT"},
        "typ of an identity": {"typ": "id+jwt" if header["typ"] != "id+jwt" else "at+jwt"},
        "typ missing": {"typ": None},
        "kid a number": {"kid": 7},
        "kid a list": {"kid": [header["kid"]]},
        "alg a list": {"alg": ["RS256"]},
    }
    for name, change in changed.items():
        yield name, unsigned(header | change, claims, signature), None
    text = json.dumps(header)[1:]
    yield "alg twice", unsigned(('{"alg":"none",' + text).encode(), claims, signature), None
    yield "kid twice", unsigned(('{"kid":"x",' + text).encode(), claims, signature), None
    yield "header a list", unsigned([header], claims, signature), "token_malformed"
    yield "header no JSON", unsigned(b"{", claims, signature), "token_malformed"
    yield "header nested 10,000 deep", unsigned(b"[" * 5_000, claims, signature), "token_malformed"


def _shapes(
    good: str, header: dict[str, Any], claims: dict[str, Any], signature: str
) -> Iterator[tuple[str, str, str | None]]:
    first, second, _ = good.split(".")
    text = json.dumps(claims)[1:]
    yield "no signature", f"{first}.{second}.", "token_malformed"
    yield "two parts", f"{first}.{second}", "token_malformed"
    yield "four parts", f"{good}.x", "token_malformed"
    yield "five parts, as a JWE", f"{good}.x.y", "token_malformed"
    yield "signature of zeros", f"{first}.{second}.{encode(bytes(384))}", "token_signature"
    yield "signature cut", good[:-4], None
    yield (
        "another subject",
        unsigned(header, claims | {"sub": "00000000-0000-0000-0000-000000000000"}, signature),
        "token_signature",
    )
    yield (
        "another tenant",
        unsigned(header, claims | {"tid": "00000000-0000-0000-0000-000000000000"}, signature),
        "token_signature",
    )
    yield "a longer life", unsigned(header, claims | {"exp": claims["exp"] + 1}, signature), "token_signature"
    yield "sub twice", unsigned(header, ('{"sub":"x",' + text).encode(), signature), None
    yield "claims a list", unsigned(header, [claims], signature), None
    yield "padded", f"{first}=.{second}.{signature}", "token_malformed"
    yield "with a blank inside", f"{first}. {second}.{signature}", None
    yield "the header alone", first, "token_malformed"
    yield "a JWT in a JWT", unsigned(header | {"cty": "JWT"}, good.encode(), signature), None
    yield "20,000 characters", good + "A" * 20_000, "token_malformed"
    yield "not ASCII", good[:-1] + "é", None
    yield "nothing", "", None


def misdated(claims: dict[str, Any], sign: Sign) -> Iterator[tuple[str, str, str]]:
    """Well signed tokens whose claims must not be believed. `sign(claims, header changes)` is Auth's own key."""
    now = int(time.time())
    yield "expired", sign(claims | {"iat": now - 4_000, "exp": now - 400}, {}), "token_expired"
    yield "just expired, beyond the leeway", sign(claims | {"iat": now - 4_000, "exp": now - 31}, {}), "token_expired"
    yield "from the future", sign(claims | {"iat": now + 3_600, "exp": now + 7_200}, {}), "token_malformed"
    yield "not before the future", sign(claims | {"nbf": now + 3_600}, {}), "token_malformed"
    for name, value in (
        ("text", str(now + 600)),
        ("float", now + 600.5),
        ("1e308", 1e308),
        ("true", True),
        ("null", None),
        ("list", [now]),
    ):
        yield f"exp {name}", sign(claims | {"exp": value}, {}), "token_malformed"
    for name in ("exp", "iat", "sub", "iss", "aud", "tid", "sid"):
        yield (
            f"without {name}",
            sign({key: value for key, value in claims.items() if key != name}, {}),
            "token_malformed",
        )
    issuer = claims["iss"]
    for wrong in (issuer + ".evil.example", issuer + "/", issuer.upper(), "linkflow", ""):
        yield f"issuer {wrong!r}", sign(claims | {"iss": wrong}, {}), "token_issuer"
    for audience in ("subgraphs", "linkflow2", "", ["linkflow", "other"], ["linkflow"], 7):
        yield f"audience {audience!r}", sign(claims | {"aud": audience}, {}), "token_audience"
    for sub in ("", "anonymous", "root", 7, None):
        yield f"subject {sub!r}", sign(claims | {"sub": sub}, {}), "token_malformed"
    yield "type of another token", sign(claims, {"typ": "rt+jwt"}), "token_malformed"
    yield "type JWT", sign(claims, {"typ": "JWT"}), "token_malformed"
