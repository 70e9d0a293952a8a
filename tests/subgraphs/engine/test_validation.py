"""What keeps a definition from running, each fault with its code, place and next step."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from subgraphs.engine.faults import Fault
from subgraphs.engine.validation import blocking, validate


def manifest(name: str, parameters: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    ports: list[dict[str, str]] = [{"name": "main"}]
    schema = {"type": "object", "additionalProperties": False, **(parameters or {})}
    return {"type": name, "version": "1.0.0", "parameters": schema, "inputs": ports, "outputs": ports, **more}


MANIFESTS = [
    manifest("core.manual", trigger=True, inputs=[]),
    manifest("core.webhook", {"properties": {"respond": {"enum": ["now", "done", "node"]}}}, trigger=True, inputs=[]),
    manifest("core.set", {"properties": {"fields": {"type": "object"}}}),
    manifest("core.code", {"properties": {"code": {"type": "string", "x-raw": True}, "limit": {"type": "integer"}}}),
    manifest("core.respond", {"properties": {"body": {}}}, outputs=[]),
    manifest(
        "core.switch",
        {"properties": {"rules": {"type": "array", "items": {"type": "object"}}}},
        outputs=[{"name": "default"}],
        dynamicOutputs={"parameter": "rules", "field": "output"},
    ),
    manifest(
        "core.http",
        {
            "required": ["url"],
            "properties": {
                "url": {"type": "string"},
                "method": {"enum": ["GET", "POST"], "default": "GET"},
                "body": {"type": "object", "x-show": {"method": ["POST"]}},
                "token": {"type": "string", "x-secret": True},
            },
        },
    ),
]
CATALOGUE = {f"{each['type']}@{each['version']}": each for each in MANIFESTS}


def node(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "type": f"core.{kind}", "version": "1.0.0", **more}


def edge(source: str, target: str, **ports: str) -> dict[str, str]:
    return {"from": source, "to": target, **ports}


def document(nodes: list[dict[str, Any]], edges: list[dict[str, str]], **more: Any) -> dict[str, Any]:
    return {"format": "linkflow/1", "nodes": nodes, "connections": edges, **more}


def flow(*nodes: dict[str, Any]) -> dict[str, Any]:
    """A manual trigger and then these nodes, one after the other."""
    chain = [node("start", "manual"), *nodes]
    names = [each["id"] for each in chain]
    return document(chain, [edge(*pair) for pair in itertools.pairwise(names)])


def faults(value: Any) -> list[tuple[str, str]]:
    return [(fault.code, fault.pointer) for fault in validate(value, CATALOGUE)]


def only(value: Any) -> Fault:
    (fault,) = validate(value, CATALOGUE)
    return fault


@pytest.mark.shows("WF-12")
def test_a_sound_definition_has_no_fault() -> None:
    sound = flow(
        node("get", "http", parameters={"url": "https://example.org/{{ trigger.path }}"}),
        node("pick", "set", parameters={"fields": {"title": "{{ nodes.get.item.title }}", "n": "{{ item.n + 1 }}"}}),
    )
    assert validate(sound, CATALOGUE) == []


@pytest.mark.shows("WF-12")
def test_an_unknown_node_type_comes_with_the_nearest_one() -> None:
    fault = only(flow(node("get", "htpp")))
    assert (fault.code, fault.pointer, fault.node) == ("node.type_unknown", "/nodes/1/type", "get")
    assert fault.next_step == "Did you mean core.http?"


@pytest.mark.shows("WF-12")
def test_an_unknown_version_comes_with_those_there_are() -> None:
    fault = only(flow({**node("pick", "set"), "version": "9.0.0"}))
    assert (fault.code, fault.pointer, fault.next_step) == ("node.version_unknown", "/nodes/1/version", "Use 1.0.0.")


@pytest.mark.shows("WF-12")
@pytest.mark.parametrize(
    ("parameters", "code", "pointer"),
    [
        ({}, "parameter.missing", "/nodes/1/parameters/url"),
        ({"url": 5}, "parameter.invalid", "/nodes/1/parameters/url"),
        ({"url": "u", "uri": "u"}, "parameter.unknown", "/nodes/1/parameters/uri"),
        ({"url": "u", "token": "sk_live_1"}, "parameter.secret", "/nodes/1/parameters/token"),
        ({"url": "u", "token": "{{ 'sk_live_1' }}"}, "parameter.secret", "/nodes/1/parameters/token"),
        ({"url": "{{ item. }}"}, "expression.invalid", "/nodes/1/parameters/url"),
        ({"url": "{{ nobody.x }}"}, "expression.invalid", "/nodes/1/parameters/url"),
        ({"url": "{{ nodes.absent.item }}"}, "reference.unknown", "/nodes/1/parameters/url"),
        ({"url": "{{ nodes.get.item }}"}, "reference.not_upstream", "/nodes/1/parameters/url"),
    ],
)
def test_a_parameter_that_does_not_fit_is_told_with_its_place(
    parameters: dict[str, Any], code: str, pointer: str
) -> None:
    fault = only(flow(node("get", "http", parameters=parameters)))
    assert (fault.code, fault.pointer, fault.node, fault.severity) == (code, pointer, "get", "error")
    assert fault.next_step


@pytest.mark.shows("WF-12")
def test_a_secret_may_be_an_expression_and_a_hidden_parameter_anything() -> None:
    fitting = {"url": "u", "token": "{{ vars.token }}", "body": 5}
    assert faults(flow(node("get", "http", parameters=fitting))) == []


@pytest.mark.shows("WF-12")
def test_an_expression_fault_has_its_position() -> None:
    fault = only(flow(node("pick", "set", parameters={"fields": {"a/b": "x {{ item.n + }} y"}})))
    assert (fault.code, fault.pointer) == ("expression.invalid", "/nodes/1/parameters/fields/a~1b")
    assert fault.position is not None
    assert 2 <= fault.position <= 17


@pytest.mark.shows("WF-12")
def test_a_reference_to_a_later_node_is_told_with_its_position() -> None:
    fault = only(flow(node("one", "set", parameters={"fields": {"x": "{{ nodes.two.item.y }}"}}), node("two", "set")))
    assert (fault.code, fault.pointer, fault.position) == (
        "reference.not_upstream",
        "/nodes/1/parameters/fields/x",
        3,
    )


def test_braces_in_code_are_no_expression() -> None:
    code = {"code": "const x = {{ not CEL }} + nodes.absent", "limit": "{{ nodes.start.item.n }}"}
    assert faults(flow(node("own", "code", parameters=code))) == []
    assert faults(flow(node("own", "code", parameters={"limit": "{{ nodes.absent.item.n }}"}))) == [
        ("reference.unknown", "/nodes/1/parameters/limit")
    ]


@pytest.mark.shows("WF-12")
def test_an_unreachable_node_and_a_missing_trigger_are_errors() -> None:
    lost = only(document([node("start", "manual"), node("lost", "set")], []))
    assert (lost.code, lost.pointer, lost.severity) == ("node.unreachable", "/nodes/1", "error")
    assert faults(document([node("lost", "set")], [])) == [("trigger.none", "/nodes")]
    assert faults(document([], [])) == [("trigger.none", "/nodes")]


@pytest.mark.shows("WF-13")
def test_a_loop_is_refused_with_its_nodes_named() -> None:
    value = flow(node("a", "set"), node("b", "set"), node("c", "set"))
    value["connections"].append(edge("c", "a"))
    fault = only(value)
    assert (fault.code, fault.message) == ("graph.loop", "Nodes wait for each other: a, b, c.")


@pytest.mark.shows("WF-12")
@pytest.mark.parametrize(
    ("connection", "code", "pointer"),
    [
        (edge("start", "pick", output="mian"), "connection.output_unknown", "/connections/1/output"),
        (edge("start", "pick", input="left"), "connection.input_unknown", "/connections/1/input"),
        (edge("start", "pik"), "connection.node_unknown", "/connections/1/to"),
        (edge("star", "pick"), "connection.node_unknown", "/connections/1/from"),
        (edge("start", "pick"), "connection.duplicate", "/connections/1"),
        (edge("start", "pick", output="error"), "connection.output_unknown", "/connections/1/output"),
    ],
)
def test_connections_are_checked(connection: dict[str, str], code: str, pointer: str) -> None:
    value = flow(node("pick", "set"))
    value["connections"].append(connection)
    assert faults(value) == [(code, pointer)]


def test_nothing_leads_to_a_trigger() -> None:
    value = document([node("start", "manual"), node("other", "manual")], [edge("start", "other")])
    assert faults(value) == [("connection.input_unknown", "/connections/0/input")]


@pytest.mark.shows("WF-19")
def test_a_switch_has_the_outputs_its_rules_name_and_the_default() -> None:
    rules = [{"output": "big"}, {"output": "small"}]

    def switched(output: str, rules: Any = rules, **settings: Any) -> list[tuple[str, str]]:
        value = flow(node("way", "switch", parameters={"rules": rules}, settings=settings), node("next", "set"))
        value["connections"][1]["output"] = output
        return faults(value)

    assert switched("big") == switched("small") == switched("default") == []
    assert switched("huge") == [("connection.output_unknown", "/connections/1/output")]
    assert switched("huge", "{{ vars.rules }}") == []
    assert switched("huge", [{"output": "{{ vars.name }}"}]) == []
    assert switched("error", onError="output") == []
    assert switched("error") == [("connection.output_unknown", "/connections/1/output")]


@pytest.mark.shows("WF-12")
def test_answers_nobody_waits_for_are_warnings() -> None:
    unheard = validate(flow(node("reply", "respond")), CATALOGUE)
    assert [(fault.code, fault.severity) for fault in unheard] == [("respond.unheard", "warning")]
    hook = node("hook", "webhook", parameters={"respond": "node"})
    missing = validate(document([hook], []), CATALOGUE)
    assert [(fault.code, fault.severity) for fault in missing] == [("respond.missing", "warning")]
    assert not blocking(unheard + missing)
    assert faults(document([hook, node("reply", "respond")], [edge("hook", "reply")])) == []


@pytest.mark.shows("WF-12")
def test_durations_and_inputs_are_checked() -> None:
    value = flow(node("a", "set", settings={"timeout": "PT0S", "retry": {"maxDelay": "P31D"}}))
    value["inputs"] = [{"name": "who"}, {"name": "who"}, {"name": "n", "type": "integer", "default": "x"}]
    assert faults(value) == [
        ("duration.range", "/nodes/1/settings/timeout"),
        ("duration.range", "/nodes/1/settings/retry/maxDelay"),
        ("input.duplicate", "/inputs/1/name"),
        ("input.default", "/inputs/2/default"),
    ]


def big(size: int) -> dict[str, Any]:
    """A chain of nodes, each with parameters of its own and an expression."""
    return flow(
        *(
            node(f"n{index}", "set", parameters={"fields": {"x": f"{{{{ item.n + {index} }}}}", "y": index}})
            for index in range(size - 1)
        )
    )


@pytest.mark.shows("WF-13")
def test_ten_thousand_nodes_are_checked_and_an_injected_loop_is_found() -> None:
    value = big(10_000)
    assert validate(value, CATALOGUE) == []
    value["connections"].append(edge("n9000", "n8000"))
    fault = only(value)
    assert fault.code == "graph.loop"
    assert fault.message.startswith("Nodes wait for each other: n8000, n8001,")


@pytest.mark.shows("WF-12")
def test_a_document_without_the_shape_is_told_so_and_not_looked_at_further() -> None:
    assert faults({"format": "linkflow/9", "nodes": []}) == [("definition.format", "/format")]


@pytest.mark.shows("WF-12")
def test_expressions_are_bounded_in_all_and_the_same_ones_count_once() -> None:
    def with_expressions(differing: bool) -> dict[str, Any]:
        long = "x" * 880
        nodes = []
        for n in range(14):
            numbers = range(50 * n * differing, 50 * n * differing + 50)
            fields = {f"f{number}": f"{{{{ item.a + '{long}{number}' }}}}" for number in numbers}
            nodes.append(node(f"n{n}", "set", parameters={"fields": fields}))
        return flow(*nodes)

    assert faults(with_expressions(differing=False)) == []
    fault = only(with_expressions(differing=True))
    assert (fault.code, fault.pointer) == ("expression.limit", "/nodes/12/parameters")


@pytest.mark.shows("WF-12")
def test_definitions_made_to_be_slow_are_answered_with_bounded_faults() -> None:
    hooks = [node(f"h{n}", "webhook", parameters={"respond": "node"}) for n in range(5_000)]
    chain = [node(f"c{n}", "set") for n in range(5_000)]
    edges = [edge(hook["id"], "c0") for hook in hooks]
    edges += [edge(f"c{n}", f"c{n + 1}") for n in range(4_999)]
    assert len(validate(document([*hooks, *chain], edges), CATALOGUE)) == 500
    strange = {f"p{n}": n for n in range(100_000)}
    assert len(validate(flow(node("a", "set", parameters=strange)), CATALOGUE)) == 100
    lost = [edge("start", f"{'x' * 55}{n}") for n in range(50_000)]
    assert len(validate(document([node("start", "manual")], lost), CATALOGUE)) == 500
