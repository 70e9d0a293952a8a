"""The public door: `/webhook/hooks/TOKEN/…`. A call is stored with its event in one flush, then answered.

On the way of an ordinary call nothing is read from the database: endpoints are remembered until something about any of
them changes, and whether a call came before is decided by the very statement that stores it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from subgraphs.platform.domain import Event, uuid7
from subgraphs.platform.facts import read
from subgraphs.platform.objects import Ref
from subgraphs.platform.server import Ground
from subgraphs.platform.writer import Ingress, OutcomeUnknown, Unavailable
from subgraphs.webhook import events, intake, queries, replies, storage
from subgraphs.webhook.domain import Endpoint, Respond
from subgraphs.webhook.intake import Call, Refused
from subgraphs.webhook.replies import Answer, Header, Links, Pointer
from subgraphs.webhook.storage import CALL, SEEN, TOPIC, Rows, call_row

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Row = tuple[str, tuple[Any, ...]]

REMEMBERED = 10_000
GROWTH = 7
"""How many times larger a body may become as JSON text: a control character becomes six."""
BODY_SECONDS = 20.0
DRAINED = 4
"""How many times the largest body is still read, to be able to say that it was too large."""
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32}")

log = logging.getLogger("linkflow.webhook")


class Gone(Exception):
    """The caller went away before the body was complete."""


@dataclass(slots=True)
class Kept:
    """What is stored of a call: its raw body or the hash it is stored under, the item or a reference, rows of holds."""

    body: bytes | None
    body_ref: str | None
    item: dict[str, Any]
    holds: list[Row]


class Known:
    """Endpoints by the token of their URL, remembered until any endpoint changes anywhere."""

    def __init__(self, ground: Ground, rows: Rows) -> None:
        self._database = ground.database
        self._rows = rows
        self._kept: OrderedDict[str, Endpoint] = OrderedDict()
        self._changes = 0
        ground.bus.on_wake(TOPIC, self._changed)

    def _changed(self, _partition: int) -> None:
        self._changes += 1
        self._kept.clear()

    async def find(self, token: str) -> Endpoint | None:
        if (kept := self._kept.get(token)) is not None:
            self._kept.move_to_end(token)
            return kept
        if not _TOKEN.fullmatch(token):
            return None
        changes = self._changes
        async with self._database.read(None) as reading:
            found = await storage.by_token(reading, self._rows, token)
        if found is not None and changes == self._changes:  # else it may have changed while it was read
            self._kept[token] = found
            if len(self._kept) > REMEMBERED:
                self._kept.popitem(last=False)
        return found


class Door:
    """The ASGI application behind webhook URLs."""

    def __init__(self, ground: Ground, rows: Rows, links: Links) -> None:
        self.ground = ground
        self.links = links
        self.known = Known(ground, rows)
        self._limit = ground.settings.max_webhook_bytes
        self._inline = ground.settings.claim_check_bytes
        self._replica = ground.database.origin
        self._waiting: dict[str, asyncio.Future[Event | None]] = {}
        ground.writer.register(CALL)
        ground.writer.register(SEEN)
        ground.bus.listen([events.REPLIED], self._heard)

    async def __call__(self, scope: Scope, receive: Receive, send: replies.Send) -> None:
        try:
            answer = await self._answered(scope, receive)
        except Refused as refused:
            answer = replies.problem(refused)
        except Gone:
            return
        except (Unavailable, OutcomeUnknown, asyncpg.PostgresError) as error:
            log.exception("webhook.not_stored", extra={"error": repr(error)})
            unstored = Refused(503, "not_stored", "The call could not be stored.", "Send it again.")
            answer = replies.problem(unstored, (b"retry-after", b"1"))
        await answer.send(send)

    def release(self) -> None:
        """Lets everybody who waits go with a status link: the process ends."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(None)

    # -- one call

    async def _answered(self, scope: Scope, receive: Receive) -> Answer:
        token, _, rest = scope["path"].split("/hooks/", 1)[1].partition("/")
        endpoint = await self.known.find(token)
        if endpoint is None:
            raise Refused(404, "endpoint_unknown", "There is no webhook at this address.", "Check the URL.")
        method = scope["method"]
        allow = (b"allow", ", ".join((*endpoint.terms.methods, "HEAD", "OPTIONS")).encode())
        if method in {"OPTIONS", "HEAD"}:
            return Answer(204, (allow,), b"")
        query = scope["query_string"].decode("latin-1")
        call = Call(method, f"/{rest}", query, scope["headers"], b"")
        try:
            if method not in endpoint.terms.methods:
                raise Refused(405, "method_not_allowed", f"This webhook does not take {method}.", "See Allow.")
            call = Call(method, f"/{rest}", query, scope["headers"], await self._body(call, receive))
            intake.authenticate(endpoint, call)
            value, media = intake.content(call)
            item = intake.item(call, endpoint, value, media)
        except Refused as refused:
            await self._note(endpoint, call, refused)
            headers: tuple[Header, ...] = (allow,) if refused.status == 405 else ()
            if refused.status in {408, 413}:
                headers = ((b"connection", b"close"),)
            return replies.problem(refused, *headers)
        return await self._accept(endpoint, call, item)

    async def _body(self, call: Call, receive: Receive) -> bytes:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self._read(call, receive)
        except TimeoutError:
            raise Refused(408, "body_too_slow", f"The body took longer than {BODY_SECONDS:.0f} s.") from None

    async def _read(self, call: Call, receive: Receive) -> bytes:
        """The raw body; raises Refused when it is too large. What is moderately too large is read to its end and
        dropped: a caller who is cut off while sending never sees the answer."""
        declared = call.one("content-length")
        size = int(declared) if declared is not None and declared.isdigit() else 0
        chunks: list[bytes] = []
        read, more = 0, size <= self._limit * DRAINED
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            chunk, more = message.get("body", b""), message.get("more_body", False)
            read += len(chunk)
            if read <= self._limit:
                chunks.append(chunk)
            elif read > self._limit * DRAINED:
                break
        if max(read, size) > self._limit:
            raise Refused(413, "body_too_large", f"A call has at most {self._limit} bytes.", "Send a link instead.")
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _accept(self, endpoint: Endpoint, call: Call, item: dict[str, Any]) -> Answer:
        """Stores the call and starts a run, or finds that it came before."""
        execution, at, mode = uuid7(), datetime.now(UTC), endpoint.terms.respond
        lease = self.ground.leases.lease_for(execution)
        partition = lease.partition if lease else self.ground.leases.partition_of(execution)
        kept = await self._kept(endpoint, execution, call, item)
        row = call_row(
            endpoint,
            execution,
            at,
            self._told(endpoint, call),
            status=200 if mode is Respond.NOW else 202,
            outcome="accepted",
            body=kept.body,
            body_ref=kept.body_ref,
        )
        event = events.received(endpoint, execution, kept.item, partition, self._replica)
        ingress = Ingress([row, *kept.holds], [event])
        same = intake.same_key(endpoint, call)
        if same is not None:
            until = at + timedelta(seconds=same[1])
            ingress.claim = (SEEN.name, (endpoint.tenant, endpoint.id, same[0], execution, until))
        pointer = Pointer(endpoint.tenant, execution, partition)
        answer = await self._stored(ingress, pointer, None if mode is Respond.NOW else endpoint.terms.patience)
        if answer is None and same is not None:
            return await self._duplicate(endpoint, call, same[0])
        assert answer is not None  # noqa: S101 - without a claim nothing can be lost
        return answer

    async def _stored(self, ingress: Ingress, pointer: Pointer, patience: float | None) -> Answer | None:
        """Stores the call, and waits for the run's answer if it is wanted; None if the claim was lost."""
        execution = str(pointer.execution)
        header = replies.execution_header(pointer.execution)
        if patience is None:
            claimed = (await self.ground.writer.commit(ingress)).claimed
            return replies.told(200, {"executionId": execution}, *header) if claimed else None
        waiting = self._waiting[execution] = asyncio.get_running_loop().create_future()
        event = None
        try:
            if not (await self.ground.writer.commit(ingress)).claimed:
                return None
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    event = await waiting
        finally:
            del self._waiting[execution]
        if event is not None:
            return await replies.of_workflow(read(event, events.Replied), self.ground.objects, pointer.tenant)
        link = self.links.link(pointer)
        value = {"executionId": execution, "status": "running", "statusUrl": link}
        return replies.told(202, value, (b"location", link.encode()), *header)

    def _heard(self, event: Event) -> None:
        waiting = self._waiting.get(event.data["executionId"])
        if waiting is not None and not waiting.done():
            waiting.set_result(event)

    # -- what is kept of a call

    async def _kept(self, endpoint: Endpoint, id: UUID, call: Call, item: dict[str, Any]) -> Kept:
        """What is large goes to the object store: the raw body, and the item as JSON."""
        objects, tenant, size = self.ground.objects, endpoint.tenant, len(call.body)
        kept = Kept(call.body, None, item, [])
        if size > self._inline:
            raw = await objects.put(tenant, call.body)
            kept.body, kept.body_ref = None, raw.sha256
            kept.holds.append(objects.hold(tenant, raw, id))
        if size * GROWTH >= self._inline:
            found = await objects.check_in(tenant, orjson.dumps(item))
            if isinstance(found, Ref):
                kept.item = found.json()
                kept.holds.append(objects.hold(tenant, found, id))
        return kept

    def _told(self, endpoint: Endpoint, call: Call) -> dict[str, Any]:
        return {
            "method": call.method,
            "path": call.path,
            "query": call.query,
            "headers": orjson.dumps(intake.told_headers(call, endpoint)).decode(),
            "content_type": call.one("content-type"),
            "size": len(call.body),
        }

    async def _note(self, endpoint: Endpoint, call: Call, refused: Refused) -> None:
        """Keeps that a call was refused, and why, without its body."""
        row = call_row(
            endpoint,
            uuid7(),
            datetime.now(UTC),
            self._told(endpoint, call),
            status=refused.status,
            outcome="refused",
            reason=refused.code,
        )
        await self.ground.writer.commit(Ingress([row]))

    async def _duplicate(self, endpoint: Endpoint, call: Call, key: bytes) -> Answer:
        """Answers a repetition with the run that the first call started."""
        first = await queries.first_of(endpoint, key, database=self.ground.database)
        row = call_row(
            endpoint,
            uuid7(),
            datetime.now(UTC),
            self._told(endpoint, call),
            status=200,
            outcome="duplicate",
            duplicate_of=first,
        )
        await self.ground.writer.commit(Ingress([row]))
        value = {"executionId": str(first) if first else None, "duplicate": True}
        return replies.told(200, value, *replies.execution_header(first))
