"""Calls between workflows: what a definition calls, whether that exists, fits, and does not lead back to it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from subgraphs.engine.definition import Definition, Fault, Input, Node
from subgraphs.engine.faults import MAX_FAULTS, pointer
from subgraphs.engine.inputs import misfits
from subgraphs.engine.parameters import is_expression

CALL, LATEST = "core.call", "latest"
DEEPEST = 20
"""Calls that runs nest at most, and that the search for a cycle follows."""
LOOKED_AT = 20_000
"""Releases that it looks at."""

Place = tuple[UUID, int]
"""A release: workflow and number."""


@dataclass(frozen=True, slots=True)
class Call:
    """A node that calls a workflow: the release with that number, or whatever is newest."""

    node: str
    callee: UUID
    release: int | None

    def place(self, heads: Mapping[UUID, Head]) -> Place | None:
        """The release that would be run; None if there is none."""
        head = heads.get(self.callee)
        number = self.release or (head.release if head else 0)
        return (self.callee, number) if head and 0 < number <= head.release else None


@dataclass(frozen=True, slots=True)
class Head:
    """A workflow as callers see it. `release`: the newest, 0 if it was never published."""

    name: str
    release: int
    archived: bool


class Known(Protocol):
    """What is known of workflows and their releases, of one tenant."""

    async def heads(self, workflows: Collection[UUID]) -> Mapping[UUID, Head]:
        """Those of them that exist."""

    async def calls(self, releases: Collection[Place]) -> Mapping[Place, Sequence[Call]]:
        """What these releases call; those that call nothing are left out."""

    async def inputs(self, releases: Collection[Place]) -> Mapping[Place, Sequence[Input]]:
        """The inputs these releases declare."""


def calls_of(definition: Definition) -> list[Call]:
    """The calls whose workflow is written out; what an expression decides is known only in a run."""
    return [call for node in definition.nodes.values() if (call := _call(node)) is not None]


def _call(node: Node) -> Call | None:
    if node.type != CALL:
        return None
    release = node.parameters.get("release", LATEST)
    number = release if isinstance(release, int) and not isinstance(release, bool) and release > 0 else None
    if number is None and release != LATEST:
        return None
    try:
        return Call(node.id, UUID(node.parameters["workflowId"]), number)
    except (KeyError, ValueError, TypeError, AttributeError):
        return None


async def call_faults(
    definition: Definition, known: Known, *, itself: UUID | None = None, name: str = ""
) -> list[Fault]:
    """What is wrong with the calls of a definition and with its error workflow. `itself`: the workflow it belongs to,
    if that exists already. Asks nothing of a definition that names no other workflow."""
    calls, named = calls_of(definition), definition.settings.error_workflow
    if not calls and named is None:
        return []
    other = UUID(named.workflow_id) if named else None
    heads = dict(await known.heads({call.callee for call in calls} | ({other} if other else set())))
    places = {call: place for call in calls if (place := call.place(heads)) is not None}
    inputs = await known.inputs(set(places.values()))
    back = await _back(places.values(), itself, heads, known) if itself is not None else {}
    order = {node_id: index for index, node_id in enumerate(definition.nodes)}
    found: list[Fault] = []
    for call in calls:
        place = places.get(call)
        if call.callee == itself and call.release is None:
            found.append(_fault(order, call, "call.cycle", f"{name or 'the workflow'} calls itself"))
        elif place is None:
            found.append(_absent(order, call, heads.get(call.callee)))
        elif place in back:
            names = " calls ".join(heads[each].name for each in back[place])
            found.append(_fault(order, call, "call.cycle", f"{names}, which calls {name or 'this workflow'}"))
        elif heads[call.callee].archived:
            found.append(_fault(order, call, "call.archived", f"{heads[call.callee].name} is archived"))
        else:
            found += _inputs(order, call, definition.nodes[call.node], inputs.get(place, ()))
    return [*_error_workflow(other, heads), *found][:MAX_FAULTS]


def _error_workflow(named: UUID | None, heads: Mapping[UUID, Head]) -> Iterator[Fault]:
    if named is not None and named not in heads:
        yield Fault(
            code="error_workflow.unknown",
            message="There is no such workflow to start on failure.",
            pointer=pointer("settings", "errorWorkflow", "workflowId"),
            next_step="List the workflows you can see with workflows.",
        )


async def _back(
    starts: Collection[Place], itself: UUID, heads: dict[UUID, Head], known: Known
) -> dict[Place, list[UUID]]:
    """Of the releases called those that lead back to a call of the newest release of `itself`, each with the workflows
    on the way. Of several whose ways meet, one is told. `heads` is completed; level by level, so that a query serves
    all of them."""
    found: dict[Place, list[UUID]] = {}
    level = {place: (place, [place[0]]) for place in starts}
    seen = set(level)
    for _ in range(DEEPEST):
        if not level or len(seen) > LOOKED_AT:
            break
        calls = await known.calls(level)
        if new := {each.callee for some in calls.values() for each in some} - heads.keys():
            heads |= await known.heads(new)
        following: dict[Place, tuple[Place, list[UUID]]] = {}
        for place, (start, path) in level.items():
            for each in calls.get(place, ()):
                if each.callee == itself and each.release is None:
                    found.setdefault(start, path)
                elif (reached := each.place(heads)) is not None and reached not in seen:
                    seen.add(reached)
                    following[reached] = (start, [*path, each.callee])
        level = following
    return found


def _fault(order: Mapping[str, int], call: Call, code: str, message: str, step: str | None = None) -> Fault:
    steps = {
        "call.cycle": "Call another workflow, or pin an older release that does not lead back.",
        "call.archived": "Take it back with archiveWorkflow(archived: false), or call another one.",
    }
    return Fault(
        code=code,
        message=f"Node {call.node}: {message}.",
        pointer=pointer("nodes", order[call.node], "parameters", "workflowId"),
        node=call.node,
        next_step=step or steps.get(code),
    )


def _absent(order: Mapping[str, int], call: Call, head: Head | None) -> Fault:
    if head is None:
        step = "List the workflows you can see with workflows."
        return _fault(order, call, "call.unknown", f"there is no workflow {call.callee}", step)
    if not head.release:
        return _fault(order, call, "call.unreleased", f"{head.name} has no release", "Publish it first.")
    step = f"Its releases are numbered 1 to {head.release}."
    return _fault(order, call, "call.unreleased", f"{head.name} has no release {call.release}", step)


def _inputs(order: Mapping[str, int], call: Call, node: Node, inputs: Sequence[Input]) -> Iterator[Fault]:
    """What is given against what the called release declares; values that expressions give are seen only in a run."""
    given: Any = node.parameters.get("input", {})
    if is_expression(given) or not isinstance(given, dict):
        return
    for finding in misfits(inputs, given, expressions=True):
        yield Fault(
            code="call.input",
            message=f"Node {call.node}: of the input, {finding.message}",
            pointer=pointer("nodes", order[call.node], "parameters", "input", *finding.path),
            node=call.node,
            next_step=finding.next_step or "Give what the called workflow declares as its inputs.",
        )
