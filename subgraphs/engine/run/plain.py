"""The short way for what nearly every step is: done, in a whole run of a plan without loops, early joins and endings.

It decides what `Ahead` would, which keeps account of much more; a property test holds the two to the same events.
"""

from __future__ import annotations

from collections.abc import Collection

from subgraphs.engine.run import lineage
from subgraphs.engine.run.ahead import Ahead
from subgraphs.engine.run.commands import Complete
from subgraphs.engine.run.ending import conclude
from subgraphs.engine.run.events import Event, Finished, Replied, Started, StepsSkipped, StepStarted, StepSucceeded
from subgraphs.engine.run.state import Run


def succeed(run: Run, command: Complete) -> list[Event]:
    """What follows when a step is done."""
    key, at, outcome = command.node, command.at, command.outcome
    outputs = lineage.record(run, key, outcome.outputs)
    done = StepSucceeded(
        at=at,
        node=key,
        attempt=command.attempt,
        outputs=outputs,
        took=command.took,
        lines=outcome.lines,
        lines_dropped=outcome.lines_dropped,
    )
    events: list[Event] = [done]
    if outcome.reply is not None and run.reply is None:
        events.append(Replied(at=at, reply=outcome.reply, node=key))
    left = onward(run, at, key, [port for port, items in outputs.items() if items], (), events)
    if left <= 0:
        _end(run, at, done, events, replied=outcome.reply is not None)
    return events


def begin(run: Run, at: int, started: Started, events: list[Event]) -> list[Event]:
    """What follows when a run begins."""
    trigger = started.trigger
    idle = [root for root in run.plan.roots if root != trigger]
    left = onward(run, at, trigger, ("main",) if started.items else (), idle, events)
    if left <= 0:
        _end(run, at, started, events, replied=False)
    return events


def _end(run: Run, at: int, cause: Started | StepSucceeded, events: list[Event], *, replied: bool) -> None:
    started = cause if isinstance(cause, Started) else run.started
    respond = started.respond if started is not None else None
    if respond is None or respond.mode == "now" or replied or run.reply is not None:
        events.append(Finished(at=at, status="succeeded"))
        return
    ahead = Ahead(run, at, cause if isinstance(cause, Started) else None)
    ahead.cause, ahead.events = cause, events
    conclude(ahead, "succeeded")


def onward(run: Run, at: int, node: str, ports: Collection[str], idle: Collection[str], events: list[Event]) -> int:
    """Adds what the settling of `node` sets free: skipped nodes, attempts that begin. How many are left to settle."""
    ready, skipped = _spread(run, node, ports, idle)
    if skipped:
        events.append(StepsSkipped(at=at, nodes=tuple(skipped)))
    nodes = run.plan.nodes
    events.extend(StepStarted(at=at, node=each, attempt=1) for each in ready if not nodes[each].pure)
    return run.left - 1 - len(skipped)


def _spread(run: Run, node: str, ports: Collection[str], idle: Collection[str]) -> tuple[list[str], list[str]]:
    """(nodes made ready, nodes skipped) by the settling of `node`, whose `ports` brought items."""
    pending: dict[str, int] = {}
    fed: set[str] = set()
    ready: list[str] = []
    skipped: list[str] = list(idle)
    nodes, known = run.plan.nodes, run.pending
    work: list[tuple[str, Collection[str]]] = [(node, ports), *((each, ()) for each in idle)]
    while work:
        source, alive = work.pop()
        for edge in nodes[source].outgoing:
            target = edge.target
            left = pending[target] = pending.get(target, known[target]) - 1
            if edge.output in alive:
                fed.add(target)
            if left == 0:
                if target in fed or target in run.fed:
                    ready.append(target)
                else:
                    skipped.append(target)
                    work.append((target, ()))
    return ready, skipped
