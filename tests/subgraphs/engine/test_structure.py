"""Loops, compensations, the finally section and limits: what a definition may do with them, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subgraphs.engine.definition import Definition
from subgraphs.engine.graph import Graph
from subgraphs.engine.validation import blocking, validate
from tests.subgraphs.engine.test_validation import MANIFESTS, document, edge, manifest, node


def ports(*names: str) -> list[dict[str, str]]:
    return [{"name": name} for name in names]


EXTRA = [
    manifest("core.loop", inputs=ports("main", "next"), outputs=ports("each", "done")),
    manifest("core.approval", outputs=ports("approved", "rejected", "timeout")),
]
CATALOGUE = {f"{each['type']}@{each['version']}": each for each in [*MANIFESTS, *EXTRA]}
START = node("start", "manual")
FEED = edge("start", "loop")


def items(name: str, text: str = "", **more: Any) -> dict[str, Any]:
    return node(name, "set", parameters={"fields": {"x": text}}, **more)


def looped(*more: dict[str, str], nodes: tuple[dict[str, Any], ...] = (), **settings: Any) -> dict[str, Any]:
    """start, and a loop over `work`, whose result goes to `after`."""
    edges = [
        FEED,
        edge("loop", "work", output="each"),
        edge("work", "loop", input="next"),
        edge("loop", "after", output="done"),
    ]
    named = {each["id"]: each for each in (START, node("loop", "loop"), items("work"), items("after"), *nodes)}
    return document(list(named.values()), [*edges, *more], **settings)


def codes(value: Any) -> list[str]:
    return [fault.code for fault in validate(value, CATALOGUE)]


def graph(value: Any) -> Graph:
    return Graph(Definition.parse(value), CATALOGUE)


@pytest.mark.shows("WF-13", "WF-17")
def test_a_cycle_is_allowed_through_the_input_next_of_a_loop() -> None:
    found = graph(looped())
    assert codes(looped()) == []
    assert found.loop() == ()
    assert found.order == ("start", "loop", "work", "after")
    assert found.levels == (("start",), ("loop",), ("work",), ("after",))
    assert found.critical_path() == ("start", "loop", "work", "after")
    assert found.bodies.within == {"start": None, "loop": None, "work": "loop", "after": None}


@pytest.mark.shows("WF-13")
def test_a_cycle_by_another_input_is_refused_with_its_nodes_named() -> None:
    value = document(
        [START, node("loop", "loop"), items("work")],
        [FEED, edge("loop", "work", output="each"), edge("work", "loop")],
    )
    (fault,) = [each for each in validate(value, CATALOGUE) if each.code == "graph.loop"]
    assert fault.message == "Nodes wait for each other: loop, work."
    after = looped(edge("after", "work"))
    assert [each.code for each in validate(after, CATALOGUE)] == ["graph.loop"]


@pytest.mark.shows("WF-17")
def test_loops_nest_and_what_follows_the_inner_one_lies_in_the_outer_body() -> None:
    value = looped(nodes=(node("inner", "loop"), items("deep"), items("end")))
    value["connections"] = [
        FEED,
        edge("loop", "inner", output="each"),
        edge("inner", "deep", output="each"),
        edge("deep", "inner", input="next"),
        edge("inner", "work", output="done"),
        edge("work", "loop", input="next"),
        edge("loop", "after", output="done"),
        edge("after", "end"),
    ]
    assert codes(value) == []
    found = graph(value)
    within = {"start": None, "loop": None, "inner": "loop", "deep": "inner", "work": "loop", "after": None, "end": None}
    assert found.bodies.within == within
    assert found.order == ("start", "loop", "inner", "deep", "work", "after", "end")


WRONG: list[tuple[str, str, str, Any]] = [
    ("loop.body_empty", "loop", "/nodes/1", document([START, node("loop", "loop")], [FEED])),
    (
        "loop.body_empty",
        "loop",
        "/nodes/1",
        document([START, node("loop", "loop")], [FEED, edge("loop", "loop", output="each", input="next")]),
    ),
    (
        "loop.no_return",
        "loop",
        "/nodes/1",
        document([START, node("loop", "loop"), items("work")], [FEED, edge("loop", "work", output="each")]),
    ),
    ("loop.fed_from_outside", "start", "/connections/4", looped(edge("start", "work"))),
    ("loop.leaves_body", "work", "/connections/4", looped(edge("work", "after"))),
    (
        "loop.next_from_outside",
        "start",
        "/connections/4",
        looped(edge("start", "loop", input="next")),
    ),
]


@pytest.mark.shows("WF-17", "WF-12")
@pytest.mark.parametrize(("code", "name", "place", "value"), WRONG)
def test_a_body_that_is_none_is_refused(code: str, name: str, place: str, value: Any) -> None:
    (fault,) = validate(value, CATALOGUE)
    assert (fault.code, fault.node, fault.pointer, fault.severity) == (code, name, place, "error")
    assert fault.next_step


@pytest.mark.shows("WF-17")
def test_an_inner_body_may_not_come_back_to_the_outer_loop() -> None:
    value = looped(edge("deep", "loop", input="next"), nodes=(node("inner", "loop"), items("deep")))
    value["connections"] += [
        edge("work", "inner"),
        edge("inner", "deep", output="each"),
        edge("deep", "inner", input="next"),
    ]
    (fault,) = validate(value, CATALOGUE)
    assert (fault.code, fault.node) == ("loop.leaves_body", "deep")
    assert "loop inner" in fault.message


@pytest.mark.shows("WF-17")
def test_a_branch_of_the_body_may_end() -> None:
    assert codes(looped(edge("loop", "note", output="each"), nodes=(items("note"),))) == []


@pytest.mark.shows("WF-17")
def test_what_a_round_holds_cannot_be_asked_for_from_outside_of_the_loop() -> None:
    inside = looped(nodes=(items("work", "{{ nodes.start.item.n }} {{ nodes.loop.item.n }}"),))
    assert codes(inside) == []
    (fault,) = validate(looped(nodes=(items("after", "{{ nodes.work.item.n }}"),)), CATALOGUE)
    assert (fault.code, fault.node) == ("reference.in_loop", "after")
    assert codes(looped(nodes=(items("after", "{{ nodes.loop.items }}"),))) == []


def undone(*more: dict[str, Any], by: str = "undo", edges: tuple[dict[str, str], ...] = ()) -> dict[str, Any]:
    pay = items("pay", settings={"compensate": by})
    return document([START, pay, items("undo", "{{ nodes.pay.item.id }}"), *more], [edge("start", "pay"), *edges])


@pytest.mark.shows("EX-05")
def test_a_compensating_node_is_reached_without_connections_and_may_speak_of_what_it_undoes() -> None:
    assert codes(undone()) == []


@pytest.mark.shows("EX-05", "WF-12")
@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("compensate.unknown", undone(by="nobody")),
        ("compensate.nested", undone(by="pay")),
        ("compensate.trigger", undone(by="start")),
        ("compensate.connected", undone(edges=(edge("pay", "undo"),))),
        ("compensate.shared", undone(items("b", settings={"compensate": "undo"}), edges=(edge("pay", "b"),))),
        ("compensate.finally", {**undone(), "settings": {"finally": ["undo"]}}),
    ],
)
def test_a_compensation_that_makes_no_sense_is_refused(code: str, value: Any) -> None:
    fault = next(each for each in validate(value, CATALOGUE) if each.code == code)
    assert fault.pointer == "/nodes/1/settings/compensate"
    assert fault.next_step


def ended(*last: str, nodes: tuple[dict[str, Any], ...] = (), edges: tuple[dict[str, str], ...] = ()) -> dict[str, Any]:
    both = [START, items("work"), items("tidy", "{{ nodes.work.items }}"), items("tell"), *nodes]
    return document(both, [edge("start", "work"), edge("tidy", "tell"), *edges], settings={"finally": list(last)})


@pytest.mark.shows("WF-20")
def test_the_finally_section_is_reached_by_its_roots_and_may_speak_of_every_node() -> None:
    assert codes(ended("tidy")) == []


@pytest.mark.shows("WF-20", "WF-12")
@pytest.mark.parametrize(
    ("code", "place", "value"),
    [
        ("finally.unknown", "/settings/finally/1", ended("tidy", "nobody")),
        ("finally.duplicate", "/settings/finally/1", ended("tidy", "tidy")),
        ("finally.trigger", "/settings/finally/1", ended("tidy", "start")),
        ("finally.connected", "/settings/finally/1", ended("tidy", "tell")),
        ("finally.mixed", "/nodes/3", ended("tidy", edges=(edge("work", "tell"),))),
    ],
)
def test_a_finally_section_that_is_none_is_refused(code: str, place: str, value: Any) -> None:
    assert [(each.code, each.pointer) for each in validate(value, CATALOGUE) if each.code.startswith("finally")] == [
        (code, place)
    ]


@pytest.mark.shows("WF-22")
def test_a_way_out_by_timeout_without_a_timeout_is_warned_of() -> None:
    def value(**settings: Any) -> Any:
        ask = node("ask", "approval", settings=settings)
        return document(
            [START, ask, items("late"), items("yes")],
            [edge("start", "ask"), edge("ask", "late", output="timeout"), edge("ask", "yes", output="approved")],
        )

    (fault,) = validate(value(), CATALOGUE)
    assert (fault.code, fault.severity, fault.pointer) == ("timeout.missing", "warning", "/connections/1")
    assert not blocking([fault])
    assert codes(value(timeout="P1D")) == []


@pytest.mark.shows("WF-22", "WF-12")
def test_only_nodes_that_somebody_answers_by_a_link_have_one() -> None:
    def value(name: str) -> Any:
        tell = items("tell", f"Decide here: {{{{ execution.links.{name} }}}}")
        return document([START, tell, node("ask", "approval")], [edge("start", "tell"), edge("tell", "ask")])

    assert codes(value("ask")) == []
    for name in ("start", "nobody"):
        (fault,) = validate(value(name), CATALOGUE)
        assert (fault.code, fault.node, fault.pointer) == (
            "reference.no_link",
            "tell",
            "/nodes/1/parameters/fields/x",
        )
        assert fault.next_step == "Links have ask."


@pytest.mark.shows("WF-12")
@pytest.mark.parametrize(
    ("settings", "code", "place"),
    [
        ({"concurrency": {"limit": 1, "key": "{{ item.x }}"}}, "expression.invalid", "/settings/concurrency/key"),
        ({"concurrency": {"limit": 1, "group": "{{ 1 +"}}, "expression.invalid", "/settings/concurrency/group"),
        ({"throttle": {"limit": 1, "period": "PT0S"}}, "duration.range", "/settings/throttle/period"),
        ({"debounce": {"period": "PT1S", "maxWait": "P1000D"}}, "duration.range", "/settings/debounce/maxWait"),
        ({"batch": {"size": 2, "timeout": "PT0S"}}, "duration.range", "/settings/batch/timeout"),
        ({"priority": "high"}, "priority.invalid", "/settings/priority"),
        ({"priority": "{{ nodes.a.item }}"}, "expression.invalid", "/settings/priority"),
    ],
)
def test_limits_that_make_no_sense_are_refused(settings: Any, code: str, place: str) -> None:
    found = validate(document([START], [], settings=settings), CATALOGUE)
    assert [(fault.code, fault.pointer) for fault in found] == [(code, place)]


@pytest.mark.shows("WF-12")
def test_limits_with_keys_over_the_trigger_are_accepted() -> None:
    key = "{{ trigger.body.customer }}"
    settings = {
        "concurrency": {"limit": 1, "key": key, "onLimit": "roundRobin", "group": "{{ trigger.body.tier }}"},
        "throttle": {"limit": 5, "period": "PT1M", "key": key},
        "rateLimit": {"limit": 5, "period": "PT1M"},
        "debounce": {"period": "PT1S", "maxWait": "PT10S"},
        "batch": {"size": 10, "timeout": "PT1S"},
        "singleton": {"onLimit": "cancelOldest", "key": "fixed"},
        "priority": "{{ trigger.urgent ? 10 : 0 }}",
    }
    assert codes(document([START], [], settings=settings)) == []


@pytest.mark.shows("WF-13")
def test_ten_thousand_nodes_in_a_thousand_nested_and_following_loops_are_told_apart() -> None:
    """Loop i holds loop i+1 and three nodes; a chain of five nodes follows. Every body is exact."""
    nodes, edges, depth = [START, items("z0")], [edge("start", "l0")], 1000
    for level in range(depth):
        nodes += [node(f"l{level}", "loop"), *(items(f"{part}{level}") for part in ("a", "b", "c"))]
        inner = f"l{level + 1}" if level + 1 < depth else f"b{level}"
        edges += [edge(f"l{level}", f"a{level}", output="each"), edge(f"a{level}", inner)]
        if level + 1 < depth:
            edges.append(edge(f"l{level + 1}", f"b{level}", output="done"))
        edges += [edge(f"b{level}", f"c{level}"), edge(f"c{level}", f"l{level}", input="next")]
    edges.append(edge("l0", "z0", output="done"))
    value = document(nodes, edges)
    assert codes(value) == []
    within = graph(value).bodies.within
    assert all(within[f"{part}{level}"] == f"l{level}" for part in "abc" for level in range(depth))
    assert all(within[f"l{level}"] == f"l{level - 1}" for level in range(1, depth))
    assert within["z0"] is None


NESTED = [
    edge("start", "l1"),
    edge("l1", "a", output="each"),
    edge("a", "l2"),
    edge("l2", "b", output="each"),
    edge("b", "l2", input="next"),
    edge("l2", "c", output="done"),
    edge("c", "l1", input="next"),
    edge("l1", "d", output="done"),
]


@st.composite
def loose(draw: st.DrawFn) -> Any:
    """A loop within a loop, with a few connections more and perhaps one less."""
    names = ["start", "a", "b", "c", "d", "e", "l1", "l2"]
    nodes = [START, *(items(name) for name in "abcde"), node("l1", "loop"), node("l2", "loop")]

    def link() -> dict[str, str]:
        source, target = draw(st.sampled_from(names)), draw(st.sampled_from(names[1:]))
        output = draw(st.sampled_from(["each", "done"])) if source in ("l1", "l2") else "main"
        back = draw(st.sampled_from(["main", "next"])) if target in ("l1", "l2") else "main"
        return edge(source, target, output=output, input=back)

    less = draw(st.sets(st.integers(0, 7), max_size=1))
    kept = [each for index, each in enumerate(NESTED) if index not in less]
    return document(nodes, [*kept, *(link() for _ in range(draw(st.integers(0, 2))))])


@pytest.mark.shows("WF-17")
@given(loose())
def test_without_faults_a_body_is_what_each_leads_to_and_only_the_loop_leads_into_or_out_of_it(value: Any) -> None:
    """The definition of a body, by walking, as the oracle of one pass over the graph."""
    found = graph(value)
    wrong = [code for code in codes(value) if code.startswith(("loop.", "graph.", "connection."))]
    if wrong:
        return
    for loop in found.loops:
        body, waiting = set[str](), [each.target for each in found.outgoing[loop] if each.output == "each"]
        while waiting:
            here = waiting.pop()
            if here != loop and here not in body:
                body.add(here)
                waiting += [each.target for each in found.outgoing[here]]
        inside = {name for name in found.definition.nodes if loop in chain(found, name)}
        assert inside == body
        for each in found.definition.connections:
            if each.target in body and each.source not in body:
                assert (each.source, each.output) == (loop, "each")
            if each.source in body and each.target not in body:
                assert (each.target, each.input) == (loop, "next")


def chain(found: Graph, name: str) -> list[str]:
    """The loops around a node."""
    around: list[str] = []
    here = found.bodies.within[name]
    while here is not None:
        around.append(here)
        here = found.bodies.within[here]
    return around
