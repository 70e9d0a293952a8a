"""The workflow subgraph on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from subgraphs.platform.domain import Event
from subgraphs.platform.server import ground_opened
from subgraphs.platform.settings import Settings
from subgraphs.workflow import service
from tests.subgraphs.workflow.workflow_graph import Graph, Heard, announced, digest, eventually


@pytest.fixture(scope="module")
async def graph(settings: Settings) -> AsyncIterator[Graph]:
    """The subgraph with a catalogue it heard of over the bus."""
    async with ground_opened(settings, [service.build]) as ground:
        (subgraph,) = ground.subgraphs
        await ground.bus.publish(announced())
        found = Graph(ground, subgraph)

        async def ready() -> bool:
            return await digest(found.ground) == "d1"

        await eventually(ready)
        yield found


KINDS = [f"workflow.workflow.{verb}.v1" for verb in ("created", "renamed", "archived", "unarchived", "deleted")]
KINDS += ["workflow.draft.saved.v1", "workflow.draft.requested.v1", "workflow.release.published.v1"]


@pytest.fixture
def heard(graph: Graph) -> Iterator[Heard]:
    found = Heard()
    stop = graph.ground.bus.listen(KINDS, found.events.append)
    yield found
    stop()


@pytest.fixture
def holders(graph: Graph) -> Iterator[list[str]]:
    """Says at once that whoever is on the list holds a release, as Execution and Webhook do."""
    names = ["execution", "webhook"]
    tasks: set[asyncio.Task[None]] = set()

    def answer(event: Event) -> None:
        held = [
            Event(
                type=f"{name}.release.held.v1",
                subject=event.subject,
                data={"workflowId": event.data["workflowId"], "release": event.data["release"]},
                tenant=event.tenant,
                partition=event.partition,
            )
            for name in names
        ]
        tasks.add(asyncio.get_running_loop().create_task(graph.ground.bus.publish(*held)))

    stop = graph.ground.bus.listen(["workflow.release.published.v1"], answer)
    yield names
    stop()
