"""What it costs to parse and validate definitions of 10,000 nodes. Prints `name value unit`, a line a figure."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

from subgraphs.engine import references, validation
from subgraphs.engine.definition import Definition
from subgraphs.engine.expression import program, surveying
from subgraphs.engine.graph import Graph

NODES = 10_000
PORTS = [{"name": "main"}]
SCHEMA = {"type": "object", "properties": {"fields": {"type": "object"}}, "additionalProperties": False}
CATALOGUE: dict[str, dict[str, Any]] = {
    "core.manual@1.0.0": {"parameters": {"type": "object"}, "inputs": [], "outputs": PORTS, "trigger": True},
    "core.set@1.0.0": {"parameters": SCHEMA, "inputs": PORTS, "outputs": PORTS},
    "core.loop@1.0.0": {
        "parameters": {"type": "object"},
        "inputs": [{"name": "main"}, {"name": "next"}],
        "outputs": [{"name": "each"}, {"name": "done"}],
    },
}


def definition(expression: Callable[[int], Any]) -> dict[str, Any]:
    """A chain of nodes whose parameters all differ; `expression` gives one of them."""
    nodes: list[dict[str, Any]] = [{"id": "start", "type": "core.manual", "version": "1.0.0"}]
    for index in range(NODES - 1):
        fields = {"x": expression(index), "y": index}
        node = {"id": f"n{index}", "type": "core.set", "version": "1.0.0", "parameters": {"fields": fields}}
        nodes.append(node)
    ids = [node["id"] for node in nodes]
    edges = [{"from": one, "to": other} for one, other in itertools.pairwise(ids)]
    return {"format": "linkflow/1", "nodes": nodes, "connections": edges}


def looping() -> dict[str, Any]:
    """2,500 loops, each within the one before, with three nodes in each body, and as many compensations as fit."""
    value: dict[str, Any] = {"format": "linkflow/1", "nodes": [], "connections": []}
    value["nodes"].append({"id": "start", "type": "core.manual", "version": "1.0.0"})
    before = {"from": "start"}
    for level in range(NODES // 4):
        names = (f"l{level}", f"a{level}", f"b{level}", f"c{level}")
        kinds = ("core.loop", "core.set", "core.set", "core.set")
        for name, kind in zip(names, kinds, strict=True):
            value["nodes"].append({"id": name, "type": kind, "version": "1.0.0"})
        value["nodes"][-3]["settings"] = {"compensate": names[3]}
        loop, first, last, _ = names
        value["connections"] += [
            {**before, "to": loop},
            {"from": loop, "output": "each", "to": first},
            {"from": last, "to": loop, "input": "next"},
        ]
        before = {"from": first}
        if level:
            value["connections"].append({"from": loop, "output": "done", "to": f"b{level - 1}"})
    value["connections"].append({**before, "to": last})
    return value


def seconds(work: Callable[[], Any]) -> float:
    """CPU seconds of this process, the best of three."""
    found = []
    for _ in range(3):
        begun = time.process_time()
        work()
        found.append(time.process_time() - begun)
    return min(found)


def main() -> None:
    plain = definition(lambda index: index)
    shared = definition(lambda index: f"{{{{ item.n{index % 100} + 1 }}}}")
    distinct = definition(lambda index: f"{{{{ item.n + {index} }}}}")
    referring = definition(lambda index: f"{{{{ nodes.n{max(index - 2, 0)}.item.x{index} + size(item.list{index}) }}}}")
    compiled = definition(lambda index: f"{{{{ item.list.map(each, each + {index}) }}}}")

    def first_time(document: Any) -> Any:
        for cache in (references._surveyed, surveying._surveyed, program.examined):
            cache.cache_clear()
        return validation.validate(document, CATALOGUE)

    graph = Graph(Definition.parse(plain))
    print(f"definition.parse {seconds(lambda: Definition.parse(plain)):.3f} s CPU of {NODES} nodes")
    print(f"definition.hash {seconds(lambda: Definition.parse(plain).hash):.3f} s CPU, parsing included")
    print(f"graph.order {seconds(lambda: Graph(graph.definition).order):.3f} s CPU")
    print(f"validate.plain {seconds(lambda: first_time(plain)):.3f} s CPU")
    print(f"validate.shared {seconds(lambda: first_time(shared)):.3f} s CPU, 100 expressions in all nodes")
    print(f"validate.distinct {seconds(lambda: first_time(distinct)):.3f} s CPU, an expression of its own in each node")
    print(f"validate.referring {seconds(lambda: first_time(referring)):.3f} s CPU, each referring to another node")
    print(f"validate.macros {seconds(lambda: first_time(compiled)):.3f} s CPU, a loop of its own in each node")
    nested = looping()
    if faults := validation.validate(nested, CATALOGUE):
        raise SystemExit(f"the loops have faults: {faults[:2]}")
    print(f"validate.loops {seconds(lambda: first_time(nested)):.3f} s CPU, {NODES // 4} loops within each other")
    print(f"validate.again {seconds(lambda: validation.validate(distinct, CATALOGUE)):.3f} s CPU, the same once more")


if __name__ == "__main__":
    main()
