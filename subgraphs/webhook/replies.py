"""What leaves by a webhook's door: answers of workflows, problems, links to look an outcome up later.

An answer is made by a workflow's author and must not act with the authority of our origin in somebody's browser: it is
sandboxed, its type is not guessed, it sets no cookie, and no header of it governs the connection or the origin.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from subgraphs.platform.objects import Objects, Ref
from subgraphs.platform.security import SecretBox
from subgraphs.webhook.events import Replied
from subgraphs.webhook.intake import Refused

Header = tuple[bytes, bytes]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

GUARDS: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; sandbox"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
DROPPED = frozenset(
    [
        "set-cookie",
        "set-cookie2",
        "content-length",
        "content-type",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "proxy-authenticate",
        "proxy-connection",
        "content-security-policy",
        "content-security-policy-report-only",
        "x-content-type-options",
        "referrer-policy",
        "strict-transport-security",
        "clear-site-data",
        "service-worker-allowed",
        "alt-svc",
        "access-control-allow-credentials",
        "public-key-pins",
        "nel",
        "report-to",
        "reporting-endpoints",
        "refresh",
        "link",
        "x-frame-options",
        "date",
        "server",
        "origin-agent-cluster",
        "cross-origin-opener-policy",
        "document-policy",
        "permissions-policy",
        "cache-control",
    ]
)
_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,100}")
_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]{0,4096}")
_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,64}/[a-z0-9!#$&^_.+-]{1,64}(?:;[\t\x20-\x7e]{0,100})?", re.IGNORECASE)
JSON = b"application/json"
PROBLEM = b"application/problem+json"
LINK_SECONDS = 7 * 86_400
_CONTEXT = "webhook.status"
TITLES = {
    400: "Bad request",
    401: "Not authenticated",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timeout",
    413: "Too large",
    415: "Unsupported media type",
    503: "Unavailable",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: status, headers beside the guards, body."""

    status: int
    headers: Sequence[Header]
    body: bytes

    async def send(self, send: Send) -> None:
        length = (b"content-length", str(len(self.body)).encode())
        headers = [*GUARDS, *self.headers]
        if self.status not in {204, 304}:
            headers.append(length)
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def told(status: int, value: Mapping[str, Any], *headers: Header) -> Answer:
    return Answer(status, ((b"content-type", JSON), *headers), orjson.dumps(value))


def problem(refused: Refused, *headers: Header) -> Answer:
    """RFC 9457, with a code for programs and the next step for people."""
    value = {
        "type": "about:blank",
        "title": TITLES.get(refused.status, "Refused"),
        "status": refused.status,
        "code": refused.code,
        "detail": refused.message,
        "nextStep": refused.next_step,
    }
    return Answer(refused.status, ((b"content-type", PROBLEM), *headers), orjson.dumps(value))


def execution_header(execution: UUID | None) -> tuple[Header, ...]:
    return ((b"x-linkflow-execution", str(execution).encode()),) if execution else ()


async def of_workflow(reply: Replied, objects: Objects, tenant: UUID) -> Answer:
    """A workflow's answer, made harmless."""
    if not 200 <= reply.status <= 599:
        return problem(Refused(502, "reply_status", f"The workflow answered with the status {reply.status}."))
    headers = [(b"content-type", _content_type(reply.content_type)), *execution_header(reply.execution_id)]
    for given, value in reply.headers.items():
        name = given.lower()
        if name in DROPPED or name.startswith(("x-linkflow-", "sec-")):
            continue
        if _NAME.fullmatch(name) and _VALUE.fullmatch(value):
            headers.append((name.encode("latin-1"), value.encode("latin-1")))
    body = b"" if reply.status in {204, 205, 304} else await _body(reply, objects, tenant)
    return Answer(reply.status, headers, body)


async def _body(reply: Replied, objects: Objects, tenant: UUID) -> bytes:
    body = reply.body
    if (reference := Ref.of(body)) is not None:
        stored = await objects.get(tenant, reference)
        if reply.encoding == "json":
            return stored
        body = orjson.loads(stored)
    if reply.encoding == "json":
        return orjson.dumps(body)
    return body.encode() if isinstance(body, str) else b"" if body is None else orjson.dumps(body)


def _content_type(text: str) -> bytes:
    return text.encode() if _TYPE.fullmatch(text) else b"application/octet-stream"


@dataclass(frozen=True, slots=True)
class Pointer:
    """What a status link points at."""

    tenant: UUID
    execution: UUID
    partition: int


class Links:
    """Links under which a caller who did not wait long enough finds the outcome: sealed, and good for a week."""

    def __init__(self, box: SecretBox, public_url: str) -> None:
        self._box = box
        self._public_url = public_url

    def link(self, pointer: Pointer) -> str:
        until = int(time.time()) + LINK_SECONDS
        plain = pointer.tenant.bytes + until.to_bytes(8, "big") + pointer.partition.to_bytes(2, "big")
        sealed = self._box.seal(plain, f"{_CONTEXT}/{pointer.execution}")
        token = base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()
        return f"{self._public_url}/executions/{pointer.execution}/status?token={token}"

    def open(self, execution: UUID, token: str) -> Pointer | None:
        """What the link points at; None if it is not ours, is of another execution, or is too old."""
        try:
            sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            plain = self._box.open(sealed, f"{_CONTEXT}/{execution}")
        except (ValueError, binascii.Error):
            return None
        if len(plain) != 26 or int.from_bytes(plain[16:24], "big") < time.time():
            return None
        return Pointer(UUID(bytes=plain[:16]), execution, int.from_bytes(plain[24:], "big"))
