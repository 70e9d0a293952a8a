"""Whether a definition can run: everything wrong with it, each fault with its place and the next step.

Shape comes first (`definition.py`); a document without it is not looked at further. Then node types and parameters
against the catalogue, connections and ports, order and reachability, expressions and what they refer to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from itertools import chain, islice
from typing import Any

from subgraphs.engine.definition import Connection, Definition, Node, seconds
from subgraphs.engine.expression import check, compiled
from subgraphs.engine.faults import MAX_FAULTS, Fault, Faults, pointer
from subgraphs.engine.graph import Graph
from subgraphs.engine.limits import limit_faults
from subgraphs.engine.parameters import Checker, is_expression
from subgraphs.engine.references import Catalogue, expression_faults
from subgraphs.engine.structure import structure_faults

WEBHOOK, RESPOND = "core.webhook", "core.respond"
TIMEOUT = "timeout"
"""The port by which the items of a wait leave that has outlasted its node's timeout."""


def validate(document: Any, catalogue: Catalogue) -> list[Fault]:
    """All faults of a definition, errors and warnings in document order by kind; at most `MAX_FAULTS`."""
    try:
        definition = Definition.parse(document)
    except Faults as faults:
        return list(faults.faults)
    return faults_of(definition, catalogue)


def faults_of(definition: Definition, catalogue: Catalogue) -> list[Fault]:
    """The same for a definition that is parsed already."""
    graph = Graph(definition, catalogue)
    found = chain(
        _nodes(definition, catalogue),
        _inputs(definition),
        _connections(definition, catalogue),
        structure_faults(graph),
        _reachability(graph),
        _replies(graph),
        _deadlines(graph, catalogue),
        limit_faults(definition.settings),
        expression_faults(graph, catalogue, ordered=len(graph.order) == len(definition.nodes)),
    )
    return list(islice(found, MAX_FAULTS))


def blocking(faults: Iterable[Fault]) -> bool:
    """Whether one of them keeps the definition from running."""
    return any(fault.severity == "error" for fault in faults)


def _nodes(definition: Definition, catalogue: Catalogue) -> Iterator[Fault]:
    checkers: dict[str, Checker] = {}
    advice: dict[str, Fault] = {}
    for index, node in enumerate(definition.nodes.values()):
        if (manifest := catalogue.get(node.key)) is None:
            fault = advice.get(node.key) or advice.setdefault(node.key, _unlisted(node, catalogue))
            place = pointer("nodes", index, "version" if fault.code == "node.version_unknown" else "type")
            yield _at(fault, place, node.id)
        else:
            if node.key not in checkers:
                checkers[node.key] = Checker(manifest["parameters"], literal=_constant)
            yield from _parameters(index, node, checkers[node.key])
        yield from _settings(index, node)


def _at(fault: Fault, place: str, node: str) -> Fault:
    return Fault(code=fault.code, message=fault.message, pointer=place, node=node, next_step=fault.next_step)


def _unlisted(node: Node, catalogue: Catalogue) -> Fault:
    versions = sorted(key.split("@", 1)[1] for key in catalogue if key.split("@", 1)[0] == node.type)
    if versions:
        return Fault(
            code="node.version_unknown",
            message=f"Node type {node.type} has no version {node.version}.",
            next_step=f"Use {' or '.join(versions)}.",
        )
    known = sorted({key.split("@", 1)[0] for key in catalogue})
    close = get_close_matches(node.type, known, n=1)
    return Fault(
        code="node.type_unknown",
        message=f"There is no node type {node.type}.",
        next_step=f"Did you mean {close[0]}?" if close else "List what there is with nodeTypes.",
    )


def _constant(text: str) -> bool:
    """Whether text with expressions refers to nothing, so that it is a literal in disguise."""
    return not check(text) and not compiled(text).uses


def _parameters(index: int, node: Node, checker: Checker) -> Iterator[Fault]:
    for finding in checker.findings(node.parameters):
        yield Fault(
            code=finding.code,
            message=f"Node {node.id}: {finding.message}",
            pointer=pointer("nodes", index, "parameters", *finding.path),
            node=node.id,
            next_step=finding.next_step or f"Ask nodeType for the parameters that {node.type} takes.",
        )


LONGEST = {"timeout": 30 * 86_400, "totalTimeout": 366 * 86_400}


def _settings(index: int, node: Node) -> Iterator[Fault]:
    retry = node.settings.retry
    for name, limit in (("timeout", node.settings.timeout), ("totalTimeout", node.settings.total_timeout)):
        if limit is not None and not 0 < seconds(limit) <= LONGEST[name]:
            yield Fault(
                code="duration.range",
                message=f"Node {node.id}: a {name} of {limit} is not between zero and {LONGEST[name] // 86_400} days.",
                pointer=pointer("nodes", index, "settings", name),
                node=node.id,
                next_step="Use a duration such as PT30S.",
            )
    for name, value in (("delay", retry.delay), ("maxDelay", retry.max_delay)):
        if seconds(value) > 30 * 86_400:
            yield Fault(
                code="duration.range",
                message=f"Node {node.id}: {name} {value} is longer than 30 days.",
                pointer=pointer("nodes", index, "settings", "retry", name),
                node=node.id,
                next_step="Use a duration such as PT1M.",
            )


def _inputs(definition: Definition) -> Iterator[Fault]:
    seen: set[str] = set()
    for index, each in enumerate(definition.inputs):
        if each.name in seen:
            yield Fault(
                code="input.duplicate",
                message=f"Two inputs are named {each.name}.",
                pointer=pointer("inputs", index, "name"),
                next_step="Give each input a name of its own.",
            )
        seen.add(each.name)
        if each.default is not None and Checker({"type": each.type}).findings(each.default):
            yield Fault(
                code="input.default",
                message=f"The default of input {each.name} is no {each.type}.",
                pointer=pointer("inputs", index, "default"),
                next_step="Change the default or the type.",
            )


def _connections(definition: Definition, catalogue: Catalogue) -> Iterator[Fault]:
    seen: set[tuple[str, str, str, str]] = set()
    for index, each in enumerate(definition.connections):
        key = (each.source, each.output, each.target, each.input)
        if key in seen:
            yield Fault(
                code="connection.duplicate",
                message=f"{each.source} is connected to {each.target} by the same ports twice.",
                pointer=pointer("connections", index),
                node=each.source,
                next_step="Remove one; every item would arrive twice.",
            )
        seen.add(key)
        yield from _ends(index, each, definition.nodes, catalogue)


def _ends(index: int, connection: Connection, nodes: Mapping[str, Node], catalogue: Catalogue) -> Iterator[Fault]:
    for field, end in (("from", connection.source), ("to", connection.target)):
        if end not in nodes:
            close = get_close_matches(end, islice(nodes, 200), n=1)
            yield Fault(
                code="connection.node_unknown",
                message=f"A connection names node {end}, which does not exist.",
                pointer=pointer("connections", index, field),
                next_step=f"Did you mean {close[0]}?" if close else "Remove the connection or add the node.",
            )
    if (source := nodes.get(connection.source)) and (manifest := catalogue.get(source.key)):
        yield from _output(index, connection.output, source, manifest)
    if (target := nodes.get(connection.target)) and (manifest := catalogue.get(target.key)):
        names = [port["name"] for port in manifest.get("inputs", ())]
        if connection.input not in names:
            yield Fault(
                code="connection.input_unknown",
                message=f"Node {target.id} has no input {connection.input}.",
                pointer=pointer("connections", index, "input"),
                node=target.id,
                next_step=f"Use {' or '.join(names)}." if names else "Nothing can lead to a trigger.",
            )


def outputs_of(node: Node, manifest: Mapping[str, Any]) -> list[str] | None:
    """The output ports of a node, those its parameters name included; None if an expression decides them."""
    names = [port["name"] for port in manifest.get("outputs", ())]
    if node.settings.on_error == "output":
        names.append("error")
    dynamic = manifest.get("dynamicOutputs")
    if not dynamic:
        return names
    rules = node.parameters.get(dynamic["parameter"], [])
    if not isinstance(rules, list):
        return None if is_expression(rules) else names
    named = [rule.get(dynamic["field"]) if isinstance(rule, dict) else rule for rule in rules]
    if any(is_expression(name) for name in (*rules, *named)):
        return None
    return [*names, *(name for name in named if isinstance(name, str))]


def _output(index: int, output: str, node: Node, manifest: Mapping[str, Any]) -> Iterator[Fault]:
    names = outputs_of(node, manifest)
    if names is None or output in names:
        return
    hint = f"Use {' or '.join(names)}." if names else "Nothing leaves this node."
    if output == "error":
        hint = 'Set the node\'s settings.onError to "output".'
    yield Fault(
        code="connection.output_unknown",
        message=f"Node {node.id} has no output {output}.",
        pointer=pointer("connections", index, "output"),
        node=node.id,
        next_step=hint,
    )


def _reachability(graph: Graph) -> Iterator[Fault]:
    if not graph.triggers:
        yield Fault(
            code="trigger.none",
            message="No node starts this workflow.",
            pointer="/nodes",
            next_step="Add a trigger, for instance core.manual or core.webhook.",
        )
        return
    reached = graph.reachable(graph.triggers) | graph.ending | graph.undoing.keys()
    for index, node_id in enumerate(graph.definition.nodes):
        if node_id not in reached:
            yield Fault(
                code="node.unreachable",
                message=f"No trigger leads to node {node_id}.",
                pointer=pointer("nodes", index),
                node=node_id,
                next_step="Connect it to a node that runs, or remove it.",
            )


def _replies(graph: Graph) -> Iterator[Fault]:
    """A respond node answers a webhook that waits for it, and such a webhook needs one."""
    nodes = graph.definition.nodes
    places = {node_id: index for index, node_id in enumerate(nodes)}
    waiting = [
        node_id for node_id in graph.triggers if nodes[node_id].type == WEBHOOK and _mode(nodes[node_id]) == "node"
    ]
    answered = graph.reachable(waiting)
    for node_id, node in nodes.items():
        if node.type == RESPOND and node_id not in answered:
            yield Fault(
                code="respond.unheard",
                message=f"Nobody waits for the answer of node {node_id}.",
                pointer=pointer("nodes", places[node_id]),
                node=node_id,
                severity="warning",
                next_step="Lead a webhook to it that responds by a node, or remove it.",
            )
    answering = graph.leading_to(each for each in nodes if nodes[each].type == RESPOND)
    for node_id in waiting:
        if node_id not in answering:
            yield Fault(
                code="respond.missing",
                message=f"Webhook {node_id} waits for a respond node and none follows.",
                pointer=pointer("nodes", places[node_id]),
                node=node_id,
                severity="warning",
                next_step="Add a core.respond node, or let the webhook answer at once or when done.",
            )


def _deadlines(graph: Graph, catalogue: Catalogue) -> Iterator[Fault]:
    """A way out by `timeout` wants a timeout."""
    for index, each in enumerate(graph.definition.connections):
        if each.output != TIMEOUT or (node := graph.definition.nodes.get(each.source)) is None:
            continue
        ports = (port["name"] for port in catalogue.get(node.key, {}).get("outputs", ()))
        if node.settings.timeout is None and TIMEOUT in ports:
            yield Fault(
                code="timeout.missing",
                message=f"Node {node.id} leads on by timeout and waits without a limit.",
                pointer=pointer("connections", index),
                node=node.id,
                severity="warning",
                next_step="Set settings.timeout of the node.",
            )


def _mode(node: Node) -> Any:
    respond = node.parameters.get("respond")
    return respond.get("mode") if isinstance(respond, dict) else respond
