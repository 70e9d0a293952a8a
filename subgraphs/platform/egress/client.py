"""Requests through the guard: redirects, limits, and what may not be sent."""

from __future__ import annotations

import asyncio
import re
import ssl
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self
from urllib.parse import quote, urljoin, urlsplit

from subgraphs.platform.egress.addresses import Guard, Resolver, canonical, system_resolver
from subgraphs.platform.egress.faults import EgressError, EgressFailed, EgressRefused
from subgraphs.platform.egress.network import Network, Stale

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
URL_LIMIT = 8_192
HEADERS_LIMIT = 65_536
BODY_LIMIT = 10 * 1024 * 1024
"""Bytes of an answer, after decompression, unless the caller says otherwise."""
REDIRECTS = 3
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}\Z")
_VALUE = re.compile(r"[^\0-\x08\x0a-\x1f\x7f]{0,16384}\Z")
_OURS = frozenset(
    ("connection", "content-length", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
)
_KEPT_ACROSS_HOSTS = frozenset({"accept", "accept-language", "content-type", "user-agent", "accept-encoding"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_SPACE = re.compile(r"[\0-\x20\x7f\\]")


class Limits(Protocol):
    """The part of the settings that is used here."""

    @property
    def egress_allow(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `headers` in order, names in lower case; `body` decompressed; `url` after redirects."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes
    url: str

    def header(self, name: str) -> str | None:
        """The first header of that (lower case) name."""
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart and checked in form; its address is checked when it is dialled."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str) -> Target:
        """Raises EgressRefused `egress.url`, `.scheme` or `.host`."""
        if len(url) > URL_LIMIT or _SPACE.search(url):
            raise EgressRefused("egress.url", "The URL is too long or holds spaces, backslashes or control characters.")
        try:
            parts = urlsplit(url)
            port, host = parts.port, parts.hostname
        except ValueError:
            raise EgressRefused("egress.url", "The URL cannot be read.") from None
        if parts.scheme not in ("http", "https"):
            raise EgressRefused("egress.scheme", "Only http:// and https:// can be called.")
        if "@" in parts.netloc:
            raise EgressRefused("egress.url", "User and password in a URL are not sent; use a header.")
        if not host or port == 0:
            raise EgressRefused("egress.url", "The URL has no host, or an impossible port.")
        bracketed = f"[{host}]" if parts.netloc.startswith("[") else host
        path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~[]|") + (
            "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?[]|{}^`\"") if parts.query else ""
        )
        return cls(parts.scheme, canonical(bracketed), port or (443 if parts.scheme == "https" else 80), path)

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


@dataclass(slots=True)
class _Asked:
    method: str
    target: Target
    headers: list[tuple[str, str]]
    body: bytes
    sent: bool = field(default=False)

    def leaves(self) -> None:
        self.sent = True


class Egress:
    """The guarded client. One serves a process: it keeps connections open between calls. `close` when done."""

    def __init__(
        self, allow: Sequence[str] = (), *, resolve: Resolver = system_resolver, trust: ssl.SSLContext | None = None
    ) -> None:
        self._network = Network(Guard(allow, resolve), trust or ssl.create_default_context())

    @classmethod
    def from_settings(cls, settings: Limits) -> Self:
        return cls(settings.egress_allow)

    async def close(self) -> None:
        self._network.close()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout: float = 30.0,
        max_bytes: int = BODY_LIMIT,
        redirects: int = REDIRECTS,
    ) -> Answer:
        """One call, redirects included, within `timeout` seconds. Raises EgressRefused or EgressFailed."""
        if method not in METHODS:
            raise EgressRefused("egress.method", f"The method must be one of {', '.join(sorted(METHODS))}.")
        asked = _Asked(method, Target.of(url), _headers(headers or {}), body)
        try:
            async with asyncio.timeout(timeout):
                return await self._follow(asked, max_bytes, redirects)
        except TimeoutError:
            message = f"{asked.target.host} did not answer within {timeout:g} s."
            raise EgressFailed("egress.timeout", message, sent=asked.sent) from None

    async def _follow(self, asked: _Asked, max_bytes: int, redirects: int) -> Answer:
        for _ in range(redirects + 1):
            answer, location = await self._exchange(asked, max_bytes, follow=redirects > 0)
            if location is None:
                return answer
            _redirect(asked, answer.status, location)
        raise EgressRefused("egress.redirects", f"More than {redirects} redirects.", sent=True)

    async def _exchange(self, asked: _Asked, max_bytes: int, *, follow: bool) -> tuple[Answer, str | None]:
        target, collected = asked.target, _Collected(max_bytes, follow=follow)
        request, method = _request(asked), asked.method.encode()
        for attempt in range(3):
            try:
                await self._network.exchange(target, request, method, collected, asked.leaves)
                break
            except Stale:
                # The other side had closed a kept connection; whether it read the request first, nobody knows.
                if attempt == 2 or asked.method not in _SAFE:
                    message = f"{target.host} broke off before it answered."
                    raise EgressFailed("egress.disconnected", message, sent=True) from None
        body = b"".join(collected.pieces)
        return Answer(collected.status, collected.headers, body, target.url), collected.location


class _Collected:
    """Takes an answer: notes a redirect that is to be followed, else unpacks the body up to the limit."""

    def __init__(self, limit: int, *, follow: bool) -> None:
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.pieces: list[bytes] = []
        self.location: str | None = None
        self._limit, self._size, self._follow = limit, 0, follow
        self._unpack: _Unpack | None = None

    def head(self, status: int, headers: list[tuple[str, str]]) -> bool:
        self.status, self.headers = status, headers
        self.location = _location(status, headers) if self._follow else None
        if self.location is not None:
            return False
        declared = next((value for name, value in headers if name == "content-length"), "")
        if declared.isdigit() and int(declared) > self._limit:
            raise _too_large(self._limit)
        coding = next((value.strip().lower() for name, value in headers if name == "content-encoding"), "")
        if coding in ("gzip", "x-gzip", "deflate"):
            self._unpack = _Unpack(self._limit)
        elif coding not in ("", "identity"):
            message = f"The answer is encoded as {coding[:40]!r}, which nobody asked for."
            raise EgressFailed("egress.encoding", message, sent=True)
        return True

    def body(self, piece: bytes) -> None:
        """Raises as soon as the answer is known to be too large; nothing more is read then."""
        made = piece if self._unpack is None else self._unpack.feed(piece)
        self._size += len(made)
        if self._size > self._limit:
            raise _too_large(self._limit)
        self.pieces.append(made)


def _request(asked: _Asked) -> bytes:
    lines = [f"{asked.method} {asked.target.path} HTTP/1.1", f"host: {asked.target.authority}"]
    lines += [f"{name}: {value}" for name, value in asked.headers]
    if asked.body or asked.method in ("POST", "PUT", "PATCH"):
        lines.append(f"content-length: {len(asked.body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + asked.body


def _headers(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in headers.items():
        lower = name.lower()
        if not _NAME.match(name) or lower in _OURS or lower.startswith("proxy-"):
            raise EgressRefused("egress.header", f"The header {name[:64]!r} cannot be set.")
        if not _VALUE.match(value):
            raise EgressRefused("egress.header", f"The header {lower} holds a control character or is too long.")
        found.append((lower, value.strip(" \t")))
    if sum(len(name) + len(value) for name, value in found) > HEADERS_LIMIT:
        raise EgressRefused("egress.header", "The headers are too long.")
    names = {name for name, _ in found}
    found += [pair for pair in (("accept", "*/*"), ("user-agent", "LinkFlow")) if pair[0] not in names]
    return found if "accept-encoding" in names else [*found, ("accept-encoding", "gzip, deflate")]


def _location(status: int, headers: Sequence[tuple[str, str]]) -> str | None:
    if status not in (301, 302, 303, 307, 308):
        return None
    return next((value for name, value in headers if name == "location"), None)


def _redirect(asked: _Asked, status: int, location: str) -> None:
    """RFC 9110, 15.4. To another host, scheme or port go only headers that cannot be credentials."""
    before = asked.target
    asked.target = Target.of(urljoin(before.url, location))
    if status == 303 or (status in (301, 302) and asked.method == "POST"):
        asked.method = "HEAD" if asked.method == "HEAD" else "GET"
        asked.body = b""
        asked.headers = [pair for pair in asked.headers if not pair[0].startswith("content-")]
    if asked.target.origin != before.origin:
        asked.headers = [pair for pair in asked.headers if pair[0] in _KEPT_ACROSS_HOSTS]


def _too_large(max_bytes: int) -> EgressFailed:
    return EgressFailed("egress.too_large", f"The answer has more than {max_bytes} bytes.", sent=True)


class _Unpack:
    """gzip or zlib, never more than `limit` bytes in all (a bomb stops at the limit, not in memory)."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._stream = zlib.decompressobj(wbits=47)

    def feed(self, chunk: bytes) -> bytes:
        try:
            piece = self._stream.decompress(chunk, self._left + 1)
        except zlib.error:
            raise EgressFailed("egress.encoding", "The answer cannot be decompressed.", sent=True) from None
        self._left -= len(piece)
        return piece


__all__ = ["Answer", "Egress", "EgressError", "Target"]
