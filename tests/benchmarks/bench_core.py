"""What the pure core costs: deciding and applying steps, apart from bodies and storage. Prints `name value unit`."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from subgraphs.engine.run import Complete, Plan, Run, Start, decide, evolve
from subgraphs.engine.step import Item, StepOutcome

AT = 1_700_000_000_000_000
TYPES: dict[str, dict[str, Any]] = {
    "t@1": {"effect": "pure", "trigger": True},
    "p@1": {"effect": "pure"},
    "x@1": {"effect": "keyed"},
}


def chain(length: int, kind: str = "p") -> Plan:
    """A trigger and so many nodes, one after another."""
    nodes = [{"id": "n0", "type": "t", "version": "1"}]
    nodes += [{"id": f"n{index}", "type": kind, "version": "1"} for index in range(1, length + 1)]
    edges = [{"from": f"n{index}", "to": f"n{index + 1}"} for index in range(length)]
    return Plan.of({"nodes": nodes, "connections": edges}, TYPES)


def through(plan: Plan, runs: int) -> float:
    """CPU seconds of `runs` whole runs, bodies left out."""
    outputs = {"main": [Item({"n": 1})]}
    begun = time.process_time()
    for _ in range(runs):
        run = Run.blank(UUID(int=1), UUID(int=2), plan)
        for event in decide(run, Start(at=AT, seed=1, trigger="n0", items=[{"n": 1}])):
            evolve(run, event)
        while not run.final:
            node = next(iter(run.ready or run.running))
            for event in decide(run, Complete(AT, node, 1, StepOutcome(outputs), 0.1)):
                evolve(run, event)
    return time.process_time() - begun


def rounds(count: int) -> float:
    """CPU seconds of a loop of so many rounds of two nodes that only compute, bodies left out."""
    kinds = {"a": "t", "l": "core.loop", "b": "p", "c": "p"}
    nodes = [{"id": id, "type": kind, "version": "1"} for id, kind in kinds.items()]
    ways = (
        ("a", "main", "l", "main"),
        ("l", "each", "b", "main"),
        ("b", "main", "c", "main"),
        ("c", "main", "l", "next"),
    )
    edges = [{"from": source, "output": port, "to": target, "input": entry} for source, port, target, entry in ways]
    plan = Plan.of({"nodes": nodes, "connections": edges}, {**TYPES, "core.loop@1": {"effect": "pure"}})
    run = Run.blank(UUID(int=1), UUID(int=2), plan)
    for event in decide(run, Start(at=AT, seed=1, trigger="a", items=[{"n": n} for n in range(count)])):
        evolve(run, event)
    outcome = StepOutcome({"main": [Item({"n": 1})]})
    begun = time.process_time()
    while not run.final:
        for event in decide(run, Complete(AT, next(iter(run.ready)), 1, outcome, 0.1)):
            evolve(run, event)
    return time.process_time() - begun


def main() -> None:
    for name, plan in (("pure", chain(10)), ("outside", chain(10, "x"))):
        best = min(through(plan, 2_000) for _ in range(7))
        print(f"core.step.{name} {best / 20_000 * 1e6:.2f} us CPU a step, decide and evolve")

    for count in (1_000, 10_000, 100_000):
        print(f"core.round.{count} {rounds(count) / count * 1e6:.1f} us CPU a round of two pure nodes, of {count:,}")


if __name__ == "__main__":
    main()
