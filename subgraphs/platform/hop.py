"""Proof of the last hop: only a router that knows `gateway.key` may speak to a subgraph's GraphQL endpoint.

Who calls is a separate question, answered by the signed identity; this one is "did it come through our router".
Two proofs are taken, both HMAC-SHA-256 under the same key file:

* Hive Gateway (`router/hop.mjs`): header `X-Linkflow-Hop: v1;<unix seconds>;<hex>`, over method, path, time, body and
  identity. For a websocket the same string, with method `WS` and an empty body, stands in `connection_init` as `hop`.
* Apollo Router: AWS Signature Version 4 (`authentication.subgraph.all.aws_sig_v4`): method, path, host, date, body.

Both hold for `WINDOW` seconds around their time. There is no single-use nonce: one client request fans out to many.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from subgraphs.platform.domain import Problem
from subgraphs.platform.settings import Settings, key_file

WINDOW = 60.0  # seconds a proof holds before and after its time: clocks of two machines, and a queue between them
HEADER = "x-linkflow-hop"
IDENTITY = "x-linkflow-identity"
ACCESS_KEY, REGION, SERVICE = "linkflow-router", "local", "linkflow"  # as in router/router.yaml

_SIGV4 = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<credential>[^,\s]+),\s*SignedHeaders=(?P<signed>[a-z0-9;-]+),\s*"
    r"Signature=(?P<signature>[0-9a-f]{64})"
)


class HopRefused(Problem):
    """The request did not come through the router, or was changed or kept on its way. Answered with 401."""

    kind, default_code = "Unauthenticated", "hop_refused"


def refused(why: str) -> HopRefused:
    return HopRefused(
        f"This endpoint answers the router only: {why}.", next_step="Send the request to the public /graphql address."
    )


class HopGuard:
    """Checks the proofs. One per process; holds the key, no state."""

    def __init__(self, key: bytes, *, now: Callable[[], float] = time.time) -> None:
        if len(key) < 32:
            raise ValueError("the gateway's key has at least 32 bytes")
        self._key = key
        self._now = now

    @classmethod
    def from_settings(cls, settings: Settings) -> HopGuard:
        """The guard for `settings.gateway_secret_file`; makes that key (mode 0600) when nobody did yet."""
        return cls(key_file(settings.gateway_secret_file))

    def check(self, headers: Mapping[str, str], body: bytes, *, method: str, path: str, query: str = "") -> None:
        """Return if one proof holds; raise HopRefused otherwise.

        `headers` by lower-case name, `body` as received, `path` percent-encoded as on the request line and `query`
        without its question mark. A GET's query counts as part of the path for Hive's proof.
        """
        if proof := headers.get(HEADER):
            target = f"{path}?{query}" if query else path
            self._check_own(proof, method, target, body, headers.get(IDENTITY, ""))
        elif headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 "):
            self._check_sigv4(headers, body, method, path, query)
        else:
            raise refused("it carries no proof")

    def check_socket(self, payload: Mapping[str, Any], *, path: str) -> None:
        """The same for `connection_init`: `payload` holds `hop` and `identity`."""
        proof, identity = payload.get("hop"), payload.get("identity")
        if not isinstance(proof, str) or not isinstance(identity, str):
            raise refused("the websocket carries no proof")
        self._check_own(proof, "WS", path, b"", identity)

    def proof(self, method: str, path: str, body: bytes, identity: str, *, at: int | None = None) -> str:
        """What Hive sends: for tools and tests that speak to a subgraph themselves."""
        moment = int(self._now()) if at is None else at
        return f"v1;{moment};{self._mac(moment, method, path, body, identity)}"

    def _mac(self, moment: int, method: str, path: str, body: bytes, identity: str) -> str:
        digests = hashlib.sha256(body).hexdigest(), hashlib.sha256(identity.encode()).hexdigest()
        text = "\n".join(("v1", str(moment), method.upper(), path, *digests))
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()

    def _check_own(self, proof: str, method: str, path: str, body: bytes, identity: str) -> None:
        match = re.fullmatch(r"v1;([1-9][0-9]{0,11});([0-9a-f]{64})", proof)
        if match is None:
            raise refused("its proof does not parse")
        moment = int(match[1])
        if not hmac.compare_digest(self._mac(moment, method, path, body, identity), match[2]):
            raise refused("its proof does not fit the request")
        self._fresh(moment)

    def _fresh(self, moment: float) -> None:
        if abs(self._now() - moment) > WINDOW:
            raise refused(f"its proof is more than {WINDOW:.0f} s away from this clock")

    def _check_sigv4(self, headers: Mapping[str, str], body: bytes, method: str, path: str, query: str) -> None:
        match = _SIGV4.fullmatch(headers["authorization"])
        date = headers.get("x-amz-date", "")
        if match is None or re.fullmatch(r"[0-9]{8}T[0-9]{6}Z", date) is None:
            raise refused("its signature does not parse")
        scope = f"{date[:8]}/{REGION}/{SERVICE}/aws4_request"
        signed = match["signed"].split(";")
        if match["credential"] != f"{ACCESS_KEY}/{scope}" or not {"host", "x-amz-date"} <= set(signed):
            raise refused("its signature has another scope")
        lines = "".join(f"{name}:{' '.join(headers.get(name, '').split())}\n" for name in signed)
        request = "\n".join(
            (method, _twice_quoted(path), _sorted(query), lines, match["signed"], hashlib.sha256(body).hexdigest())
        )
        text = "\n".join(("AWS4-HMAC-SHA256", date, scope, hashlib.sha256(request.encode()).hexdigest()))
        if not hmac.compare_digest(self._sigv4(date[:8], text), match["signature"]):
            raise refused("its signature does not fit the request")
        self._fresh(datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp())

    def _sigv4(self, day: str, text: str) -> str:
        key = b"AWS4" + self._key.hex().encode()
        for part in (day, REGION, SERVICE, "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _twice_quoted(path: str) -> str:
    return quote(path, safe="/-_.~")


def _sorted(query: str) -> str:
    return "&".join(sorted(part if "=" in part else f"{part}=" for part in query.split("&"))) if query else ""
