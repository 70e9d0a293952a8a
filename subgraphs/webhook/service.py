"""Webhook's process: the door, the status links, what it hears of workflows, its schema."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
from starlette.routing import Route

from subgraphs.platform.domain import Caller, uuid7
from subgraphs.platform.server import Ground, Incoming, Subgraph
from subgraphs.webhook import commands
from subgraphs.webhook.consumers import Consumers
from subgraphs.webhook.domain import Endpoint, Wish
from subgraphs.webhook.door import Door
from subgraphs.webhook.replies import Links
from subgraphs.webhook.schema import Context, schema
from subgraphs.webhook.status import Status
from subgraphs.webhook.storage import Rows, endpoints

FORGET_SECONDS = 600.0
FORGET = "delete from webhook.seen where until < clock_timestamp() - interval '1 hour'"

log = logging.getLogger("linkflow.webhook")


def _now() -> datetime:
    return datetime.now(UTC)


class Webhook:
    """The parts of Webhook, wired."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.rows = Rows(ground.secrets)
        links = Links(ground.secrets, ground.settings.public_url)
        self.door = Door(ground, self.rows, links)
        self.status = Status(ground, links)
        self._forgetting: asyncio.Task[None] | None = None
        Consumers(ground.objects, self.rows, _now, uuid7).register(ground.bus)

    async def start(self) -> None:
        self._forgetting = asyncio.create_task(self._forget(), name="webhook.forget")

    async def stop(self) -> None:
        self.door.release()
        if self._forgetting is not None:
            self._forgetting.cancel()
            await asyncio.gather(self._forgetting, return_exceptions=True)

    async def _forget(self) -> None:
        """Drops what only told repetitions apart, once that is over."""
        while True:
            await asyncio.sleep(FORGET_SECONDS)
            try:
                await self.ground.database.engine.execute(FORGET)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.warning("webhook.forget_failed", extra={"error": repr(error)})

    def url(self, token: str) -> str:
        return f"{self.ground.settings.public_url}/hooks/{token}"

    async def configure(self, id: UUID, wish: Wish, caller: Caller) -> Endpoint:
        async with endpoints(self.ground.database, self.rows, caller.must("webhook:write")) as store:
            return await commands.configure(id, wish, caller=caller, endpoints=store, now=_now())

    async def rotate(self, id: UUID, caller: Caller) -> Endpoint:
        async with endpoints(self.ground.database, self.rows, caller.must("webhook:write")) as store:
            return await commands.rotate(id, caller=caller, endpoints=store, now=_now())

    def context(self, caller: Caller, _incoming: Incoming) -> Context:
        return Context(caller, self.ground.database, self.rows, self.url, self.configure, self.rotate)


def build(ground: Ground) -> Subgraph:
    """Webhook on this ground; opens nothing."""
    webhook = Webhook(ground)
    routes = [
        Route("/hooks/{path:path}", webhook.door),
        Route("/executions/{execution}/status", webhook.status),
    ]
    return Subgraph("webhook", schema, webhook.context, routes=[*routes], start=webhook.start, stop=webhook.stop)
