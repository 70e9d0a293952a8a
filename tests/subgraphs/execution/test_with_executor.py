"""Execution and Executor together: real node types, real expressions, in real runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from subgraphs.execution import service
from subgraphs.executor import service as executor_service
from subgraphs.executor.nodes import catalogue
from subgraphs.platform.server import ground_opened
from tests.crashes.receiver import Receiver, receiving
from tests.sandbox.conftest import Running, start, stop
from tests.subgraphs.execution.world import SmallExecutor, World, eventually, someone

VERSION = "1.0.0"


def types() -> dict[str, dict[str, Any]]:
    """What a published release says of its node types."""
    found = {}
    for (name, version), node in catalogue().items():
        manifest = node.manifest.json()
        kept = ("effect", "effects", "probes", "trigger", "inputs", "outputs", "timeout")
        found[f"{name}@{version}"] = {key: manifest[key] for key in kept if key in manifest}
    return found


def graph(nodes: dict[str, Any], edges: str) -> dict[str, Any]:
    """Nodes as {id: (type, parameters, settings?)}; edges as in "a>b b.true>c"."""
    made = [
        {"id": name, "type": f"core.{kind}", "version": VERSION, "parameters": parameters, "settings": dict(*more)}
        for name, (kind, parameters, *more) in nodes.items()
    ]
    connections = []
    for edge in edges.split():
        source, target = edge.split(">")
        name, _, port = source.partition(".")
        connections.append({"from": name, "output": port or "main", "to": target, "input": "main"})
    return {"format": "linkflow/1", "nodes": made, "connections": connections}


@pytest.fixture(scope="module")
async def outside() -> AsyncIterator[Receiver]:
    async with receiving(60.0) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def guests(scratch: Path) -> Iterator[Running]:
    running = start(scratch / "with-executor.sock", scratch / "sandbox-cache")
    yield running
    stop(running)


@pytest.fixture(scope="module")
async def world(fresh_settings: Callable[..., Any], outside: Receiver, guests: Running) -> AsyncIterator[World]:
    settings = await fresh_settings(egress_allow=(f"127.0.0.1:{outside.port}",), sandbox=guests.socket)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.subgraphs.execution.world.TYPES", types())
        async with ground_opened(settings, [executor_service.build, service.build]) as ground:
            yield World(ground, ground.subgraphs[1], SmallExecutor(), someone())


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


CANCEL = "mutation($id: ID!) { cancelExecution(input: {executionId: $id}) { __typename } }"


async def begun(world: World, graph: dict[str, Any]) -> str:
    """A run whose last step has begun."""
    run = str((await world.start(await world.release(graph)))["id"])
    async for event in world.stream(run):
        if event["type"] == "STEP_STARTED":
            break
    return run


@pytest.mark.shows("EX-10", "EX-04")
async def test_an_attempt_that_takes_too_long_times_out_and_is_tried_again(world: World, outside: Receiver) -> None:
    call = {"method": "POST", "url": f"http://127.0.0.1:{outside.port}/slow"}
    settings = {"timeout": "PT0.3S", "retry": {"attempts": 2, "delay": "PT0.05S"}}
    nodes = {"start": ("manual", {}), "slow": ("http", {**call, "effect": "keyed"}, settings)}
    run = await world.finished((await world.start(await world.release(graph(nodes, "start>slow"))))["id"])
    assert (run["status"], run["error"]["kind"]) == ("FAILED", "timeout")
    assert [attempt["number"] for attempt in run["steps"][1]["attempts"]] == [1, 2]
    assert outside.calls[f"{run['id']}:slow"] == 2


@pytest.mark.shows("EX-08")
async def test_cancelling_hangs_up_on_the_service_that_is_called(world: World, outside: Receiver) -> None:
    call = {"method": "POST", "url": f"http://127.0.0.1:{outside.port}/long"}
    run = await begun(world, graph({"start": ("manual", {}), "long": ("http", call)}, "start>long"))
    await eventually(lambda: outside.calls[f"{run}:long"], 1)
    executor = world.ground.ports["executor"]
    assert executor.busy == 1
    await world.ask(CANCEL, id=run)
    await eventually(lambda: executor.busy, 0, seconds=5)
    assert (await world.finished(run))["status"] == "CANCELLED"


@pytest.mark.shows("EX-08")
async def test_cancelling_kills_the_guest_that_runs_code(world: World, guests: Running) -> None:
    spin = {"code": "while (true) {}", "timeout": "PT60S"}
    settings = {"timeout": "PT60S"}
    run = await begun(world, graph({"start": ("manual", {}), "spin": ("code", spin, settings)}, "start>spin"))
    before = set(guests.workers())
    await world.ask(CANCEL, id=run)
    await eventually(lambda: bool(before - set(guests.workers())), True, seconds=5)
    assert (await world.finished(run))["status"] == "CANCELLED"


@pytest.mark.shows("EX-03")
async def test_console_lines_of_code_are_kept_with_their_attempt(world: World) -> None:
    code = {"code": "console.log('seen', items.length); return items.map(item => ({doubled: item.n * 2}))"}
    nodes = {"start": ("manual", {}), "code": ("code", code)}
    made = await world.start(await world.release(graph(nodes, "start>code")), input={"n": 21})
    run = await world.finished(made["id"])
    assert run["status"] == "SUCCEEDED", run
    step = run["steps"][1]
    assert step["output"] == {"main": [{"doubled": 42}]}
    assert [line["text"] for line in step["lines"]] == ["seen 1"]
    assert [line["text"] for line in step["attempts"][0]["lines"]] == ["seen 1"]
