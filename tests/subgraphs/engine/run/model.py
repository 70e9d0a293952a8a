"""Random graphs, a plain recursive interpreter that says what must come out, and a driver that runs the real engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from subgraphs.engine.run import (
    Cancel,
    Command,
    Complete,
    Event,
    Fire,
    Pause,
    Plan,
    Recover,
    Resume,
    Run,
    Settle,
    Start,
    decide,
    decode,
    encode,
    evolve,
)
from subgraphs.engine.step import Item, StepError, StepOutcome, Wait

TENANT = UUID(int=7)
RUN = UUID(int=42)
KINDS = ("pass", "mark", "double", "gate", "drop", "collect", "wait", "broken")
EFFECTS = ("pure", "keyed", "unsafe")
TYPES: dict[str, dict[str, Any]] = {
    "test.trigger@1": {"effect": "pure", "trigger": True},
    **{f"test.{kind}.{effect}@1": {"effect": effect} for kind in KINDS for effect in EFFECTS},
}


@st.composite
def definitions(draw: st.DrawFn, *, stopping: bool = False) -> dict[str, Any]:
    """A graph without loops: a trigger, up to nine nodes of random kind and ports, some failing before they succeed."""
    count = draw(st.integers(1, 9))
    nodes: list[dict[str, Any]] = [{"id": "n0", "type": "test.trigger", "version": "1", "parameters": {}}]
    for index in range(1, count + 1):
        kind = draw(st.sampled_from(KINDS))
        on_error = draw(st.sampled_from(("stop", "continue", "output") if stopping else ("continue", "output")))
        failures = draw(st.integers(0, 2))
        nodes.append(
            {
                "id": f"n{index}",
                "type": f"test.{kind}.{draw(st.sampled_from(EFFECTS))}",
                "version": "1",
                "parameters": {"failures": failures},
                "settings": {"onError": on_error, "retry": {"attempts": 3, "delay": "PT1S"}, "totalTimeout": "P9D"},
            }
        )
    connections = []
    for target in range(1, count + 1):
        for source in range(target):
            if draw(st.booleans()):
                port = draw(st.sampled_from(("main", "alt", "error") if source else ("main",)))
                connections.append({"from": f"n{source}", "output": port, "to": f"n{target}", "input": "main"})
    return {"format": "linkflow/1", "nodes": nodes, "connections": draw(st.permutations(connections))}


def body(kind: str, items: list[Item], node: str) -> dict[str, list[Item]]:
    """What a node of this kind does to its items."""
    match kind:
        case "pass" | "wait":
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


def expected(definition: dict[str, Any], start: list[dict[str, Any]]) -> dict[str, dict[str, list[Any]] | None]:
    """The outputs of each node by plain recursion; None for one that never runs."""
    nodes = {node["id"]: node for node in definition["nodes"]}
    known: dict[str, dict[str, list[Any]] | None] = {"n0": {"main": start}}

    def of(name: str) -> dict[str, list[Any]] | None:
        if name not in known:
            known[name] = compute(name)
        return known[name]

    def compute(name: str) -> dict[str, list[Any]] | None:
        arriving: list[Any] = []
        for edge in definition["connections"]:
            if edge["to"] == name:
                arriving += (of(edge["from"]) or {}).get(edge["output"], [])
        if not arriving:
            return None
        kind = nodes[name]["type"].split(".")[1]
        if kind == "broken":
            told = {"code": "test.broken", "message": "Broken.", "kind": "user"}
            port = "main" if nodes[name]["settings"]["onError"] == "continue" else "error"
            return {port: [{**json, "error": told} for json in arriving]}
        made = body(kind, [Item(json) for json in arriving], name)
        return {port: [item.json for item in items] for port, items in made.items()}

    return {name: of(name) for name in nodes}


@dataclass
class Driver:
    """Runs a definition with the real `decide` and `evolve`, choosing freely what happens next."""

    definition: dict[str, Any]
    choose: Callable[[int], int]
    now: int = 1_700_000_000_000_000
    events: list[Event] = field(default_factory=list)
    bodies: dict[str, int] = field(default_factory=dict)
    succeeded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.plan = Plan.of(self.definition, TYPES)
        self.run = Run.blank(RUN, TENANT, self.plan)

    def ask(self, command: Command) -> list[Event]:
        """Decides, journals through the codec, evolves."""
        events = decode(encode(decide(self.run, command)))
        for event in events:
            evolve(self.run, event)
        self.events += events
        return events

    def start(self, items: list[dict[str, Any]]) -> None:
        self.ask(Start(at=self.now, seed=5, trigger="n0", items=items))

    def step(self) -> None:
        """One thing that can happen now, chosen at random: a body ends, or the next timer is due."""
        self.now += 1_000
        soon = [name for name in self.run.timers if not name.startswith("node:")]  # those are days away
        if self.run.paused:
            self.ask(Resume(self.now))
            return
        able = [*self.run.ready, *self.run.running, *self.run.ambiguous, *soon]
        chosen = able[self.choose(len(able))]
        if chosen in self.run.ambiguous:
            self.ask(Settle(self.now, chosen, self.run.ambiguous[chosen], happened=False))
            return
        if ":" in chosen:
            self.now = max(self.now, self.run.timers[chosen])
            self.ask(Fire(at=self.now, timer=chosen))
            return
        attempt = self.run.running.get(chosen) or self.run.steps[chosen].attempt + 1
        self.ask(Complete(self.now, chosen, attempt, self.outcome(chosen)))

    def outcome(self, name: str) -> StepOutcome:
        node = self.plan.nodes[name]
        self.bodies[name] = self.bodies.get(name, 0) + 1
        if self.run.steps[name].failures < node.parameters["failures"]:
            return StepOutcome(error=StepError("test.flaky", "Not yet.", "infrastructure"))
        kind = node.type.split(".")[1]
        if kind == "broken":
            return StepOutcome(error=StepError("test.broken", "Broken.", "user"))
        if kind == "wait":
            return StepOutcome(wait=Wait(datetime.fromtimestamp(self.now / 1e6 + 60, UTC)))
        items = [item for port in self.run.inputs(name).values() for item in port]
        return StepOutcome(outputs=body(kind, items, name))

    def finish(self) -> None:
        while not self.run.final:
            self.step()


def outputs(run: Run) -> dict[str, dict[str, list[Any]] | None]:
    """What the run's steps put out, in the form of `expected`."""
    found: dict[str, dict[str, list[Any]] | None] = {}
    for name in run.plan.nodes:
        step = run.steps[name]
        ran = step.status != "skipped"
        found[name] = {port: [i.json for i in items] for port, items in step.outputs.items()} if ran else None
    return found


TIMERS = ["run", "wait:n1", "retry:n1", "node:n1", "wait:n2", "node:n2", "nothing"]
commands = st.one_of(
    st.builds(Cancel, at=st.just(0), reason=st.text(max_size=5)),
    st.builds(Recover, at=st.just(0)),
    st.builds(Pause, at=st.just(0)),
    st.builds(Resume, at=st.just(0)),
    st.builds(
        Fire, at=st.just(2**60), timer=st.sampled_from(["run", "wait:n1", "retry:n1", "wait:n2", "node:n1", "nothing"])
    ),
    st.builds(
        Complete,
        at=st.just(0),
        node=st.sampled_from([f"n{i}" for i in range(10)] + ["other"]),
        attempt=st.integers(0, 4),
        outcome=st.builds(StepOutcome, outputs=st.just({"main": [Item({"late": 1})]})),
    ),
    st.builds(Start, at=st.just(0), seed=st.just(0), trigger=st.just("n0"), items=st.just([{"a": 1}])),
)
"""Commands in any state, most of them out of place."""
