"""Random workflows, what their nodes do, and what must come of each.

The model is a plain recursion over the graph, written without a look at the engine's: it knows items, ports, dead
connections and error policies, and nothing of commits, attempts or owners.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

from subgraphs.engine.step import Item

KINDS = ("pass", "mark", "double", "gate", "drop", "collect", "wait", "broken", "down", "respond", "stop")
WEIGHTS = (4, 8, 4, 4, 1, 4, 4, 2, 1, 2, 1)
PURE_ONLY = frozenset({"respond", "drop", "gate"})
EFFECTS = ("pure", "keyed")
TRIGGER = "sim.hook"
TYPES: dict[str, dict[str, Any]] = {
    f"{TRIGGER}@1": {"effect": "pure", "trigger": True},
    **{f"sim.{kind}.{effect}@1": {"effect": effect} for kind in KINDS for effect in EFFECTS},
}
ERRORS = {
    "broken": {"code": "sim.broken", "message": "Broken.", "kind": "user"},
    "stop": {"code": "sim.stop", "message": "Stopped.", "kind": "user"},
    "down": {"code": "sim.down", "message": "Down.", "kind": "infrastructure"},
}


@dataclass
class Flow:
    """A workflow of the seed, as Execution holds it."""

    workflow: UUID
    definition: dict[str, Any]
    timed: bool
    """Whether it has a deadline that a slow run may miss."""
    nodes: dict[str, dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        self.nodes = {node["id"]: node for node in self.definition["nodes"]}

    def kind(self, node: str) -> str:
        return kind(self.nodes[node]["type"])


def kind(type: str) -> str:
    return type.split(".")[1]


def flow(random: Random, workflow: UUID) -> Flow:
    """A graph without cycles: a trigger and up to nine nodes."""
    count = random.choice((1, 2, 3, 4, 4, 5, 6, 9))
    nodes: list[dict[str, Any]] = [{"id": "n0", "type": TRIGGER, "version": "1"}]
    nodes += [_node(random, f"n{index}") for index in range(1, count + 1)]
    connections = []
    for target in range(1, count + 1):
        sources = [source for source in range(target) if random.random() < 0.35] or [random.randrange(target)]
        for source in sources:
            ports = _ports(kind(nodes[source]["type"]))
            connections.append({"from": f"n{source}", "output": random.choice(ports), "to": f"n{target}"})
    random.shuffle(connections)
    timed = random.random() < 0.1
    settings = {"timeout": f"PT{random.randint(1, 8)}S"} if timed else {}
    document = {"format": "linkflow/1", "nodes": nodes, "connections": connections, "settings": settings}
    return Flow(workflow, document, timed)


def _ports(kind: str) -> tuple[str, ...]:
    if kind in {"double", "gate"}:
        return ("main", "main", "alt")
    if kind in ERRORS:
        return ("main", "error", "error")
    return ("main",)


def _node(random: Random, id: str) -> dict[str, Any]:
    (chosen,) = random.choices(KINDS, WEIGHTS)
    effect = "pure" if chosen in PURE_ONLY or random.random() < 0.4 else "keyed"
    on_error = "stop" if chosen == "stop" or random.random() < 0.1 else random.choice(("continue", "output"))
    settings: dict[str, Any] = {"onError": on_error}
    failures = random.choice((0, 0, 0, 0, 1, 2)) if chosen not in ERRORS else 0
    if failures or chosen == "down":
        settings["retry"] = {"attempts": 3, "delay": random.choice(("PT0.1S", "PT1S", "PT3S"))}
    return {
        "id": id,
        "type": f"sim.{chosen}.{effect}",
        "version": "1",
        "parameters": {"failures": failures, "seconds": random.choice((0.1, 0.5, 1, 3, 6))},
        "settings": settings,
    }


def body(kind: str, items: list[Item], node: str) -> dict[str, list[Item]]:
    """What a node of this kind does to its items when it succeeds."""
    match kind:
        case "pass" | "wait" | "respond":
            return {"main": items}
        case "mark":
            return {"main": [Item({**item.json, node: len(item.json)}) for item in items]}
        case "double":
            return {"main": items, "alt": [Item({"of": item.json.get("n", 0)}) for item in items for _ in range(2)]}
        case "gate":
            return {"main": items[::2], "alt": items[1::2]}
        case "collect":
            return {"main": [Item({"n": len(items), "all": [item.json for item in items]})]}
        case _:
            return {}


@dataclass
class Expected:
    """What must come of a run that nothing from outside ends: its status, and the outputs of each node (None: never
    runs). A failing run ends at the first stopping node, so other nodes may not have come so far."""

    status: str
    outputs: dict[str, dict[str, list[Any]] | None]
    effects: set[str]


def expected(flow: Flow, start: dict[str, Any]) -> Expected:
    """The model's answer for a run of `flow` begun with one item."""
    known: dict[str, dict[str, list[Any]] | None] = {"n0": {"main": [start]}}
    stopped: list[str] = []
    incoming: dict[str, list[dict[str, Any]]] = {}
    for edge in flow.definition["connections"]:
        incoming.setdefault(edge["to"], []).append(edge)

    def of(node: str) -> dict[str, list[Any]] | None:
        if node not in known:
            arriving = [
                item for edge in incoming.get(node, ()) for item in (of(edge["from"]) or {}).get(edge["output"], [])
            ]
            known[node] = _done(flow, node, arriving, stopped) if arriving else None
        return known[node]

    for node in flow.nodes:
        of(node)
    effects = {
        node
        for node, outputs in known.items()
        if outputs is not None and flow.nodes[node]["type"].endswith(".keyed") and flow.kind(node) not in ERRORS
    }
    return Expected("failed" if stopped else "succeeded", known, effects)


def _done(flow: Flow, node: str, arriving: list[Any], stopped: list[str]) -> dict[str, list[Any]]:
    does = flow.kind(node)
    if does in ERRORS:
        policy = flow.nodes[node]["settings"]["onError"]
        if policy == "stop":
            stopped.append(node)
            return {}
        return {"main" if policy == "continue" else "error": [{**json, "error": ERRORS[does]} for json in arriving]}
    made = body(does, [Item(json) for json in arriving], node)
    return {port: [item.json for item in items] for port, items in made.items()}
