"""Loops as decisions: which round begins, when one is over, when the loop is done or has failed too often."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from subgraphs.engine.run.events import Made, Outputs, RoundEnded, RoundStarted, StepsCancelled, StepSucceeded
from subgraphs.engine.run.flow import Course, Flow, Ready
from subgraphs.engine.run.keys import around as outside
from subgraphs.engine.run.keys import inside, place
from subgraphs.engine.run.lineage import marked
from subgraphs.engine.run.parts import PlanNode, Rounds
from subgraphs.engine.run.state import SETTLED, Run
from subgraphs.engine.step import Item, StepError


def begin(ahead: Flow, key: str, node: PlanNode, won: str) -> None:
    """A loop has its items: its first rounds begin."""
    loop, near = _rounds(node), place(key)
    edges = [edge for edge in node.incoming if not won or edge.source + near == won]
    items = sum(ahead.number(edge.source + near, edge.output) for edge in edges)
    items = items or (node.id in ahead.run.plan.last_roots)  # that begins with one item
    total = -(-items // loop.batch)
    if total > loop.most:
        told = f"{items:,} items make {total:,} rounds; at most {loop.most:,} are allowed."
        ahead.fail(key, node, StepError("loop.too_many_rounds", told, "limit", detail={"rounds": total}), 1)
        return
    ahead.loops[key] = Course(items, total, 0, set(), 0, 0, None)
    _go_on(ahead, key, node)


def resume(ahead: Flow) -> None:
    """Goes on with loops that were taken over from another run, the inner ones first."""
    run = ahead.run
    for key in sorted(run.loops, key=len, reverse=True):
        node = run.node(key)
        for number in list(run.loops[key].open):
            name = inside(key, number)
            if run.rounds[name].left == 0 and name not in ahead.gone:
                end(ahead, name)
                ahead.proceed()
        _go_on(ahead, key, node)
        ahead.proceed()


def _course(ahead: Flow, key: str) -> Course:
    course = ahead.loops.get(key)
    if course is None:
        loop = ahead.run.loops[key]
        course = Course(loop.items, loop.rounds, loop.next, set(loop.open), loop.failed, loop.count, loop.first)
        ahead.loops[key] = course
    return course


def _go_on(ahead: Flow, key: str, node: PlanNode) -> None:
    """Begins rounds while there is room, or ends the loop when none is left."""
    loop, course = _rounds(node), _course(ahead, key)
    while len(course.open) < loop.parallel and course.next < course.total and key not in ahead.gone:
        number = course.next
        course.next += 1
        course.open.add(number)
        _start(ahead, key, node, number)
    if not course.open and course.next >= course.total and key not in ahead.gone:
        ahead.gone.add(key)
        done = StepSucceeded(at=ahead.at, node=key, attempt=1, taken="rounds")
        ahead.events.append(done)
        ahead.settled(done, node, {"done": course.count if loop.collect else 1})


def _start(ahead: Flow, key: str, node: PlanNode, number: int) -> None:
    loop, course = _rounds(node), _course(ahead, key)
    first = number * loop.batch
    taken = min(loop.batch, course.items - first)
    name = inside(key, number)
    ahead.events.append(RoundStarted(at=ahead.at, node=key, round=number, first=first, count=taken))
    ahead.left[name] = len(loop.body)
    ahead.counts[name] = {"each": taken}
    ready: Ready = []
    ahead.reach(loop.entering, place(name), name, {"each": taken}, ready, [], [])
    for each, won in ready:
        if name not in ahead.gone and key not in ahead.gone:
            ahead.ready(each, ahead.run.node(each), won)


def end(ahead: Flow, name: str) -> None:
    """All steps of a round are settled."""
    key, number = outside(name)
    node = ahead.run.node(key)
    loop, course, around = _rounds(node), _course(ahead, key), place(name)
    ahead.events.append(RoundEnded(at=ahead.at, node=key, round=number))
    ahead.gone.add(name)
    course.open.discard(number)
    if loop.collect:
        course.count += sum(ahead.number(edge.source + around, edge.output) for edge in loop.returning)
        if ahead.awaited:
            parts = [ahead.items(edge.source + around, edge.output) for edge in loop.returning]
            course.gained[number] = None if None in parts else [item for part in parts for item in part or ()]
        if course.count > ahead.run.plan.items:
            error = StepError(
                "step.too_many_items", f"A step puts out at most {ahead.run.plan.items:,} items.", "limit"
            )
            _give_up(ahead, key, node, error)
            return
    _go_on(ahead, key, node)


def fail(ahead: Flow, failed: str, of: PlanNode, error: StepError) -> None:
    """A step of a round has failed for good: the round has, and the loop if it is one too many."""
    name = f"{of.loop}{place(failed)}"
    key, number = outside(name)
    node = ahead.run.node(key)
    loop, course = _rounds(node), _course(ahead, key)
    _stop(ahead, [each for each in _open(ahead, loop, place(name)) if each != failed])
    course.failed += 1
    course.first = course.first or error
    course.open.discard(number)
    ahead.gone.add(name)
    borne = course.failed <= loop.allowed(course.total)
    collected: Outputs = {}
    if borne and loop.collect:
        collected = {"done": _marked(ahead, key, node, number, error)}
        course.count += len(collected["done"])
        course.gained[number] = [Item(each.json) for each in collected["done"] if isinstance(each, Made)]
    ahead.events.append(
        RoundEnded(
            at=ahead.at, node=key, round=number, status="failed", error=error, failed=failed, collected=collected
        )
    )
    if borne:
        _go_on(ahead, key, node)
        return
    told = f"{course.failed} of {course.total} rounds failed; the first: {course.first.message}"
    detail = {"failed": course.failed, "rounds": course.total, "first": msgspec.to_builtins(course.first)}
    _give_up(ahead, key, node, StepError("loop.too_many_failures", told, detail=detail))


def _marked(ahead: Flow, key: str, node: PlanNode, number: int, error: StepError) -> list[int | Made]:
    """The items of a failed round with its error."""
    held = ahead.run.rounds.get(inside(key, number))
    if held is not None:
        return marked(held.outputs["each"], error)
    batch = _rounds(node).batch
    return marked((ahead.arriving(key, node) or [])[number * batch : (number + 1) * batch], error)


def gathered(run: Run, key: str, course: Course) -> list[Item]:
    """What leaves a loop that is done by what was decided just now."""
    if not _rounds(run.node(key)).collect:
        return [Item({"rounds": course.total, "failed": course.failed})]
    loop = run.loops.get(key)
    kept = {**(loop.collected if loop is not None else {}), **course.gained}
    return [item for number in sorted(kept) for item in kept[number] or ()]


def _give_up(ahead: Flow, key: str, node: PlanNode, error: StepError) -> None:
    loop = _rounds(node)
    numbers = sorted(_course(ahead, key).open)
    _stop(ahead, [each for number in numbers for each in _open(ahead, loop, place(inside(key, number)))])
    ahead.gone.add(key)
    ahead.fail(key, node, error, 1)


def _stop(ahead: Flow, keys: list[str]) -> None:
    if keys:
        ahead.events.append(StepsCancelled(at=ahead.at, nodes=tuple(keys)))


def lost(ahead: Flow, node: PlanNode, around: str) -> bool:
    """Whether a step belongs to a round that is over, by what was decided just now."""
    while node.loop is not None:
        name = node.loop + around
        key, _ = outside(name)
        if name in ahead.gone or key in ahead.gone:
            return True
        node, around = ahead.run.plan.nodes[node.loop], place(key)
    return False


def _open(ahead: Flow, loop: Rounds, around: str) -> Iterator[str]:
    """The steps of a round that are not settled, those of loops inside it first."""
    run = ahead.run
    for id in loop.body:
        key = id + around
        step = run.steps.get(key)
        if step is None or step.status in SETTLED or key in ahead.gone or key in ahead.counts:
            continue
        inner = run.plan.nodes[id].rounds
        if inner is not None and key in run.loops:
            for number in run.loops[key].open:
                if inside(key, number) not in ahead.gone:
                    yield from _open(ahead, inner, place(inside(key, number)))
        yield key


def _rounds(node: PlanNode) -> Rounds:
    assert node.rounds is not None  # noqa: S101 - only loops have rounds
    return node.rounds
