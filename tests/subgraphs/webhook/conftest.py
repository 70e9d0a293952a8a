"""Webhook behind a real HTTP server, on a real database. Execution is played by the events it would publish."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import uvicorn

from subgraphs.platform.domain import Event, uuid7
from subgraphs.platform.server import Ground, application, ground_opened
from subgraphs.platform.settings import Settings
from subgraphs.webhook import service
from subgraphs.webhook.domain import Endpoint, Wish
from subgraphs.webhook.service import Webhook
from subgraphs.webhook.storage import endpoints

SECRET = "It's a Secret to Everybody"


@dataclass
class Hooks:
    """The served subgraph, and what a test does to it."""

    ground: Ground
    http: httpx.AsyncClient
    base: str
    tenant: UUID = field(default_factory=uuid4)
    releases: dict[UUID, int] = field(default_factory=dict)

    async def publish(self, workflow: UUID | None = None, **nodes: Mapping[str, Any]) -> list[Endpoint]:
        """Publishes a release whose webhook triggers have these parameters; their endpoints once they answer."""
        workflow = workflow or uuid7()
        release = self.releases[workflow] = self.releases.get(workflow, 0) + 1
        declared = [
            {"id": node, "type": "core.webhook", "version": "1.0.0", "parameters": dict(parameters)}
            for node, parameters in nodes.items()
        ]
        other = {"id": "set", "type": "core.set", "version": "1.0.0", "parameters": {}}
        data = {
            "workflowId": str(workflow),
            "name": "w",
            "release": release,
            "definition": {"format": "linkflow/1", "nodes": [*declared, other], "connections": []},
            "nodeTypes": {},
        }
        held = self.expect("webhook.release.held.v1", lambda event: event.data["workflowId"] == str(workflow))
        await self.tell("workflow.release.published.v1", workflow, data)
        await held
        return await self.endpoints_of(workflow)

    async def endpoints_of(self, workflow: UUID) -> list[Endpoint]:
        from subgraphs.webhook import queries
        from subgraphs.webhook.storage import Rows

        rows = Rows(self.ground.secrets)
        return list(await queries.of_workflow(workflow, tenant=self.tenant, database=self.ground.database, rows=rows))

    async def one(self, **parameters: Any) -> Endpoint:
        (endpoint,) = await self.publish(hook=parameters)
        return endpoint

    async def secured(self, secret: str = SECRET, **parameters: Any) -> Endpoint:
        """An endpoint that has its secret."""
        endpoint = await self.one(**parameters)
        return await self.configure(endpoint, Wish(secret=secret))

    async def configure(self, endpoint: Endpoint, wish: Wish) -> Endpoint:
        from datetime import UTC, datetime

        from subgraphs.webhook.storage import Rows

        async with endpoints(self.ground.database, Rows(self.ground.secrets), endpoint.tenant) as store:
            changed = (await store.by_id(endpoint.id)).configured(wish, datetime.now(UTC))
            await store.save(changed)
            return changed

    async def tell(self, kind: str, subject: UUID, data: Mapping[str, Any], tenant: UUID | None = None) -> Event:
        partition = self.ground.leases.partition_of(subject)
        event = Event(type=kind, subject=str(subject), data=data, tenant=tenant or self.tenant, partition=partition)
        await self.ground.bus.publish(event)
        return event

    def expect(self, kind: str, matches: Callable[[Event], bool] = lambda event: True) -> Awaitable[Event]:
        """The next committed event of a type that matches."""
        future: asyncio.Future[Event] = asyncio.get_running_loop().create_future()

        def heard(event: Event) -> None:
            if matches(event) and not future.done():
                future.set_result(event)

        stop = self.ground.bus.listen([kind], heard)
        future.add_done_callback(lambda _: stop())
        return future

    def received(self, endpoint: Endpoint) -> Awaitable[Event]:
        return self.expect("webhook.call.received.v1", lambda event: event.data["endpointId"] == str(endpoint.id))

    async def reply(self, execution: str, tenant: UUID | None = None, **data: Any) -> None:
        """What Execution publishes when the run answers."""
        told = {"executionId": execution, "address": "here", "headers": {}, "contentType": "application/json"}
        await self.tell("execution.execution.replied.v1", UUID(execution), told | {"encoding": "json"} | data, tenant)

    def url(self, endpoint: Endpoint, rest: str = "") -> str:
        return f"{self.base}/webhook/hooks/{endpoint.token}{rest}"

    async def post(self, endpoint: Endpoint, body: Any = b"{}", **words: Any) -> httpx.Response:
        headers = {"content-type": "application/json"} | words.pop("headers", {})
        return await self.http.post(self.url(endpoint, words.pop("rest", "")), content=body, headers=headers, **words)

    async def calls(self, endpoint: Endpoint) -> list[Mapping[str, Any]]:
        admin = self.ground.database
        async with admin.read(endpoint.tenant) as reading:
            from sqlalchemy import select

            from subgraphs.webhook.storage import call

            return [
                dict(row)
                for row in await reading.rows(select(call).where(call.c.endpoint == endpoint.id).order_by(call.c.id))
            ]


def signed(body: bytes, secret: str = SECRET, prefix: str = "sha256=") -> str:
    return prefix + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


@pytest.fixture(scope="module")
async def hooks(settings: Settings) -> AsyncIterator[Hooks]:
    made: list[Webhook] = []
    async with ground_opened(settings, [service.build]) as ground:
        assert not made
        config = uvicorn.Config(
            application(ground, ground.subgraphs), port=settings.serve_port, log_level="warning", lifespan="on"
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        base = f"http://127.0.0.1:{settings.serve_port}"
        async with httpx.AsyncClient(timeout=20) as http:
            yield Hooks(ground, http, base)
        server.should_exit = True
        await serving
