"""Loops and their rounds, as events change them.

The items of a round lie under the name of the round (`each@3` for round 3 of loop `each`), where the connections of the
body find them. A round that has ended leaves memory, but for what the loop collects; that then descends from the items
the loop itself was given, so that lineage needs no steps which are gone.
"""

from __future__ import annotations

from collections.abc import Iterator

from subgraphs.engine.run.events import Made, RoundEnded, RoundStarted
from subgraphs.engine.run.keys import inside, place
from subgraphs.engine.run.moving import bound, evict, feed_round
from subgraphs.engine.run.parts import PlanNode, Rounds
from subgraphs.engine.run.state import Loop, Round, Run
from subgraphs.engine.step import Item, Source


def started(run: Run, event: RoundStarted) -> None:
    """A round takes its items."""
    key = event.node
    node = run.node(key)
    rounds = _rounds(node)
    loop = run.loops.get(key)
    if loop is None:
        loop = run.loops[key] = opened(run, key, rounds)
        step = run.steps[key]
        step.status, step.attempt = "running", step.attempt + 1
        step.since = step.since or event.at
        bound(run, key, step, node)
    name = inside(key, event.round)
    around = place(name)
    loop.next = event.round + 1
    loop.open.append(event.round)
    items = list(_portion(run, key, event.first, event.count))
    run.rounds[name] = Round(len(rounds.body), event.first, {"each": items})
    for id in rounds.body:
        run.pending[id + around] = len(run.plan.nodes[id].incoming)
    feed_round(run, node, rounds, around)


def opened(run: Run, key: str, rounds: Rounds) -> Loop:
    """A loop at its beginning."""
    items = sum(len(each) for _, _, _, each in run.arriving(key))
    return Loop(items, -(-items // rounds.batch))


def _portion(run: Run, key: str, first: int, count: int) -> Iterator[Item]:
    """Items `first` to `first + count` of all that arrived at the loop, without looking at the others."""
    for source, port, _, items in run.arriving(key):
        if first < len(items):
            for index in range(first, min(first + count, len(items))):
                item = items[index]
                yield Item(item.json, item.files, (Source(source, port, index),))
            count -= min(count, len(items) - first)
            first = 0
        else:
            first -= len(items)
        if not count:
            return


def ended(run: Run, event: RoundEnded) -> None:
    """A round is over: what it brings is kept, its steps are not."""
    key = event.node
    node = run.node(key)
    rounds, loop = _rounds(node), run.loops[key]
    name = inside(key, event.round)
    loop.open.remove(event.round)
    if event.status == "failed":
        loop.failed += 1
        loop.first = loop.first or event.error
    if rounds.collect:
        kept = _kept(run, name, event) if event.collected is not None else _arrived(run, name, rounds)
        if kept:
            loop.collected[event.round] = kept
            loop.count += len(kept)
    evict(run, name, node)


def _kept(run: Run, name: str, event: RoundEnded) -> list[Item]:
    taken = run.rounds[name].outputs["each"]
    entries = (event.collected or {}).get("done") or ()
    return [
        Item(each.json, each.files, tuple(source for index in each.source for source in taken[index].source))
        for each in entries
        if isinstance(each, Made)
    ]


def _arrived(run: Run, name: str, rounds: Rounds) -> list[Item]:
    """What came to the loop's input `next`, descending from the items of the round."""
    around = place(name)
    taken = run.rounds[name].outputs["each"]
    memo: dict[Source, tuple[Source, ...]] = {}
    found = []
    for edge in rounds.returning:
        step = run.steps.get(edge.source + around)
        for item in step.outputs.get(edge.output, ()) if step is not None else ():
            origin = tuple(dict.fromkeys(each for one in item.source for each in _roots(run, name, taken, one, memo)))
            found.append(Item(item.json, item.files, origin))
    return found


def _roots(
    run: Run, name: str, taken: list[Item], source: Source, memo: dict[Source, tuple[Source, ...]]
) -> tuple[Source, ...]:
    """Where in the loop's own input an item of the round comes from. Iterative: a body may be a long chain."""
    work = [source]
    while work:
        here = work[-1]
        if here in memo:
            work.pop()
        elif here.node == name:
            memo[work.pop()] = taken[here.index].source
        else:
            step = run.steps.get(here.node)
            items = step.outputs.get(here.port, ()) if step is not None else ()
            before = items[here.index].source if here.index < len(items) else ()
            missing = [each for each in before if each not in memo]
            if missing:
                work += missing
            else:
                memo[work.pop()] = tuple(dict.fromkeys(root for each in before for root in memo[each]))
    return memo[source]


def gathered(run: Run, key: str) -> dict[str, list[Item]]:
    """What leaves a loop by `done`: what it collected, in the order of its rounds, or its figures."""
    loop = run.loops[key]
    if not _rounds(run.node(key)).collect:
        return {"done": [Item({"rounds": loop.rounds, "failed": loop.failed})]}
    return {"done": [item for number in sorted(loop.collected) for item in loop.collected[number]]}


def _rounds(node: PlanNode) -> Rounds:
    assert node.rounds is not None  # noqa: S101 - events of rounds name loops only
    return node.rounds
