"""The workflow subgraph on a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from subgraphs.platform.server import ground_opened
from subgraphs.platform.settings import Settings
from subgraphs.workflow import service
from tests.subgraphs.workflow.workflow_graph import Graph, announced, digest, eventually


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
