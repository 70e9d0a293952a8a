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
BODIES = ("pass", "mark", "collect", "double", "wait", "broken", "down")
UNDO, LAST = "undo", "last"
PURE_ONLY = frozenset({"respond", "drop", "gate"})
EFFECTS = ("pure", "keyed", "unsafe")
LOOP = "core.loop"
TRIGGER = "sim.hook"
TYPES: dict[str, dict[str, Any]] = {
    f"{TRIGGER}@1": {"effect": "pure", "trigger": True},
    f"{LOOP}@1": {"effect": "pure"},
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
    if random.random() < 0.4:
        _loop(random, nodes, connections)
    random.shuffle(connections)
    timed = random.random() < 0.1
    settings: dict[str, Any] = {"timeout": f"PT{random.randint(1, 8)}S"} if timed else {}
    _endings(random, nodes, settings)
    document = {"format": "linkflow/1", "nodes": nodes, "connections": connections, "settings": settings}
    return Flow(workflow, document, timed)


def _loop(random: Random, nodes: list[dict[str, Any]], connections: list[dict[str, Any]]) -> None:
    """A loop behind one of the nodes, with one or two nodes in its body and one behind it."""
    source = random.choice(nodes)
    port = random.choice(_ports(kind(source["type"])))
    parameters = {"batchSize": random.choice((1, 1, 2)), "parallel": random.choice((1, 2, 5)), "tolerated": "100%"}
    nodes.append({"id": "l", "type": LOOP, "version": "1", "parameters": parameters, "settings": {}})
    body = [_node(random, f"b{index}", BODIES) for index in range(random.choice((1, 1, 2)))]
    nodes += [*body, _node(random, "after", ("mark", "collect"))]
    connections.append({"from": source["id"], "output": port, "to": "l"})
    path = [("l", "each"), *((each["id"], "main") for each in body)]
    targets = [*(each["id"] for each in body), "l"]
    for (start, output), target in zip(path, targets, strict=True):
        connections.append(
            {"from": start, "output": output, "to": target, "input": "next" if target == "l" else "main"}
        )
    connections.append({"from": "l", "output": "done", "to": "after"})


def _endings(random: Random, nodes: list[dict[str, Any]], settings: dict[str, Any]) -> None:
    """Now and then a node that is undone when the run fails, and a section that always comes last."""
    if random.random() < 0.3:
        undone = random.choice([node for node in nodes[1:] if node["id"] not in {"l", "b0", "b1"}])
        undone["settings"]["compensate"] = UNDO
        nodes.append(_effect(UNDO))
    if random.random() < 0.2:
        settings["finally"] = [LAST]
        nodes.append(_effect(LAST))


def _effect(id: str) -> dict[str, Any]:
    parameters = {"failures": 0, "seconds": 0}
    return {"id": id, "type": "sim.mark.keyed", "version": "1", "parameters": parameters, "settings": {}}


def _ports(kind: str) -> tuple[str, ...]:
    if kind in {"double", "gate"}:
        return ("main", "main", "alt")
    if kind in ERRORS:
        return ("main", "error", "error")
    return ("main",)


def _node(random: Random, id: str, kinds: tuple[str, ...] = ()) -> dict[str, Any]:
    chosen = random.choice(kinds) if kinds else random.choices(KINDS, WEIGHTS)[0]
    effect = "pure" if chosen in PURE_ONLY or random.random() < 0.4 else random.choice(("keyed", "keyed", "unsafe"))
    on_error = "stop" if chosen == "stop" or random.random() < 0.1 else random.choice(("continue", "output"))
    settings: dict[str, Any] = {"onError": on_error}
    if effect == "unsafe":
        settings["onCrash"] = "retry"
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
    """Keys of the steps that have an effect; those of compensations and the last section are not among them."""


def expected(flow: Flow, start: dict[str, Any]) -> Expected:
    """The model's answer for a run of `flow` begun with one item."""
    return Model(flow, start).answer()


class Model:
    """One evaluation of a flow, by recursion from each node to what feeds it."""

    def __init__(self, flow: Flow, start: dict[str, Any]) -> None:
        self.flow = flow
        self.known: dict[str, dict[str, list[Any]] | None] = {"n0": {"main": [start]}}
        self.stopped: list[str] = []
        self.effects: set[str] = set()
        self.incoming: dict[str, list[dict[str, Any]]] = {}
        for edge in flow.definition["connections"]:
            self.incoming.setdefault(edge["to"], []).append(edge)
        self.body = [id for id in ("b0", "b1") if id in flow.nodes]

    def answer(self) -> Expected:
        for node in self.flow.nodes:
            if node not in {*self.body, UNDO, LAST}:
                self.of(node)
        return Expected("failed" if self.stopped else "succeeded", self.known, self.effects)

    def of(self, node: str) -> dict[str, list[Any]] | None:
        if node not in self.known:
            edges = [edge for edge in self.incoming.get(node, ()) if edge.get("input") != "next"]
            arriving = [item for edge in edges for item in (self.of(edge["from"]) or {}).get(edge["output"], [])]
            work = self.rounds if node == "l" else self.done
            self.known[node] = work(node, node, arriving) if arriving else None
        return self.known[node]

    def rounds(self, node: str, key: str, arriving: list[Any]) -> dict[str, list[Any]]:
        """Each batch through the body; what comes back, in the order of rounds. A round whose body stops gives its
        items back with the error: all rounds may fail."""
        size = self.flow.nodes[node]["parameters"]["batchSize"]
        collected: list[Any] = []
        for at, first in enumerate(range(0, len(arriving), size)):
            batch = items = arriving[first : first + size]
            for each in self.body:
                stops = len(self.stopped)
                items = self.done(each, f"{each}@{at}", items).get("main", []) if items else []
                if len(self.stopped) > stops:
                    del self.stopped[stops:]
                    items = [{**json, "error": ERRORS[self.flow.kind(each)]} for json in batch]
                    break
            collected += items
        return {"done": collected}

    def done(self, node: str, key: str, arriving: list[Any]) -> dict[str, list[Any]]:
        does = self.flow.kind(node)
        if does in ERRORS:
            policy = self.flow.nodes[node]["settings"]["onError"]
            if policy == "stop":
                self.stopped.append(node)
                return {}
            port = "main" if policy == "continue" else "error"
            return {port: [{**json, "error": ERRORS[does]} for json in arriving]}
        if not self.flow.nodes[node]["type"].endswith(".pure"):
            self.effects.add(key)
        made = body(does, [Item(json) for json in arriving], key)
        return {port: [item.json for item in items] for port, items in made.items()}
