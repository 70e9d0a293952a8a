"""A run driven by hand: its definition in short, its commands one at a time, everything through codec and snapshot."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from subgraphs.engine.run import (
    Complete,
    Event,
    Fire,
    Plan,
    Run,
    Start,
    decide,
    decode,
    encode,
    evolve,
    restore,
    snapshot,
)
from subgraphs.engine.step import Item, StepError, StepOutcome, Wait
from tests.subgraphs.engine.run.recording import told

T0 = 1_700_000_000_000_000
SECOND = 1_000_000
ID, TENANT = UUID(int=1), UUID(int=2)
KINDS = {"t": "test.trigger", "p": "test.pure", "k": "test.keyed", "x": "test.unsafe", "loop": "core.loop"}
TYPES: dict[str, dict[str, Any]] = {
    "test.trigger@1": {"effect": "pure", "trigger": True},
    "test.pure@1": {"effect": "pure"},
    "test.keyed@1": {"effect": "keyed"},
    "test.unsafe@1": {"effect": "unsafe"},
    "core.loop@1": {"effect": "pure"},
    "core.merge@1": {"effect": "pure"},
}


def graph(nodes: str, edges: str, settings: dict[str, Any] | None = None, **own: dict[str, Any]) -> dict[str, Any]:
    """`nodes` as in "a:t b c:k"; `edges` as in "a>b l.each>b b>l.next". `own`: settings of a node; what is under its
    key `parameters` are its parameters."""
    connections, made = [], []
    for edge in edges.split():
        source, target = edge.split(">")
        name, _, port = source.partition(".")
        target, _, entry = target.partition(".")
        connections.append({"from": name, "output": port or "main", "to": target, "input": entry or "main"})
    for text in nodes.split():
        name, _, kind = text.partition(":")
        mine = dict(own.get(name, {}))
        parameters = mine.pop("parameters", {})
        type = KINDS.get(kind or "p", kind)
        made.append({"id": name, "type": type, "version": "1", "parameters": parameters, "settings": mine})
    return {"nodes": made, "connections": connections, "settings": settings or {}}


class Course:
    """A run and all that happened in it."""

    def __init__(self, definition: dict[str, Any], *items: dict[str, Any], started: bool = True, **more: Any) -> None:
        self.definition, self.now = definition, T0
        self.plan = Plan.of(definition, TYPES)
        self.run = Run.blank(ID, TENANT, self.plan)
        self.events: list[Event] = []
        if started:
            self.do(Start(at=T0, seed=9, trigger="a", items=items or ({"n": 1},), **more))

    def do(self, command: Any) -> list[Event]:
        events = decode(encode(decide(self.run, command)))
        for event in events:
            evolve(self.run, event)
        self.events += events
        return events

    def end(self, key: str, **outcome: Any) -> list[Event]:
        self.now += 1
        attempt = self.run.running.get(key) or self.run.steps[key].attempt + 1
        return self.do(Complete(self.now, key, attempt, StepOutcome(**outcome)))

    def ok(self, *keys: str, **json: Any) -> list[Event]:
        """Ends steps with one new item each; the events of the last."""
        events: list[Event] = []
        for key in keys:
            events = self.end(key, outputs={"main": [Item({"by": key, **json})]})
        return events

    def passing(self, *keys: str) -> list[Event]:
        """Ends steps with what they were given."""
        events: list[Event] = []
        for key in keys:
            items = [item for port in self.run.inputs(key).values() for item in port]
            events = self.end(key, outputs={"main": items})
        return events

    def fail(self, key: str, code: str = "x", kind: str = "user") -> list[Event]:
        return self.end(key, error=StepError(code, "No.", kind))

    def wait(
        self, key: str, seconds: float | None = None, kind: str = "time", name: str = "", **detail: Any
    ) -> list[Event]:
        until = datetime.fromtimestamp(self.now / 1e6 + seconds, UTC) if seconds is not None else None
        return self.end(key, wait=Wait(until, kind, name, detail))

    def fire(self, timer: str) -> list[Event]:
        self.now = max(self.now, self.run.alarms[timer])
        return self.do(Fire(self.now, timer))

    def lines(self, name: str) -> list[bytes]:
        """The run as the files of the replay gate hold runs."""
        head = {"name": name, "definition": self.definition, "types": TYPES}
        return [msgspec.json.encode(each) for each in (head, self.events, {"end": told(self.run)})]

    def out(self, key: str, port: str = "main") -> list[Any]:
        """What a step put out."""
        return [item.json for item in self.run.steps[key].outputs.get(port, ())]

    def statuses(self) -> dict[str, str]:
        return {key: step.status for key, step in self.run.steps.items()}

    def named(self, *kinds: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kinds)]

    def consistent(self) -> None:
        """At every event, a snapshot and the events after it lead to the state that all events lead to."""
        assert snapshot(self.replayed(self.events)) == snapshot(self.run)
        for cut in range(len(self.events)):
            head = self.replayed(self.events[:cut])
            restored = restore(ID, TENANT, self.plan, snapshot(head))
            for event in self.events[cut:]:
                evolve(restored, event)
            assert snapshot(restored) == snapshot(self.run), cut

    def replayed(self, events: Iterable[Event]) -> Run:
        run = Run.blank(ID, TENANT, self.plan)
        for event in events:
            evolve(run, event)
        return run
