"""Execution on a real ground, with a small executor whose bodies tests hold and release."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from inspect import isawaitable
from typing import Any
from uuid import UUID

import msgspec

from subgraphs.engine.step import Item, Reply, StepError, StepOutcome, StepRequest, Wait
from subgraphs.execution import service
from subgraphs.platform.domain import ROLES, Caller, Event, uuid7
from subgraphs.platform.server import Ground, Incoming, Subgraph, ground_opened
from subgraphs.platform.settings import Settings

TYPES: dict[str, dict[str, Any]] = {
    "core.manual@1": {"effect": "pure", "trigger": True},
    "core.webhook@1": {"effect": "pure", "trigger": True},
    "core.set@1": {"effect": "pure"},
    "core.wait@1": {"effect": "pure"},
    "core.respond@1": {"effect": "pure"},
    "core.call@1": {"effect": "keyed"},
    "core.unsafe@1": {"effect": "unsafe"},
    "core.error@1": {"effect": "pure", "trigger": True},
    **{f"core.{kind}@1": {"effect": "pure"} for kind in ("signal", "event", "approval", "form", "callback", "child")},
}
HOLDING = {f"core.{kind}" for kind in ("signal", "event", "approval", "form", "callback", "child")}
WAITS = {"core.callback": "webhook"}


def definition(*nodes: Any, edges: str = "", **more: Any) -> dict[str, Any]:
    """Nodes as "id:type" or (id:type, parameters, settings); edges as in "a>b b.alt>c"."""
    made = []
    for node in nodes:
        text, parameters, settings = (node, {}, {}) if isinstance(node, str) else node
        name, _, kind = text.partition(":")
        made.append(
            {
                "id": name,
                "type": f"core.{kind}",
                "version": "1",
                "name": name.title(),
                "parameters": parameters,
                "settings": settings,
            }
        )
    connections = []
    for edge in edges.split():
        source, target = edge.split(">")
        name, _, port = source.partition(".")
        connections.append({"from": name, "output": port or "main", "to": target, "input": "main"})
    return {"format": "linkflow/1", "nodes": made, "connections": connections, **more}


@dataclass
class SmallExecutor:
    """`set` merges its parameters into each item, `wait` waits, `respond` replies, `call` and `unsafe` do what a test
    says; `signal`, `event`, `approval`, `form`, `callback`, `child` wait as `name` and `detail` say."""

    requests: list[StepRequest] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    faults: dict[str, list[StepError]] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    watch: Callable[[StepRequest], Awaitable[None]] | None = None
    happened: dict[str, bool | None] = field(default_factory=dict)
    remote: bool = False

    def gate(self, node: str) -> asyncio.Event:
        return self.gates.setdefault(node, asyncio.Event())

    def run_pure(self, request: StepRequest) -> StepOutcome:
        items = [item for port in request.inputs.values() for item in port]
        if request.type == "core.wait":
            until = request.now + timedelta(seconds=request.parameters["seconds"])
            return StepOutcome(wait=Wait(until))
        if request.type in HOLDING:
            kind = WAITS.get(request.type, request.type.partition(".")[2])
            name, detail = request.parameters.get("name", ""), request.parameters.get("detail", {})
            return StepOutcome(wait=Wait(None, kind, name, detail))
        if request.type == "core.respond":
            return StepOutcome(outputs={"main": items}, reply=Reply(201, {"x-a": "b"}, items[0].json))
        if request.node in self.outputs:
            return StepOutcome(outputs={"main": [Item(self.outputs[request.node])]})
        if not request.parameters:
            return StepOutcome(outputs={"main": items})
        return StepOutcome(outputs={"main": [Item({**item.json, **request.parameters}) for item in items]})

    async def probe(self, request: StepRequest) -> bool | None:
        return self.happened.get(request.node)

    async def run(self, request: StepRequest) -> StepOutcome:
        self.requests.append(request)
        if self.watch is not None:
            await self.watch(request)
        if request.type not in {"core.call", "core.unsafe"}:
            return self.run_pure(request)
        try:
            if request.node in self.gates:
                await self.gates[request.node].wait()
        except asyncio.CancelledError:
            self.stopped.append(request.node)
            raise
        if self.faults.get(request.node):
            return StepOutcome(error=self.faults[request.node].pop(0))
        return StepOutcome(outputs={"main": [Item({"called": request.node, "attempt": request.attempt})]})


@dataclass
class World:
    ground: Ground
    subgraph: Subgraph
    executor: SmallExecutor
    caller: Caller

    @property
    def tenant(self) -> UUID:
        assert self.caller.tenant is not None
        return self.caller.tenant

    async def release(self, graph: dict[str, Any], number: int = 1, workflow: UUID | None = None) -> UUID:
        """Publishes a release and waits until Execution holds it."""
        workflow = workflow or uuid7()
        held: asyncio.Future[Event] = asyncio.get_running_loop().create_future()

        def hear(event: Event) -> None:
            if event.data["workflowId"] == str(workflow) and not held.done():
                held.set_result(event)

        stop = self.ground.bus.listen(["execution.release.held.v1"], hear)
        encoded = msgspec.json.encode(graph)
        large = len(encoded) > 500_000
        whole = (await self.ground.objects.put(self.tenant, encoded)).json() if large else graph
        data = {"workflowId": str(workflow), "name": "Test", "release": number, "definition": whole, "nodeTypes": TYPES}
        await self.publish("workflow.release.published.v1", workflow, data)
        await asyncio.wait_for(held, 20)
        stop()
        return workflow

    async def publish(self, type: str, subject: UUID, data: dict[str, Any], id: UUID | None = None) -> UUID:
        made = id or uuid7()
        lease = self.ground.leases.lease_for(made)
        partition = lease.partition if lease else self.ground.leases.partition_of(made)
        await self.ground.bus.publish(
            Event(type=type, id=made, subject=str(subject), tenant=self.tenant, partition=partition, data=data)
        )
        return made

    async def call(self, workflow: UUID, item: dict[str, Any], node: str, **respond: str) -> UUID:
        """What Webhook publishes when a call came in."""
        data = {"workflowId": str(workflow), "release": 1, "node": node, "item": item, "respond": respond}
        return await self.publish("webhook.call.received.v1", workflow, data)

    def context(self, caller: Caller | None = None) -> Any:
        return self.subgraph.context(caller or self.caller, Incoming({}, "test"))

    async def ask(self, document: str, caller: Caller | None = None, **variables: Any) -> Any:
        """Data of an operation through the schema; fails on errors."""
        result = await self.subgraph.schema.execute(document, variables, context_value=self.context(caller))
        assert result.errors is None, result.errors
        return result.data

    async def start(self, workflow: UUID, **words: Any) -> Any:
        data = await self.ask(START, input={"workflowId": str(workflow), **words})
        return data["startExecution"]

    async def events(self, run: str, after: int = 0) -> list[dict[str, Any]]:
        """A run's event stream to its end."""
        return [event async for event in self.stream(run, after)]

    async def stream(self, run: str, after: int = 0) -> AsyncIterator[dict[str, Any]]:
        source = await self.subgraph.schema.subscribe(WATCH, {"id": run, "after": after}, context_value=self.context())
        async for result in source:
            assert result.errors is None, result.errors
            assert result.data is not None
            yield result.data["executionEvents"]

    async def finished(self, run: str | UUID) -> dict[str, Any]:
        """The run once it has ended, whole."""
        await asyncio.wait_for(self.events(str(run)), 30)
        return dict((await self.ask(OPEN, id=str(run)))["execution"])


START = """mutation($input: StartExecutionInput!) { startExecution(input: $input) {
  __typename ... on Execution { id status } ... on Problem { code message field nextStep } } }"""
WATCH = """subscription($id: ID!, $after: Int!) { executionEvents(executionId: $id, afterSeq: $after) {
  seq type last status node nodes nodeName attempt until workflowName error { code kind } reply { status body }
  items { port count items whole } lines { level text } } }"""
OPEN = """query($id: ID!) { execution(id: $id) { id status mode workflowName release revision durationMs finishedAt
  error { code message kind } rerunOf { id } workflow { id } startedBy { id } trigger { node items }
  reply { status headers body contentType }
  steps { node name type status trigger input output durationMs error { code } lines { text }
          attempts { number recovered finishedAt error { code } lines { level text } } } } }"""


async def eventually(look: Callable[[], Any], wanted: Any = True, seconds: float = 20.0) -> None:
    """Looks again until what is seen is what is wanted; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while True:
            seen = look()
            if (await seen if isawaitable(seen) else seen) == wanted:
                return
            await asyncio.sleep(0.02)


def someone(role: str = "owner", tenant: UUID | None = None) -> Caller:
    return Caller(uuid7(), tenant or uuid7(), uuid7(), "Test", frozenset({role}), ROLES[role])


@asynccontextmanager
async def opened(settings: Settings, executor: SmallExecutor | None = None) -> AsyncIterator[World]:
    executor = executor or SmallExecutor()

    def build(ground: Ground) -> Subgraph:
        ground.ports["executor"] = executor
        return service.build(ground)

    async with ground_opened(settings, [build]) as ground:
        yield World(ground, ground.subgraphs[0], executor, someone())
