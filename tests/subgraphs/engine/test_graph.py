"""The graph of a definition, over random graphs."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subgraphs.engine.definition import Connection, Definition, Node
from subgraphs.engine.graph import Graph


def definition(size: int, edges: list[tuple[int, int]]) -> Definition:
    nodes = {f"n{index}": Node(id=f"n{index}", type="core.noop", version="1.0.0") for index in range(size)}
    connections = tuple(Connection(source=f"n{one}", target=f"n{other}") for one, other in edges)
    return Definition(nodes, connections)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    size = draw(st.integers(1, 12))
    ends = st.integers(0, size - 1)
    return Graph(definition(size, draw(st.lists(st.tuples(ends, ends), max_size=30))))


def walks(graph: Graph, start: str) -> set[str]:
    """What can be reached from `start` by at least one connection; the plain recursive definition as oracle."""
    found: set[str] = set()

    def visit(node: str) -> None:
        for each in graph.outgoing[node]:
            if each.target not in found:
                found.add(each.target)
                visit(each.target)

    visit(start)
    return found


@pytest.mark.shows("WF-13")
@given(graphs())
def test_there_is_a_loop_exactly_when_the_order_is_incomplete(graph: Graph) -> None:
    nodes = graph.definition.nodes
    assert bool(graph.loop()) == any(node in walks(graph, node) for node in nodes)
    assert bool(graph.loop()) == (len(graph.order) < len(nodes))


@pytest.mark.shows("WF-13")
@given(graphs())
def test_a_loop_names_nodes_each_of_which_leads_to_the_next(graph: Graph) -> None:
    loop = graph.loop()
    assert len(set(loop)) == len(loop)
    for node, following in zip(loop, loop[1:] + loop[:1], strict=True):
        assert following in {each.target for each in graph.outgoing[node]}


@pytest.mark.shows("WF-13")
@given(graphs())
def test_the_order_and_the_sections_respect_every_connection(graph: Graph) -> None:
    level = {node: depth for depth, section in enumerate(graph.levels) for node in section}
    assert sorted(level) == sorted(graph.order)
    for each in graph.definition.connections:
        if each.target in graph.place:
            assert graph.place[each.source] < graph.place[each.target]
            assert level[each.source] < level[each.target]
    for section in graph.levels:
        assert not any(other in walks(graph, node) for node in section for other in section)


@given(graphs())
def test_reachability_upstream_and_ancestry_agree_with_walking(graph: Graph) -> None:
    for node in graph.definition.nodes:
        assert graph.reachable([node]) == walks(graph, node) | {node}
        assert graph.leading_to([node]) == {
            other for other in graph.definition.nodes if node in walks(graph, other)
        } | {node}
        assert graph.upstream(node) == {other for other in graph.definition.nodes if node in walks(graph, other)}
    for node in graph.order:
        bits = {other for other in graph.order if graph.ancestry[node] >> graph.place[other] & 1}
        assert bits == graph.upstream(node)


@pytest.mark.shows("WF-13")
@given(graphs(), st.lists(st.integers(0, 100), min_size=12, max_size=12))
def test_the_critical_path_is_the_heaviest_chain(graph: Graph, costs: list[int]) -> None:
    def cost(node: str) -> float:
        return costs[int(node[1:])]

    heaviest: dict[str, float] = {}
    for node in graph.order:
        before = [heaviest[each.source] for each in graph.incoming[node]]
        heaviest[node] = cost(node) + max(before, default=0)
    path = graph.critical_path(cost)
    for node, following in itertools.pairwise(path):
        assert following in {each.target for each in graph.outgoing[node]}
    assert sum(map(cost, path)) == max(heaviest.values(), default=0)


@pytest.mark.shows("WF-13")
def test_a_chain_of_twenty_thousand_nodes_is_ordered_and_its_loop_found() -> None:
    edges = [(index, index + 1) for index in range(19_999)]
    chain = Graph(definition(20_000, edges))
    assert len(chain.order) == len(chain.critical_path()) == len(chain.levels) == 20_000
    assert len(chain.upstream("n19999")) == 19_999
    assert len(Graph(definition(20_000, [*edges, (19_999, 0)])).loop()) == 20_000


def test_connections_to_unknown_nodes_are_left_out() -> None:
    graph = Graph(definition(1, [(0, 7), (7, 0)]))
    assert graph.order == ("n0",)
    assert graph.incoming["n0"] == graph.outgoing["n0"] == ()


def test_triggers_are_what_the_catalogue_says_or_else_the_roots() -> None:
    plain = definition(3, [(0, 1)])
    assert Graph(plain).triggers == ("n0", "n2")
    assert Graph(plain, {"core.noop@1.0.0": {"trigger": True}}).triggers == ("n0", "n1", "n2")
    assert Graph(plain, {}).triggers == ()
