"""The proof of the hop: what the guard takes, and everything near it that it does not."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from subgraphs.platform.hop import HEADER, IDENTITY, WINDOW, HopGuard, HopRefused
from subgraphs.platform.settings import Settings

KEY = bytes(range(32))
NOW = 1_800_000_000.0
BODY = b'{"query":"{ me { id } }"}'
PATH = "/user/graphql"
GUARD = HopGuard(KEY, now=lambda: NOW)


def headers(proof: str, identity: str = "id-of-ann") -> dict[str, str]:
    return {HEADER: proof, IDENTITY: identity}


def test_a_fresh_proof_holds() -> None:
    GUARD.check(headers(GUARD.proof("POST", PATH, BODY, "id-of-ann")), BODY, method="POST", path=PATH)


def test_the_query_of_a_get_is_part_of_it() -> None:
    proof = GUARD.proof("GET", f"{PATH}?query=%7Bme%7D", b"", "id-of-ann")
    GUARD.check(headers(proof), b"", method="GET", path=PATH, query="query=%7Bme%7D")
    with pytest.raises(HopRefused):
        GUARD.check(headers(proof), b"", method="GET", path=PATH, query="query=%7Byou%7D")


@pytest.mark.parametrize(
    ("method", "path", "body", "identity"),
    [
        ("GET", PATH, BODY, "id-of-ann"),
        ("POST", "/auth/graphql", BODY, "id-of-ann"),
        ("POST", PATH, BODY + b" ", "id-of-ann"),
        ("POST", PATH, b"", "id-of-ann"),
        ("POST", PATH, BODY, "id-of-bob"),
        ("POST", PATH, BODY, ""),
    ],
)
def test_nothing_signed_may_change(method: str, path: str, body: bytes, identity: str) -> None:
    proof = GUARD.proof("POST", PATH, BODY, "id-of-ann")
    with pytest.raises(HopRefused):
        GUARD.check(headers(proof, identity), body, method=method, path=path)


@pytest.mark.parametrize("drift", [-WINDOW - 1, WINDOW + 1, -86_400, 86_400])
def test_a_proof_ends(drift: float) -> None:
    proof = GUARD.proof("POST", PATH, BODY, "id-of-ann", at=int(NOW + drift))
    with pytest.raises(HopRefused, match="clock"):
        GUARD.check(headers(proof), BODY, method="POST", path=PATH)


@pytest.mark.parametrize("drift", [-WINDOW + 1, WINDOW - 1])
def test_clocks_may_differ_a_little(drift: float) -> None:
    proof = GUARD.proof("POST", PATH, BODY, "id-of-ann", at=int(NOW + drift))
    GUARD.check(headers(proof), BODY, method="POST", path=PATH)


def test_another_key_does_not_sign() -> None:
    proof = HopGuard(bytes(32), now=lambda: NOW).proof("POST", PATH, BODY, "id-of-ann")
    with pytest.raises(HopRefused):
        GUARD.check(headers(proof), BODY, method="POST", path=PATH)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {HEADER: ""},
        {HEADER: "v1"},
        {HEADER: "v2;1800000000;" + "0" * 64},
        {HEADER: "v1;now;" + "0" * 64},
        {HEADER: "v1;1800000000;" + "0" * 63},
        {"authorization": "Bearer x"},
        {"authorization": "AWS4-HMAC-SHA256 "},
        {"authorization": "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host, Signature=" + "0" * 64},
    ],
)
def test_what_is_no_proof_is_refused(said: dict[str, str]) -> None:
    with pytest.raises(HopRefused):
        GUARD.check(said | {IDENTITY: "id-of-ann"}, BODY, method="POST", path=PATH)


def test_ten_thousand_damaged_proofs_are_refused() -> None:
    chance = random.Random(7)
    whole = GUARD.proof("POST", PATH, BODY, "id-of-ann")
    accepted = 0
    for _ in range(10_000):
        at = chance.randrange(len(whole))
        damaged = whole[:at] + chance.choice("0123456789abcdef;v") + whole[at + chance.randrange(2) :]
        if damaged == whole:
            continue
        try:
            GUARD.check(headers(damaged), BODY, method="POST", path=PATH)
            accepted += 1
        except HopRefused:
            pass
    assert accepted == 0


def test_a_socket_proves_path_and_identity() -> None:
    payload = {"identity": "id-of-ann", "hop": GUARD.proof("WS", PATH, b"", "id-of-ann")}
    GUARD.check_socket(payload, path=PATH)
    for changed in ({"identity": "id-of-bob"}, {"hop": "v1;1;0"}, {"hop": None}, {"identity": 7}):
        with pytest.raises(HopRefused):
            GUARD.check_socket(payload | changed, path=PATH)
    with pytest.raises(HopRefused):
        GUARD.check_socket(payload, path="/auth/graphql")
    with pytest.raises(HopRefused):
        GUARD.check_socket({"identity": "id-of-ann", "hop": GUARD.proof("POST", PATH, b"", "id-of-ann")}, path=PATH)


def test_the_key_is_made_once_and_kept_to_its_owner(tmp_path: Path) -> None:
    settings = Settings.load({"LINKFLOW_HOME": str(tmp_path)})
    first, second = HopGuard.from_settings(settings), HopGuard.from_settings(settings)
    proof = first.proof("POST", PATH, BODY, "id")
    second.check(headers(proof, "id"), BODY, method="POST", path=PATH)
    assert settings.gateway_secret_file.stat().st_mode & 0o777 == 0o600


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        HopGuard(b"short")
