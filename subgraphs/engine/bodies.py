"""Which loop's body each node lies in, and the connections that cross the border of a body other than by the loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol

from subgraphs.engine.definition import Connection

EACH, NEXT = "each", "next"
"""The port by which a round leaves the loop node, and the one to which it comes back."""
LOOKED_AT = 50
"""Loops of which it is found out what leads back to them, when connections cross borders; more need not be told."""


class Looped(Protocol):
    """What is asked of a graph."""

    incoming: Mapping[str, tuple[Connection, ...]]
    loops: frozenset[str]

    @property
    def points(self) -> tuple[str, ...]:
        """Topological order, loops as beginning and end."""

    def end_of(self, loop: str) -> str:
        """The point at which its rounds are over."""

    def returning(self, loop: str) -> frozenset[str]:
        """The points that lead to that end."""


class Stray(NamedTuple):
    """A connection across the border of the body of `loop`: into it from `outside`, or it `leaves` it; or to `next`
    from a node that does not lie in the body."""

    connection: Connection
    loop: str
    kind: Literal["outside", "leaves", "next"]


class Bodies:
    """`within`: the innermost loop whose body a node lies in. `strays`: what crosses a border. Where connections
    disagree, a node lies in the body if it leads back to the loop. One pass in topological order; nodes on other cycles
    are left out."""

    def __init__(self, graph: Looped) -> None:
        self._graph = graph
        self.within: dict[str, str | None] = {}
        self.strays: list[Stray] = []
        self._depth: dict[str | None, int] = {None: 0}
        self._returning: dict[str, frozenset[str]] = {}
        ends = {graph.end_of(loop): loop for loop in graph.loops}
        for point in graph.points:
            if point in ends:
                self._close(ends[point])
            else:
                self._place(point)

    def _place(self, node: str) -> None:
        arriving = self._graph.incoming[node]
        if node in self._graph.loops:
            arriving = tuple(each for each in arriving if each.input != NEXT)
        found = {self._brought(each) for each in arriving}
        if len(found) > 1:
            self.within[node] = self._settled(node, {each: self._brought(each) for each in arriving})
        else:
            self.within[node] = next(iter(found), None)
        if node in self._graph.loops:
            self._depth[node] = self._depth[self.within[node]] + 1

    def _brought(self, connection: Connection) -> str | None:
        """The loop in whose body an item is that comes by this connection."""
        if connection.source in self._graph.loops and connection.output == EACH:
            return connection.source
        return self.within[connection.source]

    def _settled(self, node: str, brought: Mapping[Connection, str | None]) -> str | None:
        """Where a node lies that is fed from several bodies."""
        by_depth = sorted(set(brought.values()), key=self._depth.__getitem__)
        deepest = by_depth[-1]
        if deepest is not None and self._returns(node, deepest):
            self.strays += [Stray(each, deepest, "outside") for each, loop in brought.items() if loop != deepest]
            return deepest
        outer = by_depth[0]
        self.strays += [Stray(each, loop, "leaves") for each, loop in brought.items() if loop not in (outer, None)]
        return outer

    def _returns(self, node: str, loop: str) -> bool:
        if loop not in self._returning:
            if len(self._returning) == LOOKED_AT:
                return False
            self._returning[loop] = self._graph.returning(loop)
        return node in self._returning[loop]

    def _close(self, loop: str) -> None:
        for each in self._graph.incoming[loop]:
            if each.input == NEXT and (brought := self._brought(each)) != loop:
                inner = brought
                while inner is not None and self.within[inner] != loop:
                    inner = self.within[inner]
                self.strays.append(Stray(each, brought or loop, "leaves") if inner else Stray(each, loop, "next"))
