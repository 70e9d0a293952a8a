"""Steps between processes: a request and its outcome as JSON, when Execution and Executor do not share one.

Two things do not survive as they are. The names of a request's scope are looked up in the run when an expression reads
them: only the nodes that the parameters speak of are sent, with the ancestor of each input item among their items. And
an output item that is an input item unchanged must be the very same object: it is sent as its port and position.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from subgraphs.engine.step import Item, Line, Reply, StepError, StepOutcome, StepRequest, Wait

PATH: Final = "/executor/steps"
PROBES: Final = "/executor/probes"
"""Takes the same requests, and answers whether the step has happened: true, false or null."""
METHOD: Final = "STEP"
"""Stands in the proof in place of POST: such a proof opens nothing else, and the router's do not open this."""
LARGEST: Final = 64 * 1024 * 1024
"""Bytes of one request."""
NONE: Final = -1
_ANY_NODE: Final = re.compile(rb"nodes\b(?!\s*\.\s*[A-Za-z_]\w*\b(?!\s*\())")
"""`nodes` other than as `nodes.ID`, and `nodes.all(…)`: then any of them may be meant. What stands before does not
count: in JSON text it may be the letter of an escaped line break."""


class SentNodes(dict[str, list[Item]]):
    """`nodes` of a scope that was sent, with the ancestors that were worked out where the run is."""

    def __init__(
        self,
        nodes: Mapping[str, list[Item]],
        ancestors: Mapping[str, Mapping[str, Sequence[int]]],
        inputs: Mapping[str, Sequence[Item]],
    ) -> None:
        super().__init__(nodes)
        self._ancestors = ancestors
        self._places = {id(item): (port, at) for port, items in inputs.items() for at, item in enumerate(items)}

    def ancestor(self, item: Item, node: str) -> Item | None:
        """The item of `node` that `item`, an input item, is or descends from."""
        place = self._places.get(id(item))
        if place is None:
            return None
        index = self._ancestors[node][place[0]][place[1]]
        return self[node][index] if index != NONE else None


class _Execution(msgspec.Struct, rename="camel"):
    id: str
    workflow_id: str | None
    mode: str
    started_at: datetime
    links: dict[str, str] = {}


class _Names(msgspec.Struct):
    nodes: dict[str, list[Item]] = {}
    ancestors: dict[str, dict[str, list[int]]] = {}
    trigger: Any = None
    execution: _Execution | None = None
    vars: dict[str, Any] = {}


class _Asked(msgspec.Struct):
    step: StepRequest
    names: _Names


class _Told(msgspec.Struct):
    outputs: dict[str, list[Item | tuple[str, int]]] = {}
    error: StepError | None = None
    wait: Wait | None = None
    reply: Reply | None = None
    lines: list[Line] = []
    lines_dropped: int = 0
    keys: dict[str, str] | None = None


def request_sent(request: StepRequest) -> bytes:
    """The request as bytes, its scope reduced to what the parameters may read."""
    scope, nodes = request.scope, request.scope.get("nodes") or {}
    names = _Names(trigger=scope.get("trigger"), vars=scope.get("vars") or {})
    if (execution := scope.get("execution")) is not None:
        names.execution = msgspec.convert(execution, _Execution)
    for node in _named(request.parameters, nodes):
        names.nodes[node] = list(nodes[node])
        names.ancestors[node] = _ancestors(nodes, node, names.nodes[node], request.inputs)
    return msgspec.json.encode(_Asked(msgspec.structs.replace(request, scope={}), names))


def request_read(data: bytes) -> StepRequest:
    """The request of these bytes. Raises msgspec.DecodeError."""
    asked = msgspec.json.decode(data, type=_Asked)
    step, names = asked.step, asked.names
    scope: dict[str, Any] = {
        "nodes": SentNodes(names.nodes, names.ancestors, step.inputs),
        "trigger": names.trigger,
        "vars": names.vars,
    }
    if (execution := names.execution) is not None:
        scope["execution"] = {
            "id": execution.id,
            "workflowId": execution.workflow_id,
            "mode": execution.mode,
            "startedAt": execution.started_at,
            "links": execution.links,
        }
    step.scope = scope
    return step


def outcome_sent(request: StepRequest, outcome: StepOutcome) -> bytes:
    """The outcome of `request` as bytes. Raises TypeError, ValueError, OverflowError or RecursionError if it is not
    JSON."""
    places = {id(item): (port, at) for port, items in request.inputs.items() for at, item in enumerate(items)}
    outputs = {port: [places.get(id(item), item) for item in items] for port, items in outcome.outputs.items()}
    return msgspec.json.encode(
        _Told(outputs, outcome.error, outcome.wait, outcome.reply, outcome.lines, outcome.lines_dropped, outcome.keys)
    )


def outcome_read(request: StepRequest, data: bytes) -> StepOutcome:
    """The outcome of these bytes; unchanged items are the request's own. Raises msgspec.DecodeError or LookupError."""
    told = msgspec.json.decode(data, type=_Told)
    outputs = {
        port: [item if isinstance(item, Item) else request.inputs[item[0]][item[1]] for item in items]
        for port, items in told.outputs.items()
    }
    return StepOutcome(outputs, told.error, told.wait, told.reply, told.lines, told.lines_dropped, told.keys)


def _named(parameters: Mapping[str, Any], nodes: Mapping[str, Sequence[Item]]) -> list[str]:
    """The settled nodes that expressions or code in the parameters may read; rather too many than too few."""
    text = msgspec.json.encode(parameters)
    if b"nodes" not in text:
        return []
    all_of_them = _ANY_NODE.search(text) is not None
    return [node for node in nodes if all_of_them or node.encode() in text]


def _ancestors(
    nodes: Mapping[str, Sequence[Item]], node: str, items: Sequence[Item], inputs: Mapping[str, Sequence[Item]]
) -> dict[str, list[int]]:
    """Per input port, the position in `items` of each input item's ancestor, NONE for those without."""
    known = getattr(nodes, "ancestor", None)
    at = {id(item): index for index, item in enumerate(items)}
    return {
        port: [at.get(id(known(item, node)), NONE) if known is not None else NONE for item in arrived]
        for port, arrived in inputs.items()
    }
