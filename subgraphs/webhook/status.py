"""`/webhook/executions/ID/status?token=…`: what became of a call whose caller did not wait long enough."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

import orjson

from subgraphs.platform.server import Ground
from subgraphs.webhook import events, replies
from subgraphs.webhook.door import Receive
from subgraphs.webhook.events import Replied
from subgraphs.webhook.intake import Refused
from subgraphs.webhook.replies import Answer, Links, Pointer

REPLY = (
    "select data from bus.log where subject = $1 and tenant = $2 and type = 'execution.execution.replied.v1' limit 1"
)


class Status:
    """The ASGI application behind status links. It reads the log of events, where the answer is kept for a week."""

    def __init__(self, ground: Ground, links: Links) -> None:
        self.ground = ground
        self.links = links

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: replies.Send) -> None:
        try:
            answer = await self._answered(scope)
        except Refused as refused:
            answer = replies.problem(refused)
        await answer.send(send)

    async def _answered(self, scope: MutableMapping[str, Any]) -> Answer:
        if scope["method"] not in {"GET", "HEAD"}:
            allow = (b"allow", b"GET, HEAD")
            return replies.problem(Refused(405, "method_not_allowed", "A status is read with GET."), allow)
        pointer = self._pointer(scope)
        execution = str(pointer.execution)
        header = replies.execution_header(pointer.execution)
        data = await self.ground.database.engine.fetchval(REPLY, execution, pointer.tenant)
        if data is None:
            return replies.told(200, {"executionId": execution, "status": "running"}, (b"retry-after", b"1"), *header)
        reply: Replied = events.convert(orjson.loads(data), Replied)
        made = await replies.of_workflow(reply, self.ground.objects, pointer.tenant)
        value = {
            "executionId": execution,
            "status": "finished",
            "reply": {
                "status": made.status,
                "contentType": reply.content_type,
                "body": orjson.loads(made.body) if reply.encoding == "json" and made.body else made.body.decode(),
            },
        }
        return replies.told(200, value, *header)

    def _pointer(self, scope: MutableMapping[str, Any]) -> Pointer:
        tokens = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        try:
            execution = UUID(scope["path_params"]["execution"])
        except ValueError:
            execution = None
        pointer = self.links.open(execution, tokens[0]) if execution and len(tokens) == 1 else None
        if pointer is None:
            raise Refused(404, "status_unknown", "This link is not valid, or is older than a week.")
        return pointer
