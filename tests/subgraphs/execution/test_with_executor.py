"""Execution and Executor together: real node types, real expressions, in real runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from subgraphs.execution import service
from subgraphs.executor.nodes import catalogue
from subgraphs.executor.runner import Runner
from subgraphs.platform.server import Ground, Subgraph, ground_opened
from tests.subgraphs.execution.world import SmallExecutor, World, someone

VERSION = "1.0.0"


def types() -> dict[str, dict[str, Any]]:
    """What a published release says of its node types."""
    found = {}
    for (name, version), node in catalogue().items():
        manifest = node.manifest.json()
        kept = ("effect", "trigger", "inputs", "outputs", "timeout")
        found[f"{name}@{version}"] = {key: manifest[key] for key in kept if key in manifest}
    return found


def graph(nodes: dict[str, Any], edges: str) -> dict[str, Any]:
    """Nodes as {id: (type, parameters)}; edges as in "a>b b.true>c"."""
    made = [
        {"id": id, "type": f"core.{type}", "version": VERSION, "parameters": parameters}
        for id, (type, parameters) in nodes.items()
    ]
    connections = []
    for edge in edges.split():
        source, target = edge.split(">")
        name, _, port = source.partition(".")
        connections.append({"from": name, "output": port or "main", "to": target, "input": "main"})
    return {"format": "linkflow/1", "nodes": made, "connections": connections}


@pytest.fixture
async def world(fresh_settings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr("tests.subgraphs.execution.world.TYPES", types())

    def build(ground: Ground) -> Subgraph:
        ground.ports["executor"] = Runner()
        return service.build(ground)

    async with ground_opened(await fresh_settings(), [build]) as ground:
        yield World(ground, ground.subgraphs[0], SmallExecutor(), someone())


def fields(**values: Any) -> dict[str, Any]:
    return {"fields": [{"name": name, "value": value} for name, value in values.items()]}


@pytest.mark.shows("EX-01")
async def test_expressions_reach_the_item_an_item_descends_from(world: World) -> None:
    nodes = {
        "start": ("manual", {}),
        "each": ("split", {"list": "{{ item.orders }}"}),
        "price": ("set", fields(total="{{ item.amount * 2 }}")),
        "big": ("if", {"expression": "{{ item.total > 10 }}"}),
        "loud": ("set", fields(text="{{ nodes.each.item.name }} of {{ trigger.shop }}")),
        "quiet": ("set", fields(text="small {{ nodes.each.item.name }}")),
        "all": ("merge", {}),
    }
    edges = "start>each each>price price>big big.true>loud big.false>quiet loud>all quiet>all"
    workflow = await world.release(graph(nodes, edges))
    orders = [{"name": "tea", "amount": 2}, {"name": "gold", "amount": 90}, {"name": "ink", "amount": 3}]
    begun = await world.start(workflow, input={"shop": "X", "orders": orders})
    run = await world.finished(begun["id"])
    assert run["status"] == "SUCCEEDED", run
    out = {step["node"]: step["output"] for step in run["steps"]}
    assert [item["text"] for item in out["all"]["main"]] == ["gold of X", "small tea", "small ink"]


@pytest.mark.shows("EX-05")
async def test_a_stop_node_fails_the_run_with_its_words(world: World) -> None:
    nodes = {"start": ("manual", {}), "end": ("stop", {"message": "No {{ item.what }} today."})}
    begun = await world.start(await world.release(graph(nodes, "start>end")), input={"what": "tea"})
    run = await world.finished(begun["id"])
    assert run["status"] == "FAILED"
    assert run["error"]["message"] == "No tea today."


@pytest.mark.shows("EX-21")
async def test_a_wait_node_holds_its_items(world: World) -> None:
    nodes = {"start": ("manual", {}), "pause": ("wait", {"duration": "PT1S"}), "end": ("noop", {})}
    begun = await world.start(await world.release(graph(nodes, "start>pause pause>end")), input={"n": 1})
    run = await world.finished(begun["id"])
    assert run["status"] == "SUCCEEDED", run
    assert run["steps"][2]["output"] == {"main": [{"n": 1}]}
    assert run["steps"][1]["durationMs"] >= 1000
