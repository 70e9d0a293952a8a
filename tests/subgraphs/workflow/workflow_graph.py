"""What tests of the workflow subgraph share: a caller, definitions, and asking the schema."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import anyio

from subgraphs.platform.domain import ROLES, Caller, Event, uuid7
from subgraphs.platform.server import Ground, Incoming, Subgraph
from subgraphs.workflow.storage import Catalogues

MAIN: list[dict[str, str]] = [{"name": "main"}]


def manifest(kind: str, **more: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"fields": {"type": "object"}}, "additionalProperties": False}
    shape = {"type": f"core.{kind}", "version": "1.0.0", "title": kind, "parameters": schema, "category": "data"}
    return {**shape, "inputs": MAIN, "outputs": MAIN, "effect": "pure", "trigger": False, "timeout": "PT30S", **more}


MANIFESTS = [
    manifest("manual", trigger=True, inputs=[]),
    manifest("webhook", trigger=True, inputs=[]),
    manifest("set"),
]


def announced(digest: str = "d1", manifests: list[dict[str, Any]] | None = None) -> Event:
    return Event(
        type="executor.catalogue.announced.v1",
        subject="executor",
        data={"digest": digest, "manifests": MANIFESTS if manifests is None else manifests},
        tenant=None,
        partition=0,
    )


def caller(role: str = "editor", tenant: UUID | None = None) -> Caller:
    roles = frozenset({role})
    return Caller(uuid7(), tenant or uuid7(), uuid7(), "Ada", roles, ROLES[role])


def flow(*names: str, **more: Any) -> dict[str, Any]:
    """A manual trigger followed by nodes that set fields."""
    nodes = [{"id": "start", "type": "core.manual", "version": "1.0.0"}]
    nodes += [{"id": name, "type": "core.set", "version": "1.0.0"} for name in names]
    ids = [node["id"] for node in nodes]
    edges = [{"from": one, "to": other} for one, other in itertools.pairwise(ids)]
    return {"format": "linkflow/1", "nodes": nodes, "connections": edges, **more}


async def eventually(condition: Callable[[], Awaitable[Any]]) -> Any:
    """The first true value of `condition`; fails after ten seconds."""
    with anyio.fail_after(10):
        while not (found := await condition()):
            await anyio.sleep(0.01)
        return found


@dataclass
class Graph:
    """Asks the subgraph as somebody."""

    ground: Ground
    subgraph: Subgraph

    async def raw(self, document: str, by: Caller, **variables: Any) -> Any:
        context = self.subgraph.context(by, Incoming({}, "test"))
        return await self.subgraph.schema.execute(document, variable_values=variables, context_value=context)

    async def ask(self, document: str, by: Caller, **variables: Any) -> Any:
        """The one root field's value."""
        result = await self.raw(document, by, **variables)
        assert result.errors is None, result.errors
        (value,) = result.data.values()
        return value

    async def create(self, by: Caller, definition: Any = None, name: str = "Push to mail") -> Any:
        return await self.ask(CREATE, by, input={"name": name, "definition": definition, "message": "first"})

    async def save(self, by: Caller, workflow: str, base: int, definition: Any, message: str = "") -> Any:
        words = {"workflowId": workflow, "baseRevision": base, "definition": definition, "message": message}
        return await self.ask(SAVE, by, input=words)


DRAFT = "id name archived draft { number parent name message valid hash definition author { id } faults { code } }"
PROBLEM = "... on Problem { code message field nextStep }"
CREATE = f"""mutation($input: CreateWorkflowInput!) {{ createWorkflow(input: $input) {{ __typename
  ... on Workflow {{ {DRAFT} }} {PROBLEM} ... on InvalidDefinition {{ faults {{ code pointer }} }} }} }}"""
SAVE = f"""mutation($input: SaveDraftInput!) {{ saveDraft(input: $input) {{ __typename
  ... on Workflow {{ {DRAFT} }} {PROBLEM} ... on InvalidDefinition {{ faults {{ code pointer }} }}
  ... on DraftConflict {{ yours theirs {{ number message definition author {{ id }} }} base {{ number definition }}
    workflow {{ id draft {{ number }} }} }} }} }}"""


async def digest(ground: Ground) -> str | None:
    """Of the catalogue the subgraph knows."""
    async with ground.database.read(None) as reading:
        return await Catalogues().digest(reading)


class Heard:
    """What the subgraph published since the test began."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def one(self, kind: str) -> Event:
        async def found() -> Event | None:
            return next((event for event in self.events if event.type == kind), None)

        event: Event = await eventually(found)
        return event
