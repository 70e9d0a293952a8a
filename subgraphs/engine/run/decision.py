"""What follows from a command: `decide(run, command)` gives the events, and changes nothing.

A node is ready when all its incoming connections have settled and at least one brought items; if none did it is
skipped, and so its own connections are dead. Nodes that only compute become ready and leave no trace until they are
done; nodes that reach outside get `StepStarted` in the same commit as what made them ready.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from subgraphs.engine.run import lineage
from subgraphs.engine.run.commands import Cancel, Command, Complete, Fail, Fire, Recover, Start
from subgraphs.engine.run.events import (
    Event,
    Finished,
    Made,
    Outputs,
    Replied,
    Started,
    StepFailed,
    StepsSkipped,
    StepStarted,
    StepSucceeded,
    StepWaiting,
)
from subgraphs.engine.run.reply import closing
from subgraphs.engine.run.retry import delay
from subgraphs.engine.run.state import Run, Step
from subgraphs.engine.step import StepError, StepOutcome


def decide(run: Run, command: Command) -> list[Event]:
    """The events that follow; none when the command comes too late (a final run, an attempt that was replaced)."""
    if isinstance(command, Start):
        return _start(run, command) if run.started is None else []
    if run.started is None or run.final:
        return []
    if isinstance(command, Complete):
        step = run.steps.get(command.node)
        return _complete(run, step, command) if step is not None else []
    if isinstance(command, Fire):
        return _fire(run, command)
    if isinstance(command, Recover):
        return [
            StepStarted(at=command.at, node=node, attempt=attempt + 1, recovered=True)
            for node, attempt in run.running.items()
        ]
    if isinstance(command, Fail):
        return _end(run, command.at, "failed", None, error=command.error)
    return _cancel(run, command) if isinstance(command, Cancel) else []


def _start(run: Run, command: Start) -> list[Event]:
    timeout = run.plan.timeout
    started = Started(
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
        deadline=command.at + int(timeout * 1e6) if timeout is not None else None,
        definition=dict(command.definition) if command.definition is not None else None,
        types=dict(command.types) if command.types is not None else None,
        stored=dict(command.stored) if command.stored is not None else None,
    )
    if command.fault is not None:
        return [started, *_end(run, command.at, "failed", started, error=command.fault)]
    idle = [root for root in run.plan.roots if root != command.trigger]
    ports = ("main",) if command.items else ()
    return [started, *_onward(run, command.at, command.trigger, ports, started, idle)]


def _complete(run: Run, step: Step, command: Complete) -> list[Event]:
    if command.node in run.running:
        if run.running[command.node] != command.attempt:
            return []
    elif command.node not in run.ready or command.attempt != step.attempt + 1:
        return []
    outcome = command.outcome
    events: list[Event] = []
    if outcome.reply is not None and run.reply is None:
        events.append(Replied(at=command.at, reply=outcome.reply, node=command.node))
    replied = run.reply is not None or bool(events)
    if outcome.error is not None:
        return events + _failure(run, step, command, outcome.error, replied)
    if outcome.wait is not None:
        return [*events, _waiting(run, step, command, outcome.wait.until)]
    outputs = lineage.record(run, command.node, outcome.outputs)
    done = StepSucceeded(
        at=command.at,
        node=command.node,
        attempt=command.attempt,
        outputs=outputs,
        took=command.took,
        lines=outcome.lines,
        lines_dropped=outcome.lines_dropped,
    )
    return [done, *events, *_onward(run, command.at, command.node, _filled(outputs), done, replied=replied)]


def _filled(outputs: Outputs) -> list[str]:
    return [port for port, items in outputs.items() if items]


def _failure(
    run: Run, step: Step, command: Complete, error: StepError, replied: bool, *, again: bool = True
) -> list[Event]:
    node = run.plan.nodes[command.node]
    outcome: StepOutcome = command.outcome
    seed = f"{run.started.seed if run.started else 0}:{node.id}"
    wait = delay(node.retry, step.failures + 1, error, seed) if again else None
    outputs: Outputs | None = None
    if wait is None and node.on_error in ("continue", "output"):
        port = "main" if node.on_error == "continue" else "error"
        outputs = {port: lineage.with_error(run, node.id, error)}
    failed = StepFailed(
        at=command.at,
        node=node.id,
        attempt=command.attempt,
        error=error,
        took=command.took,
        retry_at=command.at + int(wait * 1e6) if wait is not None else None,
        outputs=outputs,
        lines=outcome.lines,
        lines_dropped=outcome.lines_dropped,
    )
    if wait is not None:
        return [failed]
    if outputs is not None:
        return [failed, *_onward(run, command.at, node.id, _filled(outputs), failed, replied=replied)]
    return [failed, *_end(run, command.at, "failed", failed, error=error, node=node.id, replied=replied)]


def _waiting(run: Run, step: Step, command: Complete, until: datetime | None) -> StepWaiting:
    node = run.plan.nodes[command.node]
    began = step.since or command.at
    return StepWaiting(
        at=command.at,
        node=node.id,
        attempt=command.attempt,
        until=max(command.at, int(until.timestamp() * 1e6)) if until is not None else None,
        deadline=began + int(node.wait_timeout * 1e6) if node.wait_timeout is not None else None,
        took=command.took,
        lines=command.outcome.lines,
        lines_dropped=command.outcome.lines_dropped,
    )


def _fire(run: Run, command: Fire) -> list[Event]:
    due = run.timers.get(command.timer)
    if due is None or due > command.at:
        return []
    if command.timer == "run":
        error = StepError("execution.timeout", f"The run took longer than {run.plan.timeout:g} s.", "timeout")
        return _end(run, command.at, "timed_out", None, error=error)
    kind, _, node = command.timer.partition(":")
    step = run.steps[node]
    if kind == "node":
        total = run.plan.nodes[node].total or 0.0
        error = StepError("step.total_timeout", f"The node took longer than {total:g} s in all.", "timeout")
        failing = Complete(command.at, node, step.attempt, StepOutcome(error=error))
        return _failure(run, step, failing, error, run.reply is not None, again=False)
    if kind == "retry":
        return [StepStarted(at=command.at, node=node, attempt=step.attempt + 1)]
    if due < step.until:
        error = StepError("step.wait_timeout", "The wait outlasted the node's timeout.", "timeout")
        failing = Complete(command.at, node, step.attempt, StepOutcome(error=error))
        return _failure(run, step, failing, error, run.reply is not None)
    held = sum(len(items) for _, _, _, items in run.arriving(node))
    outputs: Outputs = {"main": list(range(held))}
    done = StepSucceeded(at=command.at, node=node, attempt=step.attempt, outputs=outputs)
    return [done, *_onward(run, command.at, node, ("main",), done)]


def _cancel(run: Run, command: Cancel) -> list[Event]:
    error = StepError("execution.cancelled", command.reason or "The run was cancelled.")
    return _end(run, command.at, "cancelled", None, error=error, by=command.by)


def _onward(
    run: Run,
    at: int,
    node: str,
    ports: Collection[str],
    cause: Started | StepSucceeded | StepFailed,
    idle: Collection[str] = (),
    *,
    replied: bool | None = None,
) -> list[Event]:
    """What the settling of `node` sets free: skipped nodes, attempts that begin, the end of the run."""
    ready, skipped = _spread(run, node, ports, idle)
    events: list[Event] = []
    if skipped:
        events.append(StepsSkipped(at=at, nodes=tuple(skipped)))
    nodes = run.plan.nodes
    events.extend(StepStarted(at=at, node=each, attempt=1) for each in ready if not nodes[each].pure)
    if run.left - 1 - len(skipped) <= 0:
        answered = run.reply is not None if replied is None else replied
        events.extend(_end(run, at, "succeeded", cause, replied=answered))
    return events


def _spread(run: Run, node: str, ports: Collection[str], idle: Collection[str]) -> tuple[list[str], list[str]]:
    """(nodes made ready, nodes skipped) by the settling of `node`, whose `ports` brought items."""
    pending: dict[str, int] = {}
    fed: set[str] = set()
    ready: list[str] = []
    skipped: list[str] = list(idle)
    work: list[tuple[str, Collection[str]]] = [(node, ports), *((each, ()) for each in idle)]
    while work:
        source, alive = work.pop()
        for edge in run.plan.nodes[source].outgoing:
            target = edge.target
            left = pending[target] = pending.get(target, run.pending[target]) - 1
            if edge.output in alive:
                fed.add(target)
            if left == 0:
                if target in fed or target in run.fed:
                    ready.append(target)
                else:
                    skipped.append(target)
                    work.append((target, ()))
    return ready, skipped


def _end(
    run: Run,
    at: int,
    status: str,
    cause: Started | StepSucceeded | StepFailed | None,
    *,
    error: StepError | None = None,
    node: str | None = None,
    by: UUID | None = None,
    replied: bool | None = None,
) -> list[Event]:
    events: list[Event] = []
    respond = cause.respond if isinstance(cause, Started) else run.respond
    answered = run.reply is not None if replied is None else replied
    if respond is not None and respond.mode != "now" and not answered:
        events.append(Replied(at=at, reply=closing(run, respond, status, cause, error)))
    events.append(Finished(at=at, status=status, error=error, node=node, by=by))
    return events
