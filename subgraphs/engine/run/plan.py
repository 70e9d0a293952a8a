"""A workflow definition compiled for running: who feeds whom, what is a loop's body, what runs at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

import msgspec

from subgraphs.engine.run.compiling import compiled
from subgraphs.engine.run.parts import PlanNode, Unrunnable, seconds

ITEMS = 1_000_000
"""Items that may leave one step by one port, what a loop collects included."""


class Plan(msgspec.Struct, frozen=True):
    """The whole graph. `pending` counts the incoming connections of each node of the top level; `roots` have none.
    `last` is the finally section, `last_roots` where it begins. Nodes of loops' bodies, of that section, and those that
    undo others are not in `pending`. `items`: so many may leave a step by one port.
    `plain`: it has no loops, no joins but those that wait for all, and nothing that runs at the end."""

    nodes: dict[str, PlanNode]
    pending: dict[str, int]
    roots: tuple[str, ...]
    timeout: float | None = None
    last: tuple[str, ...] = ()
    last_roots: tuple[str, ...] = ()
    error_workflow: UUID | None = None
    items: int = ITEMS
    plain: bool = False

    @staticmethod
    def of(definition: Mapping[str, Any], types: Mapping[str, Mapping[str, Any]]) -> Plan:
        """Compiles `linkflow/1` with what is known of its node types (`type@version` to effect, trigger, timeout).
        Pinned items are left out: they are given to a draft's start, and no other run ever sees them."""
        nodes, settings = compiled(definition, types), definition.get("settings") or {}
        last_roots = tuple(settings.get("finally") or ())
        undoing = {node.compensate for node in nodes.values() if node.compensate}
        for id in (*last_roots, *undoing):
            if id not in nodes:
                raise Unrunnable(f"{id} is to run at the end and is no node")
            if nodes[id].incoming or (id in undoing and nodes[id].outgoing):
                raise Unrunnable(f"{id} is to run at the end and is connected to what runs before")
        last = _reached(nodes, last_roots) if last_roots else set()
        apart = last | undoing
        for id in last:
            if any(edge.source not in last for edge in nodes[id].incoming if nodes[id].loop is None):
                raise Unrunnable(f"{id} belongs to the finally section and is fed from outside it")
        main = {id: len(node.incoming) for id, node in nodes.items() if node.loop is None and id not in apart}
        error = (settings.get("errorWorkflow") or {}).get("workflowId")
        return Plan(
            nodes=nodes,
            pending=main,
            roots=tuple(id for id, count in main.items() if not count),
            timeout=seconds(settings["timeout"]) if settings.get("timeout") else None,
            last=tuple(id for id in nodes if id in last and nodes[id].loop is None),
            last_roots=last_roots,
            error_workflow=UUID(error) if error else None,
            plain=not apart and all(node.rounds is None and node.join == "all" for node in nodes.values()),
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


def _reached(nodes: Mapping[str, PlanNode], roots: Iterable[str]) -> set[str]:
    found, work = set(roots), list(roots)
    while work:
        for edge in nodes[work.pop()].outgoing:
            if edge.target not in found:
                found.add(edge.target)
                work.append(edge.target)
    return found
