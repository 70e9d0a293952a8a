"""`/execution/resume/TOKEN`, by the edge at `/resume/TOKEN`: GET shows what is asked, POST answers it, once.

Nobody is logged in here: the link itself is the proof. GET and HEAD never change anything, whatever mail scanners do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson

from subgraphs.execution.domain import Answer
from subgraphs.execution.door import filled, pages
from subgraphs.execution.door.links import Links, Ticket, expired
from subgraphs.execution.door.taking import State, Taking
from subgraphs.execution.waits import OpenWait, port_of
from subgraphs.platform.writer import Unavailable

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

LARGEST = 256 * 1024
BODY_SECONDS = 20.0
METHODS = {"webhook": ("POST", "PUT", "PATCH"), "approval": ("GET", "HEAD", "POST"), "form": ("GET", "HEAD", "POST")}
HIDDEN = frozenset({b"authorization", b"cookie", b"proxy-authorization", b"x-linkflow-identity", b"x-linkflow-hop"})

log = logging.getLogger("linkflow.execution")


class Refused(Exception):
    """Why a link is not served: status, code, a sentence for people, what to do."""

    def __init__(self, status: int, code: str, message: str, next_step: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.next_step = status, code, message, next_step


UNKNOWN = Refused(404, "link_unknown", "This link is not valid.", "Open it exactly as it was sent to you.")
OLD = Refused(410, "link_expired", "This link is too old.", "Ask who sent it for a new one.")
DONE = "There is nothing left to do here."
STATES: Mapping[State, Refused] = {
    State.ANSWERED: Refused(410, "link_used", "This was answered already; a link works once.", DONE),
    State.ENDED: Refused(410, "run_ended", "The run this link belongs to has ended.", DONE),
    State.OVER: Refused(410, "wait_over", "The run no longer waits for this.", DONE),
    State.EARLY: Refused(409, "wait_early", "The run does not wait for this yet.", "Open the link again in a moment."),
    State.UNKNOWN: UNKNOWN,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: what matters of it."""

    method: str
    html: bool
    media: str
    headers: Mapping[str, str]
    query: str


class Door:
    """The ASGI application behind resume links."""

    def __init__(self, links: Links, taking: Taking) -> None:
        self.links, self.taking = links, taking

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = _asked(scope)
        try:
            status, title, body = await self._answered(scope["path_params"]["token"], asked, receive)
        except Refused as refused:
            await _refuse(send, asked, refused)
            return
        except (Unavailable, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            log.exception("resume.failed")
            down = Refused(503, "not_stored", "This cannot be answered at the moment.", "Try again.")
            await _refuse(send, asked, down)
            return
        if asked.html and not isinstance(body, bytes):
            body = pages.told(title, str(body.get("message", "")))
        await _send(send, status, body, asked.method)

    async def _answered(self, token: str, asked: Asked, receive: Receive) -> tuple[int, str, Any]:
        ticket = self.links.ticket(token)
        if ticket is None:
            raise UNKNOWN
        allowed = METHODS[ticket.kind]
        if asked.method not in allowed:
            said = f"This link takes {', '.join(allowed)}."
            raise Refused(405, "method_not_allowed", said, "Open it with GET where that is allowed, answer by POST.")
        if expired(ticket):
            raise OLD
        if asked.method in {"GET", "HEAD"}:
            return await self._shown(ticket)
        data = await _body(asked, receive)
        if ticket.kind == "webhook":
            return await self._taken(ticket, _call(asked, data), early=True)
        wait = await self._open(ticket)
        if ticket.kind == "approval":
            return await self._taken(ticket, _decision(asked, data, ticket))
        return await self._form(ticket, wait, asked, data)

    async def _open(self, ticket: Ticket) -> OpenWait:
        state, wait = await self.taking.look(ticket)
        if wait is None:
            raise STATES[state]
        return wait

    async def _shown(self, ticket: Ticket) -> tuple[int, str, Any]:
        wait = await self._open(ticket)
        if ticket.kind == "approval":
            return 200, wait.name, pages.approval(wait.name, str(wait.detail.get("message") or ""))
        schema = wait.detail.get("schema") or {}
        return 200, wait.name, pages.form(wait.name, str(wait.detail.get("description") or ""), schema, {}, {})

    async def _taken(self, ticket: Ticket, given: Answer, *, early: bool = False) -> tuple[int, str, Any]:
        state = await self.taking.take(ticket, given, early=early)
        if state is not State.OPEN:
            raise STATES[state]
        said = {"approved": "Approved.", "rejected": "Rejected."}.get(given.port, "Received.")
        return 200, "Thank you", {"message": f"{said} The run goes on.", "executionId": str(ticket.run)}

    async def _form(self, ticket: Ticket, wait: OpenWait, asked: Asked, data: bytes) -> tuple[int, str, Any]:
        schema = wait.detail.get("schema") or {}
        given = _json(data) if _is_json(asked.media) else filled.typed(schema, _pairs(data))
        wrong = filled.faults(schema, given)
        if not wrong:
            return await self._taken(ticket, Answer("main", given))
        if asked.html:
            shown = given if isinstance(given, dict) else {}
            return (
                422,
                wait.name,
                pages.form(wait.name, str(wait.detail.get("description") or ""), schema, shown, wrong),
            )
        return (
            422,
            wait.name,
            {
                "code": "form_invalid",
                "message": "Some fields are not as they should be.",
                "nextStep": "Correct the fields named and send all of them again; the link still works.",
                "fields": wrong,
            },
        )


def _asked(scope: Scope) -> Asked:
    headers = {name: value.decode("latin-1") for name, value in scope["headers"] if name not in HIDDEN}
    named = {name.decode("latin-1"): value for name, value in headers.items()}
    return Asked(
        method=scope["method"],
        html="text/html" in named.get("accept", ""),
        media=named.get("content-type", "").partition(";")[0].strip().lower(),
        headers=named,
        query=scope["query_string"].decode("latin-1"),
    )


def _decision(asked: Asked, data: bytes, ticket: Ticket) -> Answer:
    given = _json(data) if _is_json(asked.media) else _pairs(data)
    if not isinstance(given, dict):
        raise Refused(400, "decision_missing", "There is no decision in this.", "Send decision: approved or rejected.")
    decision, comment = given.get("decision"), given.get("comment") or ""
    if decision not in {"approved", "rejected"} or not isinstance(comment, str) or len(comment) > 2000:
        raise Refused(400, "decision_missing", "There is no decision in this.", "Send decision: approved or rejected.")
    told = {"approved": decision == "approved", "comment": comment, "by": ticket.approver or None, "at": None}
    return Answer(port_of(decision == "approved"), told)


def _call(asked: Asked, data: bytes) -> Answer:
    """What the run gets of a call: as the webhook trigger tells it."""
    text = data.decode("utf-8", "replace")
    body: Any = _json(data) if _is_json(asked.media) and data else _pairs(data) if "form" in asked.media else text
    query = filled.pairs(asked.query.encode("latin-1"))
    return Answer("main", {"method": asked.method, "headers": dict(asked.headers), "query": query, "body": body})


def _is_json(media: str) -> bool:
    return media == "application/json" or media.endswith("+json")


def _json(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Refused(400, "json_malformed", f"The body is not JSON: {error}.", "Send valid JSON, or a form.") from None


def _pairs(data: bytes) -> dict[str, str]:
    try:
        return filled.pairs(data)
    except ValueError:
        raise Refused(400, "form_malformed", "The body is not a form.", "Send name=value pairs, or JSON.") from None


async def _body(asked: Asked, receive: Receive) -> bytes:
    """The whole body; raises Refused when it is too large or too slow."""
    chunks, size, more = [], 0, True
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while more:
                message = await receive()
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                more = message.get("more_body", False)
                if size > LARGEST:
                    raise Refused(
                        413, "body_too_large", f"An answer has at most {LARGEST} bytes.", "Send a link instead."
                    )
    except TimeoutError:
        raise Refused(
            408, "body_too_slow", f"The body took longer than {BODY_SECONDS:.0f} s.", "Send it again."
        ) from None
    return b"".join(chunks)


async def _refuse(send: Send, asked: Asked, refused: Refused) -> None:
    if asked.html:
        said = f"{refused.message} {refused.next_step or ''}"
        await _send(send, refused.status, pages.told("This link", said), asked.method)
        return
    body = {"code": refused.code, "message": refused.message, "nextStep": refused.next_step}
    await _send(send, refused.status, body, asked.method)


async def _send(send: Send, status: int, body: Any, method: str) -> None:
    html = isinstance(body, bytes)
    data = body if html else orjson.dumps(body)
    headers = [
        (b"content-type", b"text/html; charset=utf-8" if html else b"application/json"),
        (b"content-length", str(len(data)).encode()),
        (b"cache-control", b"no-store"),
        (b"referrer-policy", b"no-referrer"),
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", pages.CSP.encode()),
        (b"x-robots-tag", b"noindex"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else data})
