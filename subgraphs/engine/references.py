"""Expressions of a definition: whether they can be read, and whether what they refer to runs before them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice
from typing import Any

import orjson

from subgraphs.engine.definition import Node
from subgraphs.engine.expression import ExpressionError, compiled, survey
from subgraphs.engine.faults import Fault, pointer
from subgraphs.engine.graph import Graph
from subgraphs.engine.parameters import is_expression, raw

Catalogue = Mapping[str, Mapping[str, Any]]
"""Manifests by `type@version`."""

LINKED = frozenset({"core.approval", "core.form", "core.callback"})
"""Node types with a link, by which people and services answer."""
LINK = re.compile(r"\bexecution\s*\.\s*links\s*\.\s*([A-Za-z_]\w*)", re.ASCII)
EXPRESSIONS = 524_288
"""Characters of different expressions that a workflow may hold: checking costs up to 30 us CPU each."""
SHORT = 1000
"""Bytes of a node's parameters up to which the survey of their expressions is remembered."""


def expression_faults(graph: Graph, catalogue: Catalogue, *, ordered: bool) -> Iterator[Fault]:
    """Faults of all expressions. `ordered`: the graph has no loop, so that it can be said what runs before what."""
    plain = {key: raw(manifest["parameters"]) for key, manifest in catalogue.items()}
    seen: set[bytes] = set()
    size = 0
    for index, node in enumerate(graph.definition.nodes.values()):
        parameters = _without(node.parameters, plain.get(node.key))
        text = orjson.dumps(parameters)
        if b"{{" not in text:
            continue
        if text not in seen:
            seen.add(text)
            size += sum(_extent(each) for _, each in _texts(parameters))
        if size > EXPRESSIONS:
            yield _too_much(index, node)
            return
        faulty, nodes = _surveyed(text) if len(text) <= SHORT else survey(parameters)
        if faulty:
            yield from (_unreadable(index, node, error) for error in faulty)
            continue
        for other in sorted(nodes):
            if fault := _reference(graph, index, node, parameters, other, ordered=ordered):
                yield fault
        if b"execution" in text:
            yield from _links(graph, index, node, parameters)


def _extent(text: str) -> int:
    """Characters from the first expression's beginning to the last one's end."""
    return max(text.rfind("}}") - text.find("{{"), 0) if "{{" in text else 0


def _too_much(index: int, node: Node) -> Fault:
    return Fault(
        code="expression.limit",
        message=f"With node {node.id} the expressions of the workflow exceed {EXPRESSIONS:,} characters.",
        pointer=pointer("nodes", index, "parameters"),
        node=node.id,
        next_step="Split the workflow, or move what is computed into code nodes.",
    )


@lru_cache(maxsize=32_768)
def _surveyed(text: bytes) -> tuple[list[ExpressionError], frozenset[str]]:
    """Remembered, for a definition is validated again and again with few of its nodes changed."""
    return survey(orjson.loads(text))


def _without(parameters: dict[str, Any], plain: frozenset[str] | None) -> dict[str, Any]:
    """The parameters in which expressions count."""
    return {name: value for name, value in parameters.items() if name not in plain} if plain else parameters


def _unreadable(index: int, node: Node, error: ExpressionError) -> Fault:
    return Fault(
        code="expression.invalid",
        message=f"Node {node.id}: {error.message}",
        pointer=pointer("nodes", index, "parameters") + (error.pointer or ""),
        node=node.id,
        position=error.position,
        next_step="Correct the expression at this position.",
    )


def _reference(
    graph: Graph, index: int, node: Node, parameters: dict[str, Any], other: str, *, ordered: bool
) -> Fault | None:
    nodes = graph.definition.nodes
    if other in nodes:
        if not ordered or graph.ancestry[node.id] >> graph.place[other] & 1:
            return None
        code, message = "reference.not_upstream", f"node {other} does not run before it"
        step = f"Connect {other} so that it leads to {node.id}."
        if (loop := graph.bodies.within.get(other)) is not None and loop != graph.bodies.within.get(node.id):
            code, message = "reference.in_loop", f"node {other} runs once a round in the body of loop {loop}"
            step = f"Refer to nodes.{loop}, whose items are those that its rounds brought back."
    else:
        close = get_close_matches(other, islice(nodes, 200), n=1)
        code, message = "reference.unknown", f"it refers to node {other}, which does not exist"
        step = f"Did you mean nodes.{close[0]}?" if close else "Refer to a node by its id."
    where, position = _where(parameters, other)
    return Fault(
        code=code,
        message=f"Node {node.id}: {message}.",
        pointer=pointer("nodes", index, "parameters", *where),
        node=node.id,
        position=position,
        next_step=step,
    )


def _links(graph: Graph, index: int, node: Node, parameters: dict[str, Any]) -> Iterator[Fault]:
    """Links of nodes that have none: known before a run, but only for nodes that wait for somebody who follows one."""
    for path, text in _texts(parameters):
        for found in LINK.finditer(text) if "{{" in text else ():
            other = graph.definition.nodes.get(found[1])
            if other is not None and other.type in LINKED:
                continue
            linked = [each.id for each in graph.definition.nodes.values() if each.type in LINKED]
            yield Fault(
                code="reference.no_link",
                message=f"Node {node.id}: there is no link of {found[1]}.",
                pointer=pointer("nodes", index, "parameters", *path),
                node=node.id,
                position=found.start(),
                next_step=f"Links have {', '.join(linked[:5])}."
                if linked
                else "Add core.approval, core.form or core.callback; it has a link.",
            )


def _where(parameters: Any, other: str) -> tuple[Sequence[str | int], int | None]:
    """Path and offset of the first text that refers to `nodes.other`."""
    for path, text in _texts(parameters):
        if is_expression(text) and other in compiled(text).nodes:
            found = text.find(f"nodes.{other}")
            return path, found if found >= 0 else None
    return (), None


def _texts(parameters: Any) -> Iterator[tuple[Sequence[str | int], str]]:
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), parameters)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, str):
            yield path, value
        elif isinstance(value, dict):
            waiting.extend(((*path, name), each) for name, each in reversed(value.items()))
        elif isinstance(value, list):
            waiting.extend(((*path, place), each) for place, each in reversed(list(enumerate(value))))
