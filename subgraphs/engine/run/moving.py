"""How steps move: made ready, begun, settled, dropped, and what that means to the steps after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from subgraphs.engine.run.events import StepStarted
from subgraphs.engine.run.keys import inside, place
from subgraphs.engine.run.parts import Edge, PlanNode, Rounds
from subgraphs.engine.run.state import Run, Step
from subgraphs.engine.step import Item, StepError

Carried = Mapping[str, Sequence[Item]]
NOTHING: Carried = {}


def begin(run: Run, event: StepStarted) -> None:
    """An attempt may now run."""
    key = event.node
    step = run.steps[key]
    step.status, step.attempt = "running", event.attempt
    step.recoveries += event.recovered and not event.spared
    step.since = step.since or event.at
    run.ready.pop(key, None)
    if run.held:
        run.held.pop(key, None)
    if run.ambiguous:
        run.ambiguous.pop(key, None)
    if run.alarms:
        run.alarms.pop(f"retry:{key}", None)
    run.running[key] = event.attempt
    node = run.plan.nodes.get(key) or run.node(key)
    if node.total is not None:
        bound(run, key, step, node)


def bound(run: Run, key: str, step: Step, node: PlanNode) -> None:
    """The node has until `total` after its first attempt began, whatever it does in between."""
    if node.total is not None:
        run.alarms[f"node:{key}"] = step.since + int(node.total * 1e6)


def forget(run: Run, key: str) -> None:
    """It does none of the things a step can be doing."""
    run.ready.pop(key, None)
    run.running.pop(key, None)
    if run.held:
        run.held.pop(key, None)
    if run.holds:
        run.holds.pop(key, None)
    if run.ambiguous:
        run.ambiguous.pop(key, None)
    if run.alarms:
        run.alarms.pop(f"retry:{key}", None)
        run.alarms.pop(f"wait:{key}", None)


def settle(
    run: Run,
    key: str,
    node: PlanNode,
    attempt: int,
    at: int,
    outputs: dict[str, list[Item]],
    error: StepError | None,
) -> None:
    """It is done, and its outputs are there for others."""
    step = run.steps[key]
    step.status = "failed" if error is not None else "succeeded"
    step.attempt, step.outputs, step.error = attempt, outputs, error
    step.since = step.since or at
    forget(run, key)
    if run.alarms:
        run.alarms.pop(f"node:{key}", None)
    if node.rounds is not None:
        over(run, key, node)
    run.last = key
    if run.ending is None and key == node.id and node.loop is None:
        run.left -= 1
        _reach(run, node.outgoing, "", outputs, key)
    else:
        enter(run, key, node, outputs)


def dropped(run: Run, key: str) -> None:
    """Nobody needs it any more."""
    node = run.node(key)
    step = run.steps.setdefault(key, Step("cancelled"))
    step.status = "cancelled"
    forget(run, key)
    run.alarms.pop(f"node:{key}", None)
    if node.rounds is not None:
        over(run, key, node)
    enter(run, key, node)


def enter(run: Run, key: str, node: PlanNode | None = None, outputs: Carried = NOTHING) -> None:
    """One step less to wait for; those after it learn what it brings."""
    node = node or run.node(key)
    around = place(key)
    if node.loop is None:
        if run.ending is not None and not run.ending.last:  # a compensation, which is none of the flow's nodes
            run.ending.done += 1
            upcoming(run)
        else:
            run.left -= 1
    else:
        run.rounds[node.loop + around].left -= 1
    feed(run, node, around, outputs)


def feed(run: Run, node: PlanNode, around: str, outputs: Carried) -> None:
    """The connections of a settled node are settled."""
    _reach(run, node.outgoing, around, outputs, node.id)


def feed_round(run: Run, node: PlanNode, rounds: Rounds, around: str) -> None:
    """The items of a round come to the body of its loop."""
    _reach(run, rounds.entering, around, run.rounds[node.id + around].outputs, node.id)


def _reach(run: Run, edges: Sequence[Edge], around: str, outputs: Carried, source: str) -> None:
    nodes, pending = run.plan.nodes, run.pending
    for edge in edges:
        target = edge.target + around if around else edge.target
        left = pending[target] = pending[target] - 1
        if outputs.get(edge.output):
            if nodes[edge.target].join != "all":
                if target not in run.steps:
                    ready(run, target, nodes[edge.target], source + around)
                continue
            run.fed.add(target)
        if left == 0 and target in run.fed and target not in run.steps:
            ready(run, target, nodes[edge.target])


def ready(run: Run, key: str, node: PlanNode, won: str = "") -> None:
    """The step can begin. A loop goes through its rounds by itself."""
    run.steps[key] = Step("ready", won=won)
    if node.rounds is None:
        (run.held if run.paused else run.ready)[key] = None


def upcoming(run: Run) -> None:
    """The next compensation can begin."""
    ending = run.ending
    if ending is not None and ending.done < len(ending.undo):
        key = ending.undo[ending.done].node
        ready(run, key, run.node(key))


def over(run: Run, key: str, node: PlanNode) -> None:
    """A loop ends, and with it the rounds that are under way."""
    loop = run.loops.pop(key, None)
    for number in loop.open if loop is not None else ():
        evict(run, inside(key, number), node)


def evict(run: Run, name: str, loop: PlanNode) -> None:
    """The steps of a round leave memory; the journal has them."""
    around = place(name)
    del run.rounds[name]
    for id in loop.rounds.body if loop.rounds is not None else ():
        key = id + around
        run.pending.pop(key, None)
        run.fed.discard(key)
        if run.steps.pop(key, None) is None:
            continue
        forget(run, key)
        if run.alarms:
            run.alarms.pop(f"node:{key}", None)
        if (node := run.plan.nodes[id]).rounds is not None:
            over(run, key, node)


def stop_all(run: Run) -> None:
    """Whatever is under way is not needed any more."""
    retrying = [name[6:] for name in run.alarms if name.startswith("retry:")]
    for key in (*run.ready, *run.held, *run.running, *run.holds, *run.ambiguous, *run.loops, *retrying):
        run.steps[key].status = "cancelled"
    for kept in (run.ready, run.held, run.running, run.holds, run.ambiguous, run.loops, run.alarms):
        kept.clear()
