"""From a definition to the nodes of a plan: connections indexed, loops with their bodies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from subgraphs.engine.effects import effect_of
from subgraphs.engine.run.parts import DEFAULT_TIMEOUT, Edge, PlanNode, Retry, Rounds, Unrunnable, seconds

LOOP = "core.loop"
MERGE = "core.merge"
EACH, NEXT = "each", "next"
MOST_ROUNDS = 1_000_000
Edges = dict[str, list[Edge]]


def compiled(definition: Mapping[str, Any], types: Mapping[str, Mapping[str, Any]]) -> dict[str, PlanNode]:
    """The nodes of a definition, ready to run; raises Unrunnable."""
    edges = [_edge(raw) for raw in definition.get("connections") or ()]
    incoming: Edges = {raw["id"]: [] for raw in definition["nodes"]}
    outgoing: Edges = {raw["id"]: [] for raw in definition["nodes"]}
    for edge in edges:
        if edge.source not in outgoing or edge.target not in incoming:
            raise Unrunnable(f"a connection joins {edge.source} and {edge.target}, of which one is no node")
        outgoing[edge.source].append(edge)
        incoming[edge.target].append(edge)
    loops = {raw["id"] for raw in definition["nodes"] if raw["type"] == LOOP}
    nodes = {raw["id"]: _node(raw, types, incoming[raw["id"]], outgoing[raw["id"]]) for raw in definition["nodes"]}
    if loops:
        nodes = _looped(nodes, loops, incoming, outgoing)
    if any(node.join == "first" for node in nodes.values()):
        nodes = {id: replace(node, losers=_losers(nodes, node, outgoing)) for id, node in nodes.items()}
    return nodes


def _edge(raw: Mapping[str, Any]) -> Edge:
    return Edge(raw["from"], raw.get("output") or "main", raw["to"], raw.get("input") or "main")


def _node(
    raw: Mapping[str, Any], types: Mapping[str, Mapping[str, Any]], incoming: list[Edge], outgoing: list[Edge]
) -> PlanNode:
    settings, parameters = raw.get("settings") or {}, raw.get("parameters") or {}
    known = types.get(f"{raw['type']}@{raw['version']}") or {}
    effect, crash = effect_of(known, parameters), settings.get("onCrash")
    own, default = settings.get("timeout"), known.get("timeout")
    loop = raw["type"] == LOOP
    return PlanNode(
        id=raw["id"],
        type=raw["type"],
        version=raw["version"],
        name=raw.get("name") or raw["id"],
        parameters=parameters,
        pure=effect == "pure",
        trigger=bool(known.get("trigger")),
        retry=_retry(settings.get("retry") or {}),
        timeout=seconds(own) if own else seconds(default) if default else DEFAULT_TIMEOUT,
        wait_timeout=seconds(own) if own else None,
        total=seconds(settings["totalTimeout"]) if settings.get("totalTimeout") else None,
        on_error=settings.get("onError") or "stop",
        incoming=tuple(edge for edge in incoming if not (loop and edge.input == NEXT)),
        outgoing=tuple(edge for edge in outgoing if not (loop and edge.output == EACH)),
        effect=effect,
        parks=crash == "park" or (crash is None and effect == "unsafe"),
        join=_join(raw["type"], settings, parameters),
        compensate=settings.get("compensate"),
        rounds=_rounds(raw["id"], parameters) if loop else None,
    )


def _join(type: str, settings: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    join = settings.get("join") or "all"
    waits = parameters.get("wait") if type == MERGE else None
    return str(waits) if join == "all" and waits in ("any", "first") else str(join)


def _retry(raw: Mapping[str, Any]) -> Retry:
    return Retry(
        attempts=int(raw.get("attempts") or 1),
        exponential=raw.get("backoff", "exponential") != "fixed",
        delay=seconds(raw["delay"]) if raw.get("delay") else 1.0,
        cap=seconds(raw["maxDelay"]) if raw.get("maxDelay") else 60.0,
        jitter=bool(raw.get("jitter", True)),
        never=tuple(raw.get("never") or ()),
    )


def _rounds(id: str, parameters: Mapping[str, Any]) -> Rounds:
    tolerated = parameters.get("tolerated") or 0
    share = None
    try:
        if isinstance(tolerated, str) and tolerated.endswith("%"):
            share, tolerated = float(tolerated[:-1]) / 100, 0
        return Rounds(
            batch=max(1, int(parameters.get("batchSize") or 1)),
            parallel=max(1, int(parameters.get("parallel") or 1)),
            tolerated=int(tolerated),
            share=share,
            collect=parameters.get("collect") is not False,
            most=int(parameters.get("maxRounds") or MOST_ROUNDS),
        )
    except (TypeError, ValueError):
        raise Unrunnable(f"loop {id} has parameters that are no numbers") from None


def _looped(nodes: dict[str, PlanNode], loops: set[str], incoming: Edges, outgoing: Edges) -> dict[str, PlanNode]:
    """The nodes, told in which loop they lie, connections between a body and its loop taken out of the flow."""
    bodies = {loop: _body(loop, loops, outgoing) for loop in loops}
    within: dict[str, str] = {}
    for loop, body in sorted(bodies.items(), key=lambda each: -len(each[1])):
        if not body or loop in body:
            raise Unrunnable(f"loop {loop} has no body, or one that leads back to it other than by its input next")
        within.update(dict.fromkeys(body, loop))  # the smaller body is the inner one, and comes later
    members: dict[str, list[str]] = {loop: [] for loop in loops}
    for id in nodes:
        if id in within:
            members[within[id]].append(id)
    found = {}
    for id, node in nodes.items():
        outgoing_ = tuple(edge for edge in node.outgoing if not (edge.target in loops and edge.input == NEXT))
        for edge in outgoing_:
            if within.get(edge.target) != within.get(id):
                raise Unrunnable(f"the connection from {id} to {edge.target} crosses the border of a loop")
        rounds = node.rounds
        if rounds is not None:
            entering = tuple(edge for edge in outgoing[id] if edge.output == EACH)
            rounds = replace(
                rounds, body=tuple(members[id]), entering=entering, returning=_returning(id, within, incoming[id])
            )
        found[id] = replace(node, outgoing=outgoing_, loop=within.get(id), rounds=rounds)
    return found


def _returning(loop: str, within: Mapping[str, str], incoming: Iterable[Edge]) -> tuple[Edge, ...]:
    edges = tuple(edge for edge in incoming if edge.input == NEXT)
    for edge in edges:
        if within.get(edge.source) != loop:
            raise Unrunnable(f"{edge.source} leads to input next of loop {loop} and does not lie in its body")
    return edges


def _body(loop: str, loops: set[str], outgoing: Edges) -> set[str]:
    """Everything reachable from a loop's output `each` without coming back to a loop."""
    found: set[str] = set()
    work = [edge for edge in outgoing[loop] if edge.output == EACH]
    while work:
        edge = work.pop()
        if edge.target in found or (edge.target in loops and edge.input == NEXT):
            continue
        found.add(edge.target)
        work += outgoing[edge.target]
    return found


def _losers(nodes: Mapping[str, PlanNode], join: PlanNode, outgoing: Edges) -> tuple[str, ...]:
    """The nodes all of whose connections lead, in the end, to this join: needless once it has what it waits for."""
    if join.join != "first":
        return ()
    ahead = {id: len(outgoing[id]) if node.rounds is None else len(node.outgoing) for id, node in nodes.items()}
    lost: set[str] = set()
    work = [join.id]
    while work:
        for edge in nodes[work.pop()].incoming:
            ahead[edge.source] -= 1
            source = nodes.get(edge.source)
            if ahead[edge.source] == 0 and source is not None and source.loop == join.loop and not source.trigger:
                lost.add(edge.source)
                work.append(edge.source)
    return tuple(id for id in nodes if id in lost)
