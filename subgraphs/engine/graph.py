"""The directed graph of a definition: order, cycles, bodies of loops, sections that run side by side, critical path.

A loop node stands for two points: its beginning, where items enter and rounds leave by `each`, and its end, where
rounds come back by `next` and everything leaves by `done`. Seen so, a graph whose only cycles are rounds has none. Pure
and iterative: a chain of 20,000 nodes needs no recursion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

from subgraphs.engine.bodies import EACH, NEXT, Bodies
from subgraphs.engine.definition import Connection, Definition

LOOP = "core.loop"
"""The node type that may lie on a cycle."""
END = "@"
"""Follows the id of a loop node where its end is meant; it cannot stand in an id."""


class Graph:
    """Nodes and connections of a definition, indexed. Connections to or from unknown nodes are left out (validation
    names them). `node_types` maps `type@version` to what a manifest says; without it, every node that nothing leads to
    counts as a trigger. `loops` are the loop nodes."""

    def __init__(self, definition: Definition, node_types: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.definition = definition
        incoming: dict[str, list[Connection]] = {node_id: [] for node_id in definition.nodes}
        outgoing: dict[str, list[Connection]] = {node_id: [] for node_id in definition.nodes}
        for connection in definition.connections:
            if connection.source in outgoing and connection.target in incoming:
                outgoing[connection.source].append(connection)
                incoming[connection.target].append(connection)
        self.incoming: Mapping[str, tuple[Connection, ...]] = _frozen(incoming)
        self.outgoing: Mapping[str, tuple[Connection, ...]] = _frozen(outgoing)
        self.triggers = tuple(self._triggers(node_types))
        self.loops = frozenset(node_id for node_id, node in definition.nodes.items() if node.type == LOOP)

    def _triggers(self, node_types: Mapping[str, Mapping[str, Any]] | None) -> Iterable[str]:
        for node_id, node in self.definition.nodes.items():
            starts = node_types.get(node.key, {}).get("trigger") if node_types is not None else None
            if starts or (node_types is None and not self.incoming[node_id]):
                yield node_id

    def point_from(self, connection: Connection) -> str:
        """The point a connection leaves: its source, or the end of it."""
        source = connection.source
        return source + END if source in self.loops and connection.output != EACH else source

    def point_to(self, connection: Connection) -> str:
        """The point a connection leads to: its target, or the end of it."""
        target = connection.target
        return target + END if target in self.loops and connection.input == NEXT else target

    def end_of(self, loop: str) -> str:
        """The point at which the rounds of a loop are over."""
        return loop + END

    @cached_property
    def after(self) -> Mapping[str, tuple[str, ...]]:
        """The points each point leads to, a loop's beginning to its end among them."""
        if not self.loops:
            return {node_id: tuple(each.target for each in some) for node_id, some in self.outgoing.items()}
        found: dict[str, list[str]] = {node_id: [] for node_id in self.definition.nodes}
        for loop in self.loops:
            found[loop + END] = []
            found[loop].append(loop + END)
        for some in self.outgoing.values():
            for each in some:
                found[self.point_from(each)].append(self.point_to(each))
        return {point: tuple(points) for point, points in found.items()}

    @cached_property
    def before(self) -> Mapping[str, tuple[str, ...]]:
        """The points that lead to each point."""
        if not self.loops:
            return {node_id: tuple(each.source for each in some) for node_id, some in self.incoming.items()}
        found: dict[str, list[str]] = {point: [] for point in self.after}
        for point, points in self.after.items():
            for each in points:
                found[each].append(point)
        return {point: tuple(points) for point, points in found.items()}

    @cached_property
    def points(self) -> tuple[str, ...]:
        """Topological order of all points (Kahn 1962), document order among equals. What lies on a cycle other than
        through `next`, or behind one, is missing."""
        waiting = {point: len(points) for point, points in self.before.items()}
        order = [point for point, count in waiting.items() if not count]
        for point in order:  # grows while it is walked
            for following in self.after[point]:
                waiting[following] -= 1
                if not waiting[following]:
                    order.append(following)
        return tuple(order)

    @cached_property
    def order(self) -> tuple[str, ...]:
        """The nodes in the order of `points`: each behind all that leads to it, what follows a loop behind its body."""
        return tuple(point for point in self.points if point[-1] != END) if self.loops else self.points

    def loop(self) -> tuple[str, ...]:
        """The nodes of one cycle that is no round of a loop, each connected to the next and the last to the first,
        beginning with the earliest in the document; empty if there is none."""
        stuck = self.after.keys() - set(self.points)
        if not stuck:
            return ()
        # Every stuck point has a stuck predecessor, so walking backwards must meet itself.
        walked: dict[str, int] = {}
        path: list[str] = []
        here = next(point for point in self.after if point in stuck)
        while here not in walked:
            walked[here] = len(path)
            path.append(here)
            here = next(point for point in self.before[here] if point in stuck)
        found = list(dict.fromkeys(point.rstrip(END) for point in reversed(path[walked[here] :])))
        places = {node_id: index for index, node_id in enumerate(self.definition.nodes)}
        first = min(range(len(found)), key=lambda index: places[found[index]])
        return (*found[first:], *found[:first])

    @cached_property
    def levels(self) -> tuple[tuple[str, ...], ...]:
        """Sections whose nodes do not depend on each other: level n holds nodes whose longest way from a root is n."""
        depth: dict[str, int] = {}
        sections: list[list[str]] = []
        for point in self.points:
            level = max((depth[each] for each in self.before[point]), default=-1) + (point[-1] != END)
            depth[point] = level
            if point[-1] == END:
                continue
            if level == len(sections):
                sections.append([])
            sections[level].append(point)
        return tuple(tuple(section) for section in sections)

    def critical_path(self, cost: Callable[[str], float] = lambda _: 1.0) -> tuple[str, ...]:
        """The chain of nodes with the highest sum of `cost` (never negative): what bounds a run's duration. The body of
        a loop counts once: `cost` of a body's node is that of all its rounds."""
        best: dict[str, float] = {}
        came: dict[str, str | None] = {}
        for point in self.points:
            source = max(self.before[point], key=best.__getitem__, default=None)
            came[point] = source
            own = cost(point) if point[-1] != END else 0.0
            best[point] = own + (best[source] if source is not None else 0.0)
        here = max(best, key=best.__getitem__, default=None)
        path: list[str] = []
        while here is not None:
            if here[-1] != END:
                path.append(here)
            here = came[here]
        return tuple(reversed(path))

    def reachable(self, start: Iterable[str]) -> frozenset[str]:
        """`start` and every node that items leaving it can come to."""
        return self._closure(start, lambda node: (each.target for each in self.outgoing[node]))

    def leading_to(self, ends: Iterable[str]) -> frozenset[str]:
        """`ends` and every node whose items can come to one of them."""
        return self._closure(ends, lambda node: (each.source for each in self.incoming[node]))

    def upstream(self, node: str) -> frozenset[str]:
        """Every node whose items can come to `node`, itself not included unless it lies on a cycle."""
        return self.leading_to(each.source for each in self.incoming[node])

    def returning(self, loop: str) -> frozenset[str]:
        """The points that lead to the end of `loop`, in a round of it or before it begins."""
        return self._closure((loop + END,), self.before.__getitem__)

    @staticmethod
    def _closure(start: Iterable[str], neighbours: Callable[[str], Iterable[str]]) -> frozenset[str]:
        seen = set(start)
        waiting = list(seen)
        while waiting:
            for found in neighbours(waiting.pop()):
                if found not in seen:
                    seen.add(found)
                    waiting.append(found)
        return frozenset(seen)

    @cached_property
    def undoing(self) -> Mapping[str, str]:
        """The node that each compensating node undoes; of several, the first."""
        found: dict[str, str] = {}
        for node_id, node in self.definition.nodes.items():
            if node.settings.compensate is not None:
                found.setdefault(node.settings.compensate, node_id)
        return found

    @cached_property
    def ending(self) -> frozenset[str]:
        """The nodes of the finally section."""
        return self.reachable(each for each in self.definition.settings.last if each in self.outgoing)

    @cached_property
    def ancestry(self) -> Mapping[str, int]:
        """Per node a bit set (bit = place in `order`) of the nodes whose items it can ask for, for asking about many
        pairs at once: its ancestors, but of a finished loop none of its body. A compensating node can ask for what the
        node it undoes could, and for that one; the finally section for all nodes outside of loops."""
        sets: dict[str, int] = {}
        for point in self.points:
            known = 0
            before = (point[:-1],) if point[-1] == END else self.before[point]
            for each in before:
                known |= sets[each] if each[-1] == END else sets[each] | 1 << self.place[each]
            sets[point] = known
        for node_id, undone in self.undoing.items():
            if node_id in sets and undone in sets:
                sets[node_id] |= sets[undone] | 1 << self.place[undone]
        if self.ending:
            within = self.bodies.within
            whole = sum(1 << bit for bit, each in enumerate(self.order) if not within[each] and each not in self.ending)
            for node_id in self.ending & sets.keys():
                sets[node_id] |= whole
        return sets

    @cached_property
    def bodies(self) -> Bodies:
        """The bodies of the loops."""
        return Bodies(self)

    @cached_property
    def place(self) -> Mapping[str, int]:
        """Where each node stands in `order`."""
        return {node_id: index for index, node_id in enumerate(self.order)}


def _frozen(lists: Mapping[str, list[Connection]]) -> dict[str, tuple[Connection, ...]]:
    return {node_id: tuple(some) for node_id, some in lists.items()}
