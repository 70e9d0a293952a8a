"""Loops, merges, joins, compensations and finally sections as authors write them: real node types in real runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from subgraphs.engine.validation import validate
from subgraphs.execution import service
from subgraphs.executor import service as executor_service
from subgraphs.executor.nodes import catalogue
from subgraphs.platform.server import ground_opened
from tests.subgraphs.execution.test_with_executor import fields, types
from tests.subgraphs.execution.world import SmallExecutor, World, someone

MANIFESTS = {f"{kind}@{version}": node.manifest.json() for (kind, version), node in catalogue().items()}
NEWEST = {"merge": "1.1.0"}


@pytest.fixture(scope="module")
async def world(fresh_settings: Callable[..., Any]) -> AsyncIterator[World]:
    settings = await fresh_settings()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.subgraphs.execution.world.TYPES", types())
        async with ground_opened(settings, [executor_service.build, service.build]) as ground:
            yield World(ground, ground.subgraphs[1], SmallExecutor(), someone())


def flow(nodes: dict[str, Any], edges: str, **settings: Any) -> dict[str, Any]:
    """Nodes as {id: (type, parameters, settings?)}, edges as "a>b b.true>c c>d.next"; without faults, or it fails."""
    made = [
        {
            "id": name,
            "type": f"core.{kind}",
            "version": NEWEST.get(kind, "1.0.0"),
            "parameters": parameters,
            "settings": dict(*more),
        }
        for name, (kind, parameters, *more) in nodes.items()
    ]
    connections = []
    for each in edges.split():
        source, target = each.split(">")
        (one, _, output), (other, _, entered) = source.partition("."), target.partition(".")
        ports = {"output": output or "main", "input": entered or "main"}
        connections.append({"from": one, "to": other, **ports})
    value = {"format": "linkflow/1", "nodes": made, "connections": connections, "settings": settings}
    assert validate(value, MANIFESTS) == []
    return value


async def ran(world: World, definition: dict[str, Any], **input: Any) -> dict[str, Any]:
    begun = await world.start(await world.release(definition), input=input)
    return await world.finished(begun["id"])


def out(run: dict[str, Any], node: str, port: str = "main") -> Any:
    """What the step of a node put out."""
    return next(step["output"] for step in run["steps"] if step["node"] == node).get(port)


LOOPED = "start>split split>loop loop.each>work work>loop.next loop.done>end"


def looping(work: Any, **parameters: Any) -> dict[str, Any]:
    """A loop over the numbers that come in."""
    return {
        "start": ("manual", {}),
        "split": ("split", {"list": "{{ item.numbers }}", "as": "n"}),
        "loop": ("loop", parameters),
        "work": work,
        "end": ("noop", {}),
    }


@pytest.mark.shows("WF-17")
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("parallel", [1, 4])
async def test_a_loop_collects_what_its_rounds_bring_back_in_their_order(
    world: World, batch: int, parallel: int
) -> None:
    work = ("set", fields(n="{{ item.n * 2 }}", size="{{ size(items) }}"))
    definition = flow(looping(work, batchSize=batch, parallel=parallel), LOOPED)
    run = await ran(world, definition, numbers=list(range(7)))
    assert run["status"] == "SUCCEEDED", run
    sizes = [1] * 7 if batch == 1 else [3, 3, 3, 3, 3, 3, 1]
    assert out(run, "end") == [{"n": 2 * n, "size": size} for n, size in enumerate(sizes)]


@pytest.mark.shows("WF-17")
async def test_failed_rounds_are_tolerated_up_to_a_number_or_share(world: World) -> None:
    work = ("set", fields(n="{{ 12 / item.n }}"))
    numbers = [1, 0, 3, 4]
    for tolerated in (1, "25%"):
        run = await ran(world, flow(looping(work, tolerated=tolerated), LOOPED), numbers=numbers)
        assert run["status"] == "SUCCEEDED", run
        found = out(run, "end")
        assert [item["n"] for item in found] == [12, 0, 4, 3]
        assert found[1]["error"]["code"] == "expression.division_by_zero"
    run = await ran(world, flow(looping(work), LOOPED), numbers=numbers)
    assert (run["status"], run["error"]["code"]) == ("FAILED", "loop.too_many_failures")


@pytest.mark.shows("WF-17")
async def test_a_loop_that_does_not_collect_tells_how_many_rounds_there_were(world: World) -> None:
    work = ("set", fields(n="{{ 12 / item.n }}"))
    run = await ran(world, flow(looping(work, collect=False, tolerated=1), LOOPED), numbers=[1, 0, 3])
    assert out(run, "end") == [{"rounds": 3, "failed": 1}]


@pytest.mark.shows("WF-17")
async def test_loops_run_within_loops(world: World) -> None:
    nodes = {
        "start": ("manual", {}),
        "rows": ("split", {"list": "{{ item.rows }}", "as": "row"}),
        "outer": ("loop", {}),
        "cells": ("split", {"list": "{{ item.row }}", "as": "n"}),
        "inner": ("loop", {"parallel": 2}),
        "work": ("set", fields(n="{{ item.n + 1 }}", of="{{ size(nodes.cells.items) }}")),
        "end": ("noop", {}),
    }
    edges = (
        "start>rows rows>outer outer.each>cells cells>inner inner.each>work work>inner.next inner.done>outer.next "
        "outer.done>end"
    )
    run = await ran(world, flow(nodes, edges), rows=[[1, 2, 3], [4]])
    assert run["status"] == "SUCCEEDED", run
    assert out(run, "end") == [{"n": 2, "of": 3}, {"n": 3, "of": 3}, {"n": 4, "of": 3}, {"n": 5, "of": 1}]


@pytest.mark.shows("WF-18")
async def test_two_branches_are_merged_by_key(world: World) -> None:
    nodes = {
        "start": ("manual", {}),
        "people": ("split", {"list": "{{ item.people }}"}),
        "paid": ("split", {"list": "{{ item.paid }}"}),
        "both": ("merge", {"mode": "key", "join": "left", "keys": [{"left": "id", "right": "person"}]}),
    }
    edges = "start>people start>paid people>both paid>both.right"
    people, paid = [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Bob"}], [{"person": 2, "sum": 5}]
    run = await ran(world, flow(nodes, edges), people=people, paid=paid)
    assert out(run, "both") == [people[0], {**people[1], **paid[0]}]


@pytest.mark.shows("WF-18")
async def test_a_merge_may_wait_for_the_first_branch_alone(world: World) -> None:
    nodes = {
        "start": ("manual", {}),
        "slow": ("wait", {"duration": "PT1H"}),
        "quick": ("set", fields(who="quick")),
        "first": ("merge", {"wait": "first"}),
        "end": ("noop", {}),
    }
    run = await ran(world, flow(nodes, "start>slow start>quick slow>first quick>first.right first>end"))
    assert run["status"] == "SUCCEEDED", run
    assert out(run, "end") == [{"who": "quick"}]
    assert next(step["status"] for step in run["steps"] if step["node"] == "slow") == "CANCELLED"


@pytest.mark.shows("EX-05", "WF-20")
async def test_what_was_done_is_undone_backwards_and_the_finally_section_runs_at_last(world: World) -> None:
    nodes = {
        "start": ("manual", {}),
        "one": ("set", fields(id="one"), {"compensate": "undo_one"}),
        "two": ("set", fields(id="two"), {"compensate": "undo_two"}),
        "end": ("stop", {"message": "Enough", "code": "enough"}),
        "undo_one": ("set", fields(undone="{{ nodes.one.item.id }}")),
        "undo_two": ("set", fields(undone="{{ item.id }}")),
        "tidy": ("set", fields(told="{{ item.status }} {{ item.error.code }}")),
    }
    definition = flow(nodes, "start>one one>two two>end", **{"finally": ["tidy"]})
    begun = await world.start(await world.release(definition), input={})
    run = await world.finished(begun["id"])
    assert (run["status"], run["error"]["code"]) == ("FAILED", "stop.enough")
    last = ("undo_one", "undo_two", "tidy")
    order = [step["node"] for step in run["steps"] if step["node"] in last and step["status"] == "SUCCEEDED"]
    assert order == ["undo_two", "undo_one", "tidy"]
    assert out(run, "undo_two")[0]["undone"] == "two"
    assert out(run, "undo_one")[0]["undone"] == "one"
    assert out(run, "tidy")[0]["told"] == "failed stop.enough"
