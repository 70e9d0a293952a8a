"""How a run begins: whole, in part, from where another stood, or once limits let it through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from subgraphs.engine.run import fork, plain
from subgraphs.engine.run.ahead import Ahead
from subgraphs.engine.run.commands import Admit, Given, Start
from subgraphs.engine.run.ending import conclude
from subgraphs.engine.run.events import Admitted, Event, Made, Outputs, Started
from subgraphs.engine.run.plan import Plan
from subgraphs.engine.run.state import Run


def start(run: Run, command: Start) -> list[Event]:
    """The first events of a run."""
    if command.fork is not None:
        return fork.begin(run, _started(run, command), command.fork)
    started = _started(run, command)
    if command.fault is not None:
        ahead = Ahead(run, command.at, started)
        ahead.events.append(started)
        conclude(ahead, "failed", error=command.fault, at_once=True)
        return ahead.events
    return [started] if started.gates else _begin(run, command.at, started, [started])


def _started(run: Run, command: Start) -> Started:
    timeout = run.plan.timeout
    timed = timeout is not None and not command.gates
    return Started(
        at=command.at,
        workflow=command.workflow,
        name=command.name,
        mode=command.mode,
        trigger=command.trigger,
        seed=command.seed,
        items=[Made(json) for json in command.items],
        release=command.release,
        revision=command.revision,
        started_by=command.started_by,
        rerun_of=command.rerun_of,
        respond=command.respond,
        deadline=command.at + int((timeout or 0) * 1e6) if timed else None,
        definition=dict(command.definition) if command.definition is not None else None,
        types=dict(command.types) if command.types is not None else None,
        stored=dict(command.stored) if command.stored is not None else None,
        until=command.until,
        only=command.only,
        given=made(command.given) if command.mode == "draft" else {},
        parent=command.parent,
        gates=command.gates,
        priority=command.priority,
    )


def made(given: Given) -> dict[str, Outputs]:
    """Items by node and port as the journal keeps them."""
    return {
        key: {port: [Made(dict(json)) for json in items] for port, items in ports.items()}
        for key, ports in given.items()
    }


def _begin(run: Run, at: int, started: Started, events: Sequence[Event]) -> list[Event]:
    if run.plan.plain and not run.paused and not (started.given or started.until or started.only):
        return plain.begin(run, at, started, list(events))
    ahead = Ahead(run, at, started)
    ahead.events.extend(events)
    plan, trigger = run.plan, started.trigger
    if started.until is None and started.only is None:
        ahead.begin(started, trigger, [root for root in plan.roots if root != trigger])
        return ahead.events
    wanted, ready = _wanted(plan, started)
    idle = [id for id in plan.pending if id not in wanted and id not in ready and id != trigger]
    ahead.begin(started, trigger, idle, [id for id in ready if id != trigger])
    return ahead.events


def _wanted(plan: Plan, started: Started) -> tuple[set[str], list[str]]:
    """(nodes that are to run, nodes done already) in a run of a part. Inside a loop the loop counts as a whole."""
    given: Mapping[str, Any] = started.given
    target = _outermost(plan, started.until or started.only or "")
    if target not in plan.nodes:
        return set(), []
    wanted, ready = {target}, []
    work: list[Iterable[str]] = [_before(plan, target)]
    seen: set[str] = set()
    while work:
        for id in work.pop():
            if id in seen:
                continue
            seen.add(id)
            if id in given:
                ready.append(id)
            elif started.only is None:
                wanted.add(id)
                work.append(_before(plan, id))
    return wanted, sorted(ready, key=list(plan.pending).index)


def _before(plan: Plan, id: str) -> Iterable[str]:
    return [edge.source for edge in plan.nodes[id].incoming]


def _outermost(plan: Plan, id: str) -> str:
    while id in plan.nodes and (loop := plan.nodes[id].loop) is not None:
        id = loop
    return id


def admit(run: Run, command: Admit) -> list[Event]:
    """A queued run is let through one gate; at the last it begins."""
    started = run.started
    if started is None or not run.queued or started.gates[run.passed].id != command.gate:
        return []
    items = [Made(json) for json in command.items] if command.items is not None else None
    timeout, last = run.plan.timeout, run.passed + 1 == len(started.gates)
    deadline = command.at + int(timeout * 1e6) if timeout is not None and last else None
    admitted = Admitted(at=command.at, gate=command.gate, items=items, deadline=deadline)
    if not last:
        return [admitted]
    if items is not None:
        started = replace(started, items=items)
    return _begin(run, command.at, started, [admitted])
