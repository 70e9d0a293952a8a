"""`core.http`: calls another service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from subgraphs.engine.effects import effect_of
from subgraphs.engine.step import Item, StepError
from subgraphs.executor import probing
from subgraphs.executor.domain import Example, Manifest, NodeType, Out, StepFailed, fail, parameters
from subgraphs.executor.headers import request_headers
from subgraphs.executor.step import Step, text_of, type_name
from subgraphs.platform.egress import Answer, Egress, EgressFailed, EgressRefused

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""RFC 9110, 9.2.1."""
EFFECTS: list[dict[str, Any]] = [
    {"when": {"method": [None, *sorted(SAFE)]}, "effect": "read"},
    {"when": {"method": ["PUT", "DELETE"]}, "effect": "repeatable"},  # RFC 9110, 9.2.2: idempotent
    *({"when": {"effect": [each]}, "effect": each} for each in ("read", "repeatable", "keyed")),
]
WORTH_REPEATING = frozenset({408, 425, 429, 500, 502, 503, 504})
LONGEST_RETRY_AFTER = 86_400.0
TOLD = 2_000
"""Characters of an error's body that are told."""


async def body(step: Step) -> AsyncIterator[Out]:
    """Items are called side by side, at most `parallel` at a time, and leave in their order."""
    egress: Egress = step.tools.egress
    calls: list[asyncio.Task[Out]] = []
    width = step.parameters().get("parallel")
    slots = asyncio.Semaphore(width if type(width) is int and 1 <= width <= 50 else 10)

    async def one(index: int, item: Item, values: Mapping[str, Any] | StepFailed) -> Out:
        async with slots:
            try:
                if isinstance(values, StepFailed):
                    raise values
                return "main", step.made(await _call(egress, step, index, values), index, files=item.files)
            except StepFailed as failed:
                return step.rescue(index, failed.error)

    try:
        for index, item in enumerate(step.main):
            calls.append(asyncio.create_task(one(index, item, _values(step, item))))
        for call in calls:
            yield await call
    finally:
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


def _values(step: Step, item: Item) -> Mapping[str, Any] | StepFailed:
    try:
        return step.parameters(item)
    except StepFailed as failed:
        return failed


async def _call(egress: Egress, step: Step, index: int, values: Mapping[str, Any]) -> dict[str, Any]:
    method = _method(values)
    headers = request_headers(values["headers"])
    content, kind = _content(values)
    if kind is not None:
        headers.setdefault("content-type", kind)
    key = _key(step, index)
    if method not in SAFE:
        headers.setdefault("idempotency-key", key)
    try:
        answer = await egress.request(
            method,
            _url(values),
            headers=headers,
            body=content,
            timeout=min(_number(values, "timeout", 0.01, 600), step.request.timeout),
            max_bytes=int(_number(values, "maxBytes", 1, 10_485_760)),
            redirects=3 if values["followRedirects"] is True else 0,
        )
    except EgressRefused as refused:
        raise fail(refused.code.replace("egress.", "http."), refused.message, field=_field(refused.code)) from None
    except EgressFailed as failed:
        lost = _lost(method, values, failed)
        if lost.code == probing.UNKNOWN:
            lost = probing.settled(lost, await probing.happened(egress, step, key, values))
        raise StepFailed(lost) from None
    if answer.status >= 400 and values["failOnStatus"] is True:
        raise StepFailed(_status(answer))
    return _read(values["response"], answer)


async def probe(step: Step) -> bool | None:
    """Whether the calls of a step that was interrupted were carried out: all of them, or none; None if it is not known
    of one, or if some were and some were not."""
    found = {
        await probing.happened(step.tools.egress, step, _key(step, index), step.parameters(item))
        for index, item in enumerate(step.main)
    }
    return found.pop() if len(found) == 1 else None


def _key(step: Step, index: int) -> str:
    """The value of Idempotency-Key: a string of a structured field (draft-ietf-httpapi-idempotency-key-header-07;
    RFC 9651, 3.3.3), the same for every attempt, another for each item."""
    many = len(step.main) > 1
    return '"' + step.request.idempotency_key + (f"-{index}" if many else "") + '"'


def _method(values: Mapping[str, Any]) -> str:
    method = text_of(values["method"], "method").upper()
    if method not in METHODS:
        raise fail("parameter.invalid", f"method must be one of {', '.join(METHODS)}.", field="method")
    return method


def _number(values: Mapping[str, Any], name: str, least: float, most: float) -> float:
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise fail("parameter.invalid", f"{name} must be a number from {least:g} to {most:g}.", field=name)
    return float(value)


def _url(values: Mapping[str, Any]) -> str:
    url, query = text_of(values["url"], "url").strip(), values["query"]
    if not isinstance(query, Mapping):
        raise fail("parameter.invalid", f"query must be an object, not {type_name(query)}.", field="query")
    pairs = [(name, each) for name, value in query.items() for each in (value if isinstance(value, list) else [value])]
    if not pairs:
        return url
    plain = url.partition("#")[0]
    joint = "&" if "?" in plain else "?"
    return (
        plain + joint + urlencode([(name, _form(value)) for name, value in pairs if value is not None], quote_via=quote)
    )


def _form(value: Any) -> str:
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode()


def _content(values: Mapping[str, Any]) -> tuple[bytes, str | None]:
    """The request's body and its content type."""
    match values["body"]:
        case "json":
            return orjson.dumps(values.get("json")), "application/json"
        case "form":
            form = values.get("form") or {}
            if not isinstance(form, Mapping):
                raise fail("parameter.invalid", f"form must be an object, not {type_name(form)}.", field="form")
            fields = [(name, _form(value)) for name, value in form.items() if value is not None]
            return urlencode(fields).encode(), "application/x-www-form-urlencoded"
        case "text":
            return text_of(values["text"], "text").encode(), "text/plain; charset=utf-8"
        case "raw":
            return text_of(values["text"], "text").encode(), text_of(values["contentType"], "contentType")
    return b"", None


def _read(form: Any, answer: Answer) -> dict[str, Any]:
    """What leaves: the body as the item (`json`, `text`), or everything (`full`)."""
    if form == "text":
        return {"body": _text(answer)}
    parsed = _parsed(answer, strict=form == "json")
    if form == "json":
        return parsed if isinstance(parsed, dict) else {"body": parsed}
    headers: dict[str, str] = {}
    for name, value in answer.headers:
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return {"status": answer.status, "headers": headers, "body": parsed, "url": answer.url}


def _parsed(answer: Answer, *, strict: bool) -> Any:
    kind = (answer.header("content-type") or "").partition(";")[0].strip().lower()
    if not answer.body:
        return None
    if strict or kind == "application/json" or kind.endswith("+json"):
        try:
            return orjson.loads(answer.body)
        except orjson.JSONDecodeError as error:
            if strict:
                raise fail("http.not_json", f"The answer is no JSON: {str(error)[:200]}.", field="response") from None
    return _text(answer)


def _text(answer: Answer) -> str:
    kind = (answer.header("content-type") or "").lower()
    latin = "charset=iso-8859-1" in kind or "charset=latin1" in kind
    return answer.body.decode("latin-1" if latin else "utf-8", errors="replace")


def _status(answer: Answer) -> StepError:
    """A status of 400 or more as an error; whose fault it is decides whether it is worth another attempt."""
    status = answer.status
    kind = "limit" if status == 429 else "infrastructure" if status >= 500 or status in (408, 425) else "user"
    return StepError(
        code=f"http.status.{status}",
        message=f"The service answered {status}.",
        kind=kind,
        retryable=status in WORTH_REPEATING,
        retry_after=_retry_after(answer.header("retry-after")),
        detail={"status": status, "url": answer.url, "body": _text(answer)[:TOLD]},
    )


def _retry_after(value: str | None) -> float | None:
    """RFC 9110, 10.2.3: seconds, or a date."""
    if value is None:
        return None
    if value.strip().isdigit():
        return min(float(value), LONGEST_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime.now(UTC)
    return min(max(seconds.total_seconds(), 0.0), LONGEST_RETRY_AFTER)


def _lost(method: str, values: Mapping[str, Any], failed: EgressFailed) -> StepError:
    """A call that came to nothing. If an unsafe request may have arrived, nobody knows what it did: it is not tried
    again by itself, unless the service is said to honour the Idempotency-Key."""
    code = failed.code.replace("egress.", "http.")
    if failed.code in ("egress.too_large", "egress.encoding"):
        return StepError(code=code, message=failed.message, kind="limit")
    if failed.sent and effect_of({"effects": EFFECTS}, {**values, "method": method}) == "unsafe":
        message = f"{failed.message} The request may have been carried out."
        return StepError(code=probing.UNKNOWN, message=message, kind="user", detail={"cause": code})
    kind = "timeout" if failed.code == "egress.timeout" else "infrastructure"
    return StepError(code=code, message=failed.message, kind=kind, retryable=True)


def _field(code: str) -> str | None:
    field = code.removeprefix("egress.")
    return {"method": "method", "header": "headers", "redirects": None}.get(field, "url")


SECRET_HEADERS = [
    *("Authorization", "authorization", "AUTHORIZATION", "Cookie", "cookie"),
    *("X-API-Key", "X-Api-Key", "x-api-key", "X-Auth-Token", "x-auth-token"),
]
SHOWN_TEXT = {"body": ["text", "raw"]}
PROPERTIES: dict[str, Any] = {
    "method": {"type": "string", "enum": METHODS, "default": "GET", "title": "Method"},
    "url": {
        "type": "string",
        "minLength": 1,
        "title": "URL",
        "description": "http:// or https://. Private and special addresses are refused.",
        "x-editor": "expression",
    },
    "query": {
        "type": "object",
        "default": {},
        "title": "Query",
        "description": "Appended to the URL, encoded. A list repeats its name, null leaves it out.",
    },
    "headers": {
        "type": "object",
        "properties": {name: {"x-secret": True} for name in SECRET_HEADERS},
        "default": {},
        "title": "Headers",
        "description": "Credentials among them cannot be written out in a workflow, only come from an expression.",
    },
    "body": {
        "type": "string",
        "enum": ["none", "json", "form", "text", "raw"],
        "default": "none",
        "title": "Body",
        "description": "What is sent; it sets the content type unless a header does.",
    },
    "json": {"title": "JSON", "x-show": {"body": ["json"]}, "x-editor": "json"},
    "form": {"type": "object", "default": {}, "title": "Form", "x-show": {"body": ["form"]}},
    "text": {"type": "string", "default": "", "title": "Text", "x-show": SHOWN_TEXT, "x-editor": "expression"},
    "contentType": {
        "type": "string",
        "default": "application/octet-stream",
        "title": "Content type",
        "x-show": {"body": ["raw"]},
    },
    "response": {
        "type": "string",
        "enum": ["full", "json", "text"],
        "default": "full",
        "title": "Response",
        "description": "full: status, headers and body. json: the body as the item. text: the body as text.",
    },
    "failOnStatus": {
        "type": "boolean",
        "default": True,
        "title": "Fail on status",
        "description": "A status of 400 or more is the error http.status.NNN.",
    },
    "followRedirects": {"type": "boolean", "default": True, "title": "Follow redirects", "description": "At most 3."},
    "timeout": {"type": "number", "exclusiveMinimum": 0, "maximum": 600, "default": 30, "title": "Timeout in seconds"},
    "maxBytes": {
        "type": "integer",
        "minimum": 1,
        "maximum": 10_485_760,
        "default": 5_242_880,
        "title": "Largest answer",
        "description": "Bytes after decompression.",
    },
    "parallel": {
        "type": "integer",
        "minimum": 1,
        "maximum": 50,
        "default": 20,
        "title": "Side by side",
        "description": "How many items are called at the same time.",
    },
    "effect": {
        "type": "string",
        "enum": ["unsafe", "keyed", "repeatable", "read"],
        "default": "unsafe",
        "title": "Effect",
        "description": "Of POST and PATCH. keyed: the service honours Idempotency-Key. repeatable: twice is like once. "
        "read: it only reads. unsafe: none of these, so that it is never repeated when its outcome is unknown.",
        "x-show": probing.UNSAFE_METHODS,
    },
    **probing.PROPERTIES,
}

NODE = NodeType(
    Manifest(
        type="core.http",
        title="HTTP request",
        summary="Calls a service once for each item. GET, HEAD and OPTIONS only read; PUT and DELETE may be repeated; "
        "POST and PATCH carry an Idempotency-Key.",
        category="http",
        effect="unsafe",
        effects=EFFECTS,
        probes=True,
        timeout="PT1M",
        parameters=parameters(PROPERTIES, required=("url",)),
        output={
            "type": "object",
            "properties": {"status": {"type": "integer"}, "headers": {"type": "object"}, "body": {}},
        },
        limits={"bytes": 10_485_760, "seconds": 600, "redirects": 3, "parallel": 50},
        errors={
            "http.status.NNN": "The service answered with that status.",
            "http.address": "The address is private or special.",
            "http.timeout": "No answer in time.",
            "http.connect": "No connection.",
            "http.outcome_unknown": "An unsafe request may or may not have been carried out.",
            "http.too_large": "The answer is larger than allowed.",
            "http.not_json": "The answer is no JSON.",
            "http.header": "A header cannot be set.",
        },
        examples=(
            Example(
                "Read JSON",
                {"url": "https://api.example.org/users/{{ item.id }}", "response": "json"},
                [{"id": 7}],
                {"main": [{"id": 7, "name": "Ada"}]},
                service={"id": 7, "name": "Ada"},
            ),
            Example(
                "Send JSON, keep the text of the answer",
                {
                    "method": "POST",
                    "url": "https://api.example.org/orders",
                    "body": "json",
                    "json": {"id": "{{ item.id }}"},
                    "response": "text",
                },
                [{"id": 7}],
                {"main": [{"body": '{"order":1}'}]},
                service={"order": 1},
            ),
            Example(
                "No JSON where JSON was asked for",
                {"url": "https://api.example.org/", "response": "json"},
                [{}],
                error="http.not_json",
            ),
            Example(
                "A private address", {"url": "http://169.254.169.254/latest/meta-data"}, [{}], error="http.address"
            ),
        ),
    ),
    body,
    probe,
)
