"""One call, from bytes to a trigger's item: who called, what they sent, whether it came before. Pure.

The parser is chosen once, by Content-Type; what is not understood is refused, never guessed. Signatures are computed
over the raw bytes and compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import orjson

from subgraphs.webhook.domain import GITHUB_DELIVERY, Auth, Dedupe, Endpoint, Preset, State

DEPTH = 100
"""Levels of nesting a JSON body may have."""
FIELDS = 1000
REPLAY_SECONDS = 300.0
HIDDEN = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"})
ID_HEADERS = ("webhook-id", "idempotency-key", "x-github-delivery")
_SIGNATURE = re.compile(rb"(?:sha256=)?([0-9a-fA-F]{64})")
_GITHUB_SIGNATURE = re.compile(rb"sha256=([0-9a-fA-F]{64})")
_JSON = re.compile(r"application/(?:[a-z0-9!#$&^_.+-]+\+)?json|text/json")
_TEXT = re.compile(r"text/[a-z0-9!#$&^_.+-]+|application/(?:[a-z0-9!#$&^_.+-]+\+)?xml")
FORM = "application/x-www-form-urlencoded"

Headers = Sequence[tuple[bytes, bytes]]


class Refused(Exception):
    """A call that is not let in: the status, a code for programs, a sentence for people."""

    def __init__(self, status: int, code: str, message: str, next_step: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.next_step = status, code, message, next_step


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it came: `path` is what follows the token, header names are lower case bytes (as ASGI has them)."""

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes

    def all(self, name: str) -> list[bytes]:
        wanted = name.lower().encode("latin-1")
        return [value for key, value in self.headers if key == wanted]

    def one(self, name: str) -> str | None:
        """The header's only value; None when there is none, or several."""
        found = self.all(name)
        return found[0].decode("latin-1").strip() if len(found) == 1 else None


def authenticate(endpoint: Endpoint, call: Call) -> None:
    """Raises Refused unless the caller proved that they hold the endpoint's secret."""
    if endpoint.state is State.NEEDS_SECRET:
        message = "This endpoint is to check who calls and has no secret yet."
        raise Refused(503, "endpoint_needs_secret", message, "Its owner gives it one with configureEndpoint.")
    if endpoint.auth is Auth.NONE:
        return
    secret = endpoint.secret or b""
    found = call.all(endpoint.header)
    word = "signature" if endpoint.auth is Auth.HMAC else "secret"
    if not found:
        raise Refused(401, f"{word}_missing", f"The header {endpoint.header} is missing.", _how(endpoint))
    if len(found) > 1:
        raise Refused(401, f"{word}_malformed", f"The header {endpoint.header} came more than once.", _how(endpoint))
    if endpoint.auth is Auth.HEADER:
        if not hmac.compare_digest(found[0], secret):
            raise Refused(401, "secret_wrong", f"The header {endpoint.header} has not the right value.", _how(endpoint))
        return
    pattern = _GITHUB_SIGNATURE if endpoint.preset is Preset.GITHUB else _SIGNATURE
    written = pattern.fullmatch(found[0])
    if written is None:
        message = f"{endpoint.header} is not sha256= and 64 hexadecimal digits."
        raise Refused(401, "signature_malformed", message, _how(endpoint))
    expected = hmac.new(secret, call.body, hashlib.sha256).hexdigest().encode()
    if not hmac.compare_digest(written[1].lower(), expected):
        raise Refused(401, "signature_wrong", f"{endpoint.header} is not the signature of this body.", _how(endpoint))


def _how(endpoint: Endpoint) -> str:
    if endpoint.auth is Auth.HEADER:
        return f"Send the endpoint's secret, alone, in {endpoint.header}."
    signature = "sha256= and the HMAC-SHA256, in hexadecimal, of the exact body under the endpoint's secret"
    return f"Send in {endpoint.header}: {signature}."


def content(call: Call) -> tuple[Any, str | None]:
    """The body as a value (JSON, text, form fields; None if empty) and its media type; raises Refused."""
    if (encoding := call.one("content-encoding")) not in (None, "", "identity"):
        raise Refused(
            415, "encoding_unsupported", f"The content encoding {encoding} is not supported.", "Send it plain."
        )
    given = call.one("content-type")
    media = (given or "").split(";")[0].strip().lower()
    if not call.body:
        return None, media or None
    if _JSON.fullmatch(media):
        return _json(call.body), media
    if media == FORM:
        return _form(call.body), media
    if media == "" or _TEXT.fullmatch(media):
        return _text(call.body), media or None
    raise Refused(
        415,
        "content_type_unsupported",
        f"Bodies of type {media} are not supported.",
        "Send JSON, text, XML or form fields (application/x-www-form-urlencoded).",
    )


def item(call: Call, endpoint: Endpoint, body: Any, media: str | None) -> dict[str, Any]:
    """The trigger's item. Headers that carry credentials are left out."""
    return {
        "method": call.method,
        "path": call.path,
        "query": _query(call.query),
        "headers": told_headers(call, endpoint),
        "body": body,
        "contentType": media,
    }


def told_headers(call: Call, endpoint: Endpoint) -> dict[str, str]:
    """Headers by lower-case name, several of a name joined; without credentials and without what we add ourselves."""
    secret = endpoint.header.lower() if endpoint.auth is Auth.HEADER else ""
    found: dict[str, str] = {}
    for key, value in call.headers:
        name = key.decode("latin-1")
        if name in HIDDEN or name == secret or name.startswith("x-linkflow-"):
            continue
        text = value.decode("latin-1")
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def same_key(endpoint: Endpoint, call: Call) -> tuple[bytes, float] | None:
    """What this call has in common with its repetitions, and for how many seconds; None if repetitions are welcome.

    A delivery id is not signed, the body is. With GitHub's preset the signed body counts, so that a recorded call sent
    again under another id is still the same call (GitHub's own redeliveries have the same body). Signed calls of other
    senders count as the same by their id, or without one by their body for some minutes.
    """
    terms = endpoint.terms
    if terms.dedupe is Dedupe.NONE:
        return None
    body = _key("body", hashlib.sha256(call.body).hexdigest())
    if terms.dedupe is Dedupe.AUTO and endpoint.preset is Preset.GITHUB:
        return body, terms.window
    if terms.dedupe is Dedupe.BODY:
        return (body if endpoint.auth is Auth.HMAC else _key("call", call.path, call.query, body.hex())), terms.window
    own = terms.dedupe_header or (GITHUB_DELIVERY if endpoint.preset is Preset.GITHUB else None)
    for name in (own,) if own else ID_HEADERS:
        if value := call.one(name):
            return _key("id", name.lower(), value), terms.window
    if terms.dedupe is Dedupe.AUTO and endpoint.auth is Auth.HMAC:
        return body, min(terms.window, REPLAY_SECONDS)
    return None


def _key(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode()).digest()


def _json(body: bytes) -> Any:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if "depth" in str(error):
            raise _too_deep() from None
        raise Refused(400, "json_malformed", f"The body is not JSON: {error}.") from None
    if (body.count(b"[") + body.count(b"{")) > DEPTH and _deeper(value, DEPTH):
        raise _too_deep()
    return value


def _too_deep() -> Refused:
    return Refused(400, "json_too_deep", f"The body is nested more than {DEPTH} levels deep.", "Send it flatter.")


def _deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested more than so many levels; without recursion."""
    layer = [value]
    for _ in range(levels):
        layer = [
            inner
            for outer in layer
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
            if isinstance(inner, (dict, list))
        ]
        if not layer:
            return False
    return True


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(400, "text_malformed", "The body is not UTF-8.") from None


def _form(body: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(_text(body), keep_blank_values=True, max_num_fields=FIELDS)
    except ValueError:
        raise Refused(400, "form_malformed", f"The form has more than {FIELDS} fields.") from None
    return _gathered(pairs)


def _query(text: str) -> dict[str, Any]:
    try:
        return _gathered(parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS))
    except ValueError:
        raise Refused(400, "query_malformed", f"The query has more than {FIELDS} parts.") from None


def _gathered(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """A name that comes once has its text, one that comes more often a list."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    return found
