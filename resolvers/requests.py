"""What a request to the graph is, over HTTP or a socket: its parts, checks and refusals, and the door it passes."""

import json
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qsl

import orjson
from graphql import GraphQLError

from resolvers.extensions import CORRELATION, shown

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON_TYPE = "application/json"


class Refusal(Exception):
    """An answer other than a result: HTTP status, stable code, sentence. Sockets close with `close` and the code."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        close: int = 4400,
        headers: Mapping[str, str] | None = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.close = status, code, message, close
        self.headers = dict(headers or {})
        self.next_step = next_step


@dataclass(frozen=True, slots=True)
class Asked:
    """One HTTP request to the graph: `path` as on the request line, `query` without its question mark."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


class Door(Protocol):
    """Who may come in, and what resolvers get. Both raise Refusal; the context is made per operation."""

    async def admit(self, asked: Asked) -> Any:
        """The context of one operation."""

    async def admit_socket(self, path: str, payload: Mapping[str, Any]) -> tuple[Callable[[], Any], frozenset[str]]:
        """What makes the context of each operation of this connection, and which kinds of operation it may send."""


@dataclass(frozen=True, slots=True)
class Ran:
    """One finished operation, for metrics and logs: `root` is the first root field, which the schema bounds."""

    kind: str
    root: str
    name: str | None
    seconds: float
    errors: int


Watch = Callable[[Ran], None]


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of the draft's section 5, checked for type."""

    query: str
    variables: dict[str, Any] | None
    operation: str | None


def correlated(headers: Mapping[str, str]) -> str:
    """The id this request has in logs and errors: `x-request-id` if it is a short printable word, else a new one."""
    given = headers.get("x-request-id", "")
    correlation = given if 0 < len(given) <= 64 and given.isascii() and given.isprintable() else str(uuid.uuid4())
    CORRELATION.set(correlation)
    return correlation


def check_media(headers: Mapping[str, str]) -> None:
    """Raises 415 unless the body is announced as plain UTF-8 JSON."""
    media, *parameters = [part.strip().lower() for part in headers.get("content-type", "").split(";")]
    charset = [part.removeprefix("charset=").strip('"') for part in parameters if part.startswith("charset=")]
    if media != JSON_TYPE or any(found not in {"utf-8", "utf8"} for found in charset):
        raise Refusal(
            415, "CONTENT_TYPE", "Send the request as application/json in UTF-8.", headers={"accept": JSON_TYPE}
        )
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, "CONTENT_ENCODING", "Send the body uncompressed.", headers={"accept-encoding": "identity"})


async def read_body(headers: Mapping[str, str], receive: Receive, max_bytes: int) -> bytes:
    """The whole body; raises 413 as soon as it is known to be over `max_bytes`."""
    too_large = Refusal(413, "BODY_TOO_LARGE", f"A request holds at most {max_bytes} bytes.")
    announced = headers.get("content-length", "")
    if announced.isdigit() and int(announced[:20]) > max_bytes:
        raise too_large
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refusal(499, "CLIENT_GONE", "The client left before its request was complete.")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > max_bytes:
            raise too_large
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def parameters(asked: Asked) -> Parameters:
    """The GraphQL parameters of the request; raises 400 for anything that is not what the draft says."""
    if asked.method == "POST":
        found = read_json(asked.body)
        if isinstance(found, list):
            raise Refusal(400, "BATCHING_REFUSED", "Send one operation a request.")
    else:
        found = dict(parse_qsl(asked.query, keep_blank_values=True, encoding="utf-8", errors="replace"))
        for name in ("variables", "extensions"):
            if name in found:
                found[name] = read_json(found[name].encode())
    return checked(found)


def checked(found: Any) -> Parameters:
    """A request map as Parameters; raises 400 naming the parameter at fault. Used for sockets too."""
    if not isinstance(found, dict):
        raise _malformed("The request must be a JSON object.")
    query, variables, operation = found.get("query"), found.get("variables"), found.get("operationName")
    if not isinstance(query, str) or not query:
        raise _malformed("`query` must be the text of a document.")
    if variables is not None and not isinstance(variables, dict):
        raise _malformed("`variables` must be an object.")
    if operation is not None and not isinstance(operation, str):
        raise _malformed("`operationName` must be text.")
    if not isinstance(found.get("extensions"), dict | None):
        raise _malformed("`extensions` must be an object.")
    return Parameters(query, variables, operation or None)


def read_json(text: bytes | str) -> Any:
    """Strict JSON: no NaN, no number beyond a double, no lone surrogate, at most 1,000 levels; raises 400."""
    try:
        return orjson.loads(text)
    except ValueError as error:
        raise _malformed(f"The JSON does not parse: {error}.") from None


def _malformed(message: str) -> Refusal:
    return Refusal(400, "BAD_REQUEST", message)


def refused(refusal: Refusal, correlation: str) -> dict[str, Any]:
    extensions = {"code": refusal.code, "correlationId": correlation}
    if refusal.next_step:
        extensions["nextStep"] = refusal.next_step
    return {"message": refusal.message, "extensions": extensions}


def encode(body: Any) -> bytes:
    """JSON bytes; integers and text that orjson does not take (over 64 bits, lone surrogates) go the slower way."""
    try:
        return orjson.dumps(body)
    except TypeError:
        return json.dumps(body, separators=(",", ":")).encode()


def problems(errors: list[GraphQLError], at_most: int) -> list[dict[str, Any]]:
    """Errors as a socket's `error` message carries them."""
    return [shown(error) for error in errors[:at_most]]
