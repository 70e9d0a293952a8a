"""A workflow definition compiled for running: who feeds whom, how each node retries, when it gives up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

_DURATION = re.compile(
    r"^P(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?$"
)
_UNITS = {"weeks": 604_800.0, "days": 86_400.0, "hours": 3_600.0, "minutes": 60.0, "seconds": 1.0}

DEFAULT_TIMEOUT = 30.0


class Unrunnable(ValueError):
    """The definition cannot be run as it stands; Workflow's validation would have said so before a release."""


def seconds(text: str) -> float:
    """An ISO 8601 duration of weeks to seconds (no months or years, whose length varies) in seconds."""
    match = _DURATION.match(text)
    if match is None or text in {"P", "PT"} or text.endswith("T"):
        raise Unrunnable(f"{text!r} is not a duration such as PT30S")
    return sum(float(value) * _UNITS[unit] for unit, value in match.groupdict().items() if value)


class Retry(msgspec.Struct, frozen=True):
    """How often and how far apart a failing step is tried. `attempts` counts the first; times in seconds."""

    attempts: int = 1
    exponential: bool = True
    delay: float = 1.0
    cap: float = 60.0
    jitter: bool = True
    never: tuple[str, ...] = ()


class Edge(msgspec.Struct, frozen=True):
    """One connection, in the order the definition lists them."""

    source: str
    output: str
    target: str
    input: str


class PlanNode(msgspec.Struct, frozen=True):
    """One node, ready to run. `timeout` bounds an attempt; `wait_timeout` bounds a wait, if the author set one;
    `total` bounds the node from its first attempt until it is settled. All in seconds."""

    id: str
    type: str
    version: str
    name: str
    parameters: dict[str, Any]
    pure: bool
    trigger: bool
    retry: Retry
    timeout: float
    wait_timeout: float | None
    total: float | None
    on_error: str
    incoming: tuple[Edge, ...]
    outgoing: tuple[Edge, ...]


class Plan(msgspec.Struct, frozen=True):
    """The whole graph. `pending` counts the incoming connections of each node; `roots` have none."""

    nodes: dict[str, PlanNode]
    pending: dict[str, int]
    roots: tuple[str, ...]
    timeout: float | None = None

    @staticmethod
    def of(definition: Mapping[str, Any], types: Mapping[str, Mapping[str, Any]]) -> Plan:
        """Compiles `linkflow/1` with what is known of its node types (`type@version` to effect, trigger, timeout)."""
        edges = [_edge(raw) for raw in definition.get("connections") or ()]
        incoming: dict[str, list[Edge]] = {raw["id"]: [] for raw in definition["nodes"]}
        outgoing: dict[str, list[Edge]] = {raw["id"]: [] for raw in definition["nodes"]}
        for edge in edges:
            if edge.source not in outgoing or edge.target not in incoming:
                raise Unrunnable(f"a connection joins {edge.source} and {edge.target}, of which one is no node")
            outgoing[edge.source].append(edge)
            incoming[edge.target].append(edge)
        nodes = {
            raw["id"]: _node(raw, types, tuple(incoming[raw["id"]]), tuple(outgoing[raw["id"]]))
            for raw in definition["nodes"]
        }
        timeout = (definition.get("settings") or {}).get("timeout")
        return Plan(
            nodes=nodes,
            pending={node: len(edges) for node, edges in incoming.items()},
            roots=tuple(node for node, edges in incoming.items() if not edges),
            timeout=seconds(timeout) if timeout else None,
        )

    def trigger(self, wanted: str | None, *types: str) -> str:
        """The trigger a run starts at: the one named, else the first of `types`, else the first of any type."""
        if wanted is not None:
            node = self.nodes.get(wanted)
            if node is None or not node.trigger:
                raise Unrunnable(f"{wanted} is not a trigger of this workflow")
            return wanted
        found = [node for node in self.nodes.values() if node.trigger]
        preferred = [node for node in found if node.type in types]
        if not found:
            raise Unrunnable("the workflow has no trigger")
        return (preferred or found)[0].id


def _edge(raw: Mapping[str, Any]) -> Edge:
    return Edge(raw["from"], raw.get("output") or "main", raw["to"], raw.get("input") or "main")


def _node(
    raw: Mapping[str, Any],
    types: Mapping[str, Mapping[str, Any]],
    incoming: tuple[Edge, ...],
    outgoing: tuple[Edge, ...],
) -> PlanNode:
    settings = raw.get("settings") or {}
    known = types.get(f"{raw['type']}@{raw['version']}") or {}
    own = settings.get("timeout")
    default = known.get("timeout")
    return PlanNode(
        id=raw["id"],
        type=raw["type"],
        version=raw["version"],
        name=raw.get("name") or raw["id"],
        parameters=raw.get("parameters") or {},
        pure=known.get("effect") == "pure",
        trigger=bool(known.get("trigger")),
        retry=_retry(settings.get("retry") or {}),
        timeout=seconds(own) if own else seconds(default) if default else DEFAULT_TIMEOUT,
        wait_timeout=seconds(own) if own else None,
        total=seconds(settings["totalTimeout"]) if settings.get("totalTimeout") else None,
        on_error=settings.get("onError") or "stop",
        incoming=incoming,
        outgoing=outgoing,
    )


def _retry(raw: Mapping[str, Any]) -> Retry:
    return Retry(
        attempts=int(raw.get("attempts") or 1),
        exponential=raw.get("backoff", "exponential") != "fixed",
        delay=seconds(raw["delay"]) if raw.get("delay") else 1.0,
        cap=seconds(raw["maxDelay"]) if raw.get("maxDelay") else 60.0,
        jitter=bool(raw.get("jitter", True)),
        never=tuple(raw.get("never") or ()),
    )
