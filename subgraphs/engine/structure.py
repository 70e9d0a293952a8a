"""What is wrong with the constructs of a definition: loops, compensations, the finally section."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from subgraphs.engine.bodies import EACH, NEXT, Stray
from subgraphs.engine.definition import Node
from subgraphs.engine.faults import Fault, pointer
from subgraphs.engine.graph import Graph


def structure_faults(graph: Graph) -> Iterator[Fault]:
    """Faults of constructs, in the order named above."""
    cycle = tuple(_cycle(graph))
    yield from cycle
    if graph.loops and not cycle:
        yield from _loops(graph)
        yield from _strays(graph)
    yield from _compensations(graph)
    yield from _ending(graph)


def _places(graph: Graph) -> dict[str, int]:
    return {node_id: index for index, node_id in enumerate(graph.definition.nodes)}


def _cycle(graph: Graph) -> Iterator[Fault]:
    if loop := graph.loop():
        position = list(graph.definition.nodes).index(loop[0])
        shown = loop if len(loop) <= 10 else (*loop[:9], f"{len(loop) - 9} more")
        yield Fault(
            code="graph.loop",
            message=f"Nodes wait for each other: {', '.join(shown)}.",
            pointer=pointer("nodes", position),
            node=loop[0],
            next_step="Remove one of the connections between them, or repeat them with a core.loop node, which they "
            "come back to by its input next.",
        )


def _loops(graph: Graph) -> Iterator[Fault]:
    for index, (node_id, node) in enumerate(graph.definition.nodes.items()):
        if node_id not in graph.loops:
            continue
        body = [each for each in graph.outgoing[node_id] if each.output == EACH and each.target != node_id]
        if not body:
            code, message = "loop.body_empty", f"Loop {node_id} has no body."
            step = "Lead its output each to what is to be done in each round, and that back to its input next."
        elif not any(each.input == NEXT for each in graph.incoming[node_id]):
            code, message = "loop.no_return", f"Nothing leads back to loop {node_id}."
            step = "Lead the last node of the body to its input next."
        else:
            continue
        yield Fault(code=code, message=message, pointer=pointer("nodes", index), node=node.id, next_step=step)


def _strays(graph: Graph) -> Iterator[Fault]:
    strays = graph.bodies.strays
    indices = {each: index for index, each in enumerate(graph.definition.connections)} if strays else {}
    for stray in strays:
        yield _stray(indices[stray.connection], stray)


def _stray(index: int, stray: Stray) -> Fault:
    source, target, loop = stray.connection.source, stray.connection.target, stray.loop
    code, message, step = {
        "outside": (
            "loop.fed_from_outside",
            f"Node {target} lies in the body of loop {loop}, and {source} leads to it from outside.",
            f"Lead {source} to loop {loop}, or refer to nodes.{source} in an expression.",
        ),
        "leaves": (
            "loop.leaves_body",
            f"Node {source} lies in the body of loop {loop} and leads out of it, to {target}.",
            f"Lead {source} to the input next of {loop}, and the output done of {loop} to {target}.",
        ),
        "next": (
            "loop.next_from_outside",
            f"Node {source} leads to the input next of loop {loop} and does not lie in its body.",
            f"Lead the output each of {loop} to {source}, or {source} to another input.",
        ),
    }[stray.kind]
    return Fault(code=code, message=message, pointer=pointer("connections", index), node=source, next_step=step)


def _compensations(graph: Graph) -> Iterator[Fault]:
    if not graph.undoing:
        return
    nodes = graph.definition.nodes
    named = Counter(node.settings.compensate for node in nodes.values())
    triggers = frozenset(graph.triggers)
    for index, node in enumerate(nodes.values()):
        target = node.settings.compensate
        if target is not None and (found := _compensation(graph, node, target, named[target], triggers)):
            code, message, step = found
            place = pointer("nodes", index, "settings", "compensate")
            yield Fault(code=code, message=f"Node {node.id}: {message}", pointer=place, node=node.id, next_step=step)


def _compensation(
    graph: Graph, node: Node, target: str, named: int, triggers: frozenset[str]
) -> tuple[str, str, str] | None:
    nodes = graph.definition.nodes
    if target not in nodes:
        return "compensate.unknown", f"there is no node {target} to undo it.", "Name a node of this workflow."
    if target == node.id or nodes[target].settings.compensate is not None:
        step = "Let a node of its own undo it, which nothing undoes in turn."
        return "compensate.nested", f"{target} is itself undone by a node.", step
    if target in triggers:
        return "compensate.trigger", f"{target} starts executions; it undoes nothing.", "Name another node."
    if graph.incoming[target] or graph.outgoing[target]:
        step = f"Remove the connections of {target}: it gets what {node.id} put out."
        return "compensate.connected", f"{target} undoes it and is connected to other nodes.", step
    if target in graph.definition.settings.last:
        return "compensate.finally", f"{target} belongs to the finally section.", "Name another node."
    if named > 1:
        return "compensate.shared", f"{target} undoes another node too.", f"Make a copy of {target} for each of them."
    return None


def _ending(graph: Graph) -> Iterator[Fault]:
    last, sound = graph.definition.settings.last, True
    for index, node_id in enumerate(last):
        if found := _root(graph, node_id, node_id in last[:index]):
            sound = False
            code, message, step = found
            known = node_id if node_id in graph.definition.nodes else None
            place = pointer("settings", "finally", index)
            yield Fault(code=code, message=message, pointer=place, node=known, next_step=step)
    if not sound or not graph.ending:
        return
    places, main = _places(graph), graph.reachable(graph.triggers)
    for node_id in sorted(graph.ending & main - set(last), key=places.__getitem__):
        yield Fault(
            code="finally.mixed",
            message=f"Node {node_id} belongs to the finally section and to the rest of the workflow.",
            pointer=pointer("nodes", places[node_id]),
            node=node_id,
            next_step="Remove the connections between the two; expressions in the section can refer to every node.",
        )


def _root(graph: Graph, node_id: str, again: bool) -> tuple[str, str, str] | None:
    if node_id not in graph.definition.nodes:
        return "finally.unknown", f"There is no node {node_id[:64]} to run at last.", "Name a node of this workflow."
    if again:
        return "finally.duplicate", f"Node {node_id} stands in finally twice.", "Remove one."
    if node_id in graph.triggers:
        step = "Name the node that is to run at last."
        return "finally.trigger", f"Node {node_id} starts executions and cannot run at last.", step
    if graph.incoming[node_id]:
        step = "Name only nodes with which the section begins."
        return "finally.connected", f"Node {node_id} stands in finally and another node leads to it.", step
    return None
