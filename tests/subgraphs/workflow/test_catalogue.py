"""Readiness: Workflow serves once it knows the node types its Executor announces."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from subgraphs.platform.server import ground_opened
from subgraphs.workflow import service
from subgraphs.workflow.domain import Unready
from tests.subgraphs.workflow.workflow_graph import Graph, announced, caller, digest, eventually, flow


async def test_without_a_catalogue_it_is_not_ready_and_says_when_to_come_back(
    fresh_settings: Callable[..., Any],
) -> None:
    async with ground_opened(await fresh_settings(), [service.build]) as ground:
        graph = Graph(ground, ground.subgraphs[0])
        ((_, check),) = graph.subgraph.ready
        with pytest.raises(Unready):
            await check()
        document = "mutation($i: CreateWorkflowInput!) { createWorkflow(input: $i) { __typename } }"
        result = await graph.raw(document, caller(), i={"name": "Early", "definition": flow("a")})
        assert result.data == {"createWorkflow": None}
        assert isinstance(result.errors[0].original_error, Unready)

        await ground.bus.publish(announced("d1"))

        async def learned() -> bool:
            return await digest(ground) == "d1"

        await eventually(learned)
        await check()
        assert (await graph.create(caller(), flow("a")))["draft"]["valid"]
        ground.ports["executor"] = SimpleNamespace(digest="d2")
        with pytest.raises(Unready):
            await check()
