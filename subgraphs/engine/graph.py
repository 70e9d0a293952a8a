"""The directed graph of a definition: order, loops, sections that run side by side, critical path, reachability.

Pure and iterative: a chain of 20,000 nodes needs no recursion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

from subgraphs.engine.definition import Connection, Definition


class Graph:
    """Nodes and connections of a definition, indexed. Connections to or from unknown nodes are left out (validation
    names them). `node_types` maps `type@version` to what a manifest says; without it, every node that nothing leads to
    counts as a trigger."""

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

    def _triggers(self, node_types: Mapping[str, Mapping[str, Any]] | None) -> Iterable[str]:
        for node_id, node in self.definition.nodes.items():
            starts = node_types.get(node.key, {}).get("trigger") if node_types is not None else None
            if starts or (node_types is None and not self.incoming[node_id]):
                yield node_id

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Topological order (Kahn 1962), document order among equals. Nodes on a loop or behind one are missing."""
        waiting = {node_id: len(connections) for node_id, connections in self.incoming.items()}
        order = [node_id for node_id, count in waiting.items() if not count]
        for node_id in order:  # grows while it is walked
            for connection in self.outgoing[node_id]:
                waiting[connection.target] -= 1
                if not waiting[connection.target]:
                    order.append(connection.target)
        return tuple(order)

    def loop(self) -> tuple[str, ...]:
        """The nodes of one loop, each connected to the next and the last to the first, beginning with the
        earliest in the document; empty if there is none."""
        stuck = self.definition.nodes.keys() - set(self.order)
        if not stuck:
            return ()
        # Every stuck node has a stuck predecessor, so walking backwards must meet itself.
        walked: dict[str, int] = {}
        path: list[str] = []
        here = next(node_id for node_id in self.definition.nodes if node_id in stuck)
        while here not in walked:
            walked[here] = len(path)
            path.append(here)
            here = next(each.source for each in self.incoming[here] if each.source in stuck)
        found = list(reversed(path[walked[here] :]))
        places = {node_id: index for index, node_id in enumerate(self.definition.nodes)}
        first = min(range(len(found)), key=lambda index: places[found[index]])
        return (*found[first:], *found[:first])

    @cached_property
    def levels(self) -> tuple[tuple[str, ...], ...]:
        """Sections whose nodes do not depend on each other: level n holds nodes whose longest way from a root is n."""
        depth: dict[str, int] = {}
        sections: list[list[str]] = []
        for node_id in self.order:
            level = max((depth[each.source] + 1 for each in self.incoming[node_id]), default=0)
            depth[node_id] = level
            if level == len(sections):
                sections.append([])
            sections[level].append(node_id)
        return tuple(tuple(section) for section in sections)

    def critical_path(self, cost: Callable[[str], float] = lambda _: 1.0) -> tuple[str, ...]:
        """The chain of nodes with the highest sum of `cost` (never negative): what bounds a run's duration."""
        best: dict[str, float] = {}
        before: dict[str, str | None] = {}
        for node_id in self.order:
            source = max((each.source for each in self.incoming[node_id]), key=best.__getitem__, default=None)
            before[node_id] = source
            best[node_id] = cost(node_id) + (best[source] if source is not None else 0.0)
        here = max(best, key=best.__getitem__, default=None)
        path: list[str] = []
        while here is not None:
            path.append(here)
            here = before[here]
        return tuple(reversed(path))

    def reachable(self, start: Iterable[str]) -> frozenset[str]:
        """`start` and every node that items leaving it can come to."""
        return self._closure(start, self.outgoing, lambda each: each.target)

    def leading_to(self, ends: Iterable[str]) -> frozenset[str]:
        """`ends` and every node whose items can come to one of them."""
        return self._closure(ends, self.incoming, lambda each: each.source)

    def upstream(self, node: str) -> frozenset[str]:
        """Every node whose items can come to `node`, itself not included unless it lies on a loop."""
        return self.leading_to(each.source for each in self.incoming[node])

    @staticmethod
    def _closure(
        start: Iterable[str],
        neighbours: Mapping[str, tuple[Connection, ...]],
        other: Callable[[Connection], str],
    ) -> frozenset[str]:
        seen = set(start)
        waiting = list(seen)
        while waiting:
            for each in neighbours[waiting.pop()]:
                if (found := other(each)) not in seen:
                    seen.add(found)
                    waiting.append(found)
        return frozenset(seen)

    @cached_property
    def ancestry(self) -> Mapping[str, int]:
        """Per node a bit set of its ancestors (bit = place in `order`), for asking about many pairs at once."""
        place = {node_id: bit for bit, node_id in enumerate(self.order)}
        sets: dict[str, int] = {}
        for node_id in self.order:
            ancestors = 0
            for each in self.incoming[node_id]:
                ancestors |= sets[each.source] | 1 << place[each.source]
            sets[node_id] = ancestors
        return sets

    @cached_property
    def place(self) -> Mapping[str, int]:
        """Where each node stands in `order`."""
        return {node_id: index for index, node_id in enumerate(self.order)}


def _frozen(lists: Mapping[str, list[Connection]]) -> dict[str, tuple[Connection, ...]]:
    return {node_id: tuple(some) for node_id, some in lists.items()}
