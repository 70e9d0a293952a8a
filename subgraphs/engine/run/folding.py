"""How each event changes a run.

`evolve` changes the state it is given and returns it: one owner folds one run, and copying ten thousand items for each
event would be the whole cost of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from subgraphs.engine.run import looping
from subgraphs.engine.run.events import (
    Admitted,
    Compensating,
    Concluding,
    Event,
    Finished,
    Forked,
    Made,
    Outputs,
    Replied,
    RoundEnded,
    RoundStarted,
    RunPaused,
    RunResumed,
    Signalled,
    Started,
    StepAmbiguous,
    StepFailed,
    StepResumed,
    StepsCancelled,
    StepSettled,
    StepsHeld,
    StepsSkipped,
    StepStarted,
    StepSucceeded,
    StepWaiting,
    Tagged,
)
from subgraphs.engine.run.moving import (
    begin,
    bound,
    dropped,
    enter,
    feed,
    forget,
    over,
    ready,
    settle,
    stop_all,
    upcoming,
)
from subgraphs.engine.run.parts import Edge, PlanNode
from subgraphs.engine.run.snapshot import fill
from subgraphs.engine.run.state import Ending, Hold, Message, Run, Step, Undone
from subgraphs.engine.step import Item, Source


def replay(run: Run, events: Iterable[Event]) -> Run:
    """The run after all of these."""
    for event in events:
        evolve(run, event)
    return run


def evolve(run: Run, event: Event) -> Run:
    """The run after one more event. `version` is the number of events applied."""
    run.version += 1
    if type(event) is StepSucceeded:
        _succeed(run, event)
    elif type(event) is StepStarted:
        begin(run, event)
    elif (change := _CHANGES.get(type(event))) is not None:
        change(run, event)
    if run.finished_at is None:
        if run.paused or run.queued:
            run.status = "paused" if run.paused else "queued"
        elif run.ready or run.running or not (run.alarms or run.holds or run.ambiguous):
            run.status = "running"
        else:
            run.status = "waiting"
    return run


def _succeed(run: Run, event: StepSucceeded) -> None:
    key = event.node
    node = run.plan.nodes.get(key) or run.node(key)
    if event.taken:
        run.steps.setdefault(key, Step("ready"))
        outputs = _taken(run, key, event.taken)
    else:
        outputs = _items(run, key, node, event.outputs)
    if node.compensate is not None and run.ending is None:
        run.undo.append(Undone(key, node.compensate, outputs))
    settle(run, key, node, event.attempt, event.at, outputs, None)


def _taken(run: Run, key: str, taken: str) -> dict[str, list[Item]]:
    """Outputs that do not stand in the event."""
    if taken == "rounds":
        return looping.gathered(run, key)
    kept = run.given(key) if taken == "given" else (run.record or {}).get(key)
    return {
        port: [Item(each.json, each.files) for each in made if type(each) is Made]
        for port, made in (kept or {}).items()
    }


def _items(run: Run, key: str, node: PlanNode, outputs: Outputs) -> dict[str, list[Item]]:
    if len(node.incoming) == 1 and key == node.id:
        return _from_one(run, node.incoming[0], outputs)
    origins = run.origins(key)
    made: dict[str, list[Item]] = {}
    for port, entries in outputs.items():
        made[port] = [
            Item(entry.json, entry.files, tuple(origins[index][0] for index in entry.source))
            if type(entry) is Made
            else _passed(origins[entry])  # type: ignore[index]
            for entry in entries
        ]
    return made


def _from_one(run: Run, edge: Edge, outputs: Outputs) -> dict[str, list[Item]]:
    """The same for a step with one connection, which most have: where an item lies is its position there."""
    source, port = edge.source, edge.output
    arrived = run.steps[source].outputs.get(port) or []
    return {
        to: [
            Item(entry.json, entry.files, tuple([Source(source, port, index) for index in entry.source]))
            if type(entry) is Made
            else Item(arrived[entry].json, arrived[entry].files, (Source(source, port, entry),))  # type: ignore[index,arg-type]
            for entry in entries
        ]
        for to, entries in outputs.items()
    }


def _passed(origin: tuple[Source, Item]) -> Item:
    return Item(origin[1].json, origin[1].files, (origin[0],))


def _start(run: Run, event: Started) -> None:
    run.begun(event)
    if event.gates:
        run.queued = True
        return
    if event.deadline is not None:
        run.alarms["run"] = event.deadline
    _trigger(run, event.trigger, event.at, event.items)


def _trigger(run: Run, key: str, at: int, items: list[Made]) -> None:
    step = Step("succeeded", attempt=1, since=at)
    step.outputs = {"main": [Item(made.json, made.files) for made in items]}
    run.steps[key] = step
    run.left -= 1
    feed(run, run.plan.nodes[key], "", step.outputs)


def _admit(run: Run, event: Admitted) -> None:
    started = run.started
    if started is None:
        return
    run.passed += 1
    if event.items is not None:
        started = run.started = replace(started, items=event.items)
    if run.passed >= len(started.gates):
        run.queued = False
        if event.deadline is not None:
            run.alarms["run"] = event.deadline
        _trigger(run, started.trigger, event.at, started.items)


def _fork(run: Run, event: Forked) -> None:
    fill(run, event.state)
    run.forked, run.plain = True, False
    run.record = event.record if event.effects == "record" else None


def _skip(run: Run, event: StepsSkipped) -> None:
    for key in event.nodes:
        if run.steps.get(key) is not None:  # a run of a part leaves out what its trigger had made ready
            forget(run, key)
        run.steps[key] = Step("skipped")
        enter(run, key)


def _drop(run: Run, event: StepsCancelled) -> None:
    for key in event.nodes:
        dropped(run, key)


def _fail(run: Run, event: StepFailed) -> None:
    step = run.steps[event.node]
    step.failures += 1
    node = run.node(event.node)
    if event.outputs is not None:
        settle(
            run, event.node, node, event.attempt, event.at, _items(run, event.node, node, event.outputs), event.error
        )
        return
    step.attempt, step.error = event.attempt, event.error
    step.since = step.since or event.at
    forget(run, event.node)
    if node.rounds is not None:
        over(run, event.node, node)
    if event.retry_at is not None:
        step.status = "retrying"
        run.alarms[f"retry:{event.node}"] = event.retry_at
        bound(run, event.node, step, node)
        return
    step.status = "failed"
    run.alarms.pop(f"node:{event.node}", None)
    if run.ending is not None and node.loop is None:  # nothing stops an ending: what only this step fed is left out
        enter(run, event.node, node)


def _hold(run: Run, event: StepWaiting) -> None:
    step = run.steps[event.node]
    step.status, step.attempt, step.until = "waiting", event.attempt, event.until or 0
    step.since = step.since or event.at
    forget(run, event.node)
    run.holds[event.node] = Hold(
        event.attempt, event.at, event.kind, event.name, event.detail, event.until, event.deadline
    )
    ends = [due for due in (event.until, event.deadline) if due is not None]
    if ends:
        run.alarms[f"wait:{event.node}"] = min(ends)
    bound(run, event.node, step, run.node(event.node))


def _resumed(run: Run, event: StepResumed) -> None:
    hold = run.holds.get(event.node)
    if hold is not None and hold.kind == "signal" and hold.name in run.signals:
        kept = run.signals[hold.name]
        kept.pop(0)
        if not kept:
            del run.signals[hold.name]


def _park(run: Run, event: StepAmbiguous) -> None:
    run.steps[event.node].status = "ambiguous"
    run.running.pop(event.node, None)
    run.ambiguous[event.node] = event.attempt


def _settled(run: Run, event: StepSettled) -> None:
    run.ambiguous.pop(event.node, None)
    if not event.happened:
        run.steps[event.node].status = "ready"
        (run.held if run.paused else run.ready)[event.node] = None


def _withhold(run: Run, event: StepsHeld) -> None:
    for key in event.nodes:
        del run.running[key]
        run.steps[key].status = "ready"
        run.steps[key].recoveries += 1
        (run.held if run.paused else run.ready)[key] = None


def _signal(run: Run, event: Signalled) -> None:
    run.heard[event.id] = None
    run.signals.setdefault(event.name, []).append(Message(event.data, event.by))


def _pause(run: Run, _: RunPaused) -> None:
    run.paused = True
    run.held.update(run.ready)
    run.ready.clear()


def _resume(run: Run, _: RunResumed) -> None:
    run.paused = False
    run.ready.update(run.held)
    run.held.clear()


def _tag(run: Run, event: Tagged) -> None:
    run.keys.update(event.keys)


def _compensate(run: Run, event: Compensating) -> None:
    stop_all(run)
    run.ending = Ending(event.status, event.error, event.node, event.by, event.undo)
    upcoming(run)


def _conclude(run: Run, event: Concluding) -> None:
    stop_all(run)
    before = run.ending or Ending(event.status)
    run.ending = Ending(event.status, event.error, event.node, event.by, before.undo, before.done, last=True)
    run.left = len(run.plan.last)
    for id in run.plan.last:
        run.pending[id] = len(run.plan.nodes[id].incoming)
    for id in run.plan.last_roots:
        ready(run, id, run.plan.nodes[id])


def _reply(run: Run, event: Replied) -> None:
    run.reply = event.reply


def _finish(run: Run, event: Finished) -> None:
    run.status, run.finished_at, run.error = event.status, event.at, event.error
    for kept in (run.ready, run.held, run.running, run.alarms, run.holds, run.ambiguous):
        kept.clear()
    run.queued = run.paused = False


_CHANGES: dict[type[Any], Callable[[Run, Any], None]] = {
    Started: _start,
    Admitted: _admit,
    Forked: _fork,
    StepsSkipped: _skip,
    StepsCancelled: _drop,
    StepFailed: _fail,
    StepWaiting: _hold,
    StepResumed: _resumed,
    StepAmbiguous: _park,
    StepSettled: _settled,
    StepsHeld: _withhold,
    RoundStarted: looping.started,
    RoundEnded: looping.ended,
    Signalled: _signal,
    RunPaused: _pause,
    RunResumed: _resume,
    Tagged: _tag,
    Compensating: _compensate,
    Concluding: _conclude,
    Replied: _reply,
    Finished: _finish,
}
