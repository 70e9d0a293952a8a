"""How a run ends: the answer to its caller, compensations in reverse order, the finally section, the last event."""

from __future__ import annotations

from uuid import UUID

from subgraphs.engine.run.events import Compensating, Concluding, Finished, Replied, StepFailed, StepStarted, Undo
from subgraphs.engine.run.flow import Flow
from subgraphs.engine.run.keys import join
from subgraphs.engine.run.reply import closing
from subgraphs.engine.run.state import Ending
from subgraphs.engine.step import StepError


def section_over(ahead: Flow) -> None:
    """All nodes of the flow, or of the finally section, are settled."""
    ending = ahead.ending
    if ending is None:
        conclude(ahead, "succeeded")
        return
    if ending.status == "succeeded" and (failed := _failed_last(ahead)) is not None:
        node, error = failed
        ending = Ending("failed", error, node)
    finish(ahead, ending)


def _failed_last(ahead: Flow) -> tuple[str, StepError] | None:
    """The first step of the finally section that failed for good: it fails a run that had succeeded."""
    for id in ahead.run.plan.last:
        step = ahead.run.steps.get(id)
        if step is not None and step.status == "failed" and not step.outputs and step.error is not None:
            return id, step.error
    for event in ahead.events:
        if isinstance(event, StepFailed) and event.outputs is None and event.retry_at is None:
            return event.node, event.error
    return None


def conclude(
    ahead: Flow,
    status: str,
    *,
    error: StepError | None = None,
    node: str | None = None,
    by: UUID | None = None,
    at_once: bool = False,
) -> None:
    """The flow is over with `status`: its caller is answered, what is to follow begins. `at_once`: nothing follows."""
    run, started = ahead.run, ahead.started
    ending = Ending(status, error, node, by)
    respond = started.respond if started is not None else None
    if respond is not None and respond.mode != "now" and not ahead.replied:
        bodies = ahead.bodies() if ahead.awaited and status == "succeeded" else []
        ahead.events.append(Replied(at=ahead.at, reply=closing(run, respond, status, bodies, error)))
        ahead.replied = True
    if at_once or (started is not None and (started.until or started.only)):
        finish(ahead, ending)
        return
    undo = [(each.key, each.node) for each in run.undo] + [(each.undone, each.node) for each in ahead.undo]
    if status == "succeeded" or not undo:
        _last(ahead, ending)
        return
    order = tuple(Undo(join(by_, (at,)), undone) for at, (undone, by_) in enumerate(reversed(undo)))
    ahead.events.append(Compensating(at=ahead.at, status=status, undo=order, error=error, node=node, by=by))
    ahead.leave(Ending(status, error, node, by, order))
    _begin(ahead, order[0])


def _begin(ahead: Flow, undo: Undo) -> None:
    if not ahead.run.node(undo.node).pure and not ahead.run.paused:
        ahead.events.append(StepStarted(at=ahead.at, node=undo.node, attempt=1))


def undone(ahead: Flow, ending: Ending) -> None:
    """A compensation is over, well or not: on to the next."""
    done = ending.done + 1
    if done < len(ending.undo):
        _begin(ahead, ending.undo[done])
    else:
        _last(ahead, ending)


def _last(ahead: Flow, ending: Ending) -> None:
    """The finally section, if there is one."""
    plan = ahead.run.plan
    if not plan.last:
        finish(ahead, ending)
        return
    status, error, node, by = ending.status, ending.error, ending.node, ending.by
    ahead.events.append(Concluding(at=ahead.at, status=status, error=error, node=node, by=by))
    ahead.leave(Ending(status, error, node, by, last=True))
    for id in plan.last_roots:
        ahead.ready(id, plan.nodes[id])


def finish(ahead: Flow, ending: Ending) -> None:
    """The last event."""
    ahead.events.append(Finished(at=ahead.at, status=ending.status, error=ending.error, node=ending.node, by=ending.by))
    ahead.leave(ending)
