"""What a caller may do to workflows. Whoever calls a command owns its transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from subgraphs.engine.definition import MAX_PINNED, Definition, Fault
from subgraphs.engine.graph import Graph
from subgraphs.engine.inputs import accepted
from subgraphs.engine.validation import blocking, faults_of
from subgraphs.platform.domain import Caller, Invalid
from subgraphs.workflow.domain import (
    Catalogue,
    Document,
    DraftRun,
    DraftRuns,
    Known,
    Part,
    Unsound,
    Workflow,
    Workflows,
    call_faults,
)

BULKY = 200
"""From so many nodes or connections on, parsing and validation leave the event loop to others."""
KEY_LENGTH = 200
GIVEN = 'Send {"node": {"main": [{"some": "item"}]}}.'


@dataclass(frozen=True, slots=True)
class Checked:
    """A definition and what validation says of it."""

    document: Document
    faults: list[Fault]


async def checked(definition: Any, catalogue: Catalogue) -> Checked:
    """Raises Unsound when the value has not the shape of a definition."""
    document = await _read(definition)
    return Checked(document, await examined(document, catalogue))


async def examined(document: Document, catalogue: Catalogue) -> list[Fault]:
    definition = document.definition
    if max(len(definition.nodes), len(definition.connections)) < BULKY:
        return faults_of(definition, catalogue.manifests)
    return await asyncio.to_thread(faults_of, definition, catalogue.manifests)


async def validate(definition: Any, *, caller: Caller, catalogue: Catalogue, known: Known) -> list[Fault]:
    """All faults, those of shape included."""
    caller.must("workflow:read")
    try:
        found = await checked(definition, catalogue)
        return [*found.faults, *await call_faults(found.document.definition, known)]
    except Unsound as unsound:
        return list(unsound.faults)


async def create(
    id: UUID, *, caller: Caller, workflows: Workflows, name: str, message: str, draft: Checked
) -> Workflow:
    caller.must("workflow:write")
    author, _ = caller.signed_in()
    faults = [*draft.faults, *await call_faults(draft.document.definition, workflows)]
    workflow = Workflow.create(id, name=name, author=author, message=message, document=draft.document, faults=faults)
    await workflows.save(workflow)
    return workflow


async def save_draft(
    id: UUID, *, caller: Caller, workflows: Workflows, base: int, message: str, draft: Checked
) -> Workflow:
    """A new revision; raises Stale when `base` is no longer the newest."""
    caller.must("workflow:write")
    author, _ = caller.signed_in()
    workflow = await workflows.load(id)
    faults = [*draft.faults, *await _calls(workflow, draft.document, workflows)]
    workflow.save(draft.document, faults, base=base, author=author, message=message)
    await workflows.save(workflow)
    return workflow


async def restore(
    id: UUID, *, caller: Caller, workflows: Workflows, catalogue: Catalogue, revision: int, message: str
) -> Workflow:
    caller.must("workflow:write")
    author, _ = caller.signed_in()
    workflow = await workflows.load(id)
    document = await workflows.document(workflow.digest_of(revision))
    faults = [*await examined(document, catalogue), *await _calls(workflow, document, workflows)]
    workflow.restore(revision, faults, author=author, message=message)
    await workflows.save(workflow)
    return workflow


async def name_revision(id: UUID, *, caller: Caller, workflows: Workflows, revision: int, name: str | None) -> Workflow:
    caller.must("workflow:write")
    author, _ = caller.signed_in()
    workflow = await workflows.load(id)
    workflow.name_revision(revision, name, author=author)
    await workflows.save(workflow)
    return workflow


async def publish(
    id: UUID,
    *,
    caller: Caller,
    workflows: Workflows,
    catalogue: Catalogue,
    revision: int | None,
    name: str | None,
    message: str,
) -> Workflow:
    """A release of a revision, of the newest unless one is named; raises Unsound when it cannot run."""
    caller.must("workflow:publish")
    author, _ = caller.signed_in()
    workflow = await workflows.load(id)
    chosen = workflow.state.draft if revision is None else revision
    document = await workflows.document(workflow.digest_of(chosen))
    faults = [*await examined(document, catalogue), *await _calls(workflow, document, workflows)]
    used = catalogue.used(document.definition)
    released = document.released()
    workflow.publish(chosen, faults, used, document=released, author=author, name=name, message=message)
    await workflows.save(workflow)
    return workflow


async def rename(id: UUID, *, caller: Caller, workflows: Workflows, name: str) -> Workflow:
    caller.must("workflow:write")
    author, _ = caller.signed_in()
    workflow = await workflows.load(id)
    workflow.rename(name, author=author)
    await workflows.save(workflow)
    return workflow


async def archive(id: UUID, *, caller: Caller, workflows: Workflows, archived: bool) -> Workflow:
    caller.must("workflow:write")
    author, _ = caller.signed_in()
    workflow = await workflows.load(id)
    workflow.archive(archived, author=author)
    await workflows.save(workflow)
    return workflow


async def delete(id: UUID, *, caller: Caller, workflows: Workflows) -> Workflow:
    """Gone for everybody; its history stays in the event store, its executions with Execution."""
    caller.must("workflow:delete")
    author, _ = caller.signed_in()
    workflow = await workflows.load(id)
    workflow.delete(author=author)
    await workflows.save(workflow)
    return workflow


async def run_draft(
    id: UUID,
    *,
    caller: Caller,
    workflows: Workflows,
    drafts: DraftRuns,
    catalogue: Catalogue,
    input: Any,
    trigger: str | None,
    key: str | None,
    part: Part,
) -> UUID:
    """The id of the execution that was asked for. Raises Unsound for a draft that cannot run."""
    caller.must("workflow:write")
    caller.must("execution:start")
    author, _ = caller.signed_in()
    workflow = await workflows.load(id)
    workflow.must_run()
    draft = workflow.state.draft
    document = await workflows.document(workflow.digest_of(draft))
    faults = [*await examined(document, catalogue), *await _calls(workflow, document, workflows)]
    if blocking(faults):
        raise Unsound("The draft cannot run as it stands.", tuple(faults), field="input.workflowId")
    run = DraftRun(
        workflow=id,
        name=workflow.state.name,
        revision=draft,
        document=document,
        node_types=catalogue.used(document.definition),
        trigger=_trigger(document.definition, catalogue, trigger),
        input=_input(document.definition, {} if input is None else input),
        started_by=author,
        key=_key(key),
        part=_part(document.definition, catalogue, part),
    )
    return await drafts.request(run)


def _part(definition: Definition, catalogue: Catalogue, part: Part) -> Part:
    """The part, if there is such a one; raises Invalid."""
    if part.until is not None and part.only is not None:
        raise Invalid(
            "A run goes until a node, or is of one node only.",
            field="input.only",
            next_step="Leave one of the two out.",
        )
    for name in ("until", "only"):
        _must_have(definition, getattr(part, name), f"input.{name}")
    _given(definition, part.given)
    if part.only is not None:
        _can_run_alone(Graph(definition, catalogue.manifests), part.only, part.given)
    return part


def _must_have(definition: Definition, node: Any, field: str) -> None:
    if node is not None and node not in definition.nodes:
        raise Invalid(
            f"The draft has no node {str(node)[:64]}.",
            code="node_unknown",
            field=field,
            next_step="Name a node of the draft by its id.",
        )


def _given(definition: Definition, given: Any) -> None:
    """Raises Invalid unless these are lists of items by node and port."""
    if not isinstance(given, dict):
        raise Invalid("given is an object of nodes.", field="input.given", next_step=GIVEN)
    count = 0
    for node, ports in given.items():
        _must_have(definition, node, f"input.given.{node[:64]}")
        for port, items in ports.items() if isinstance(ports, dict) else [("", None)]:
            if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                where = f"input.given.{node[:64]}" + (f".{port[:64]}" if port else "")
                raise Invalid("Items are given as lists of objects, by port.", field=where, next_step=GIVEN)
            count += len(items)
    if count > MAX_PINNED:
        raise Invalid(f"At most {MAX_PINNED} items can be given.", field="input.given", next_step="Give fewer.")


def _can_run_alone(graph: Graph, node: str, given: Mapping[str, Any]) -> None:
    sources = dict.fromkeys(each.source for each in graph.incoming[node])
    pinned = (each for each in sources if graph.definition.nodes[each].pinned)
    if not sources or graph.bodies.within.get(node) is not None:
        raise Invalid(
            f"{node} cannot run alone: {'it lies in a loop' if sources else 'nothing leads to it'}.",
            code="node_not_alone",
            field="input.only",
            next_step="Run the draft until this node.",
        )
    if given.keys().isdisjoint(sources) and next(pinned, None) is None:
        raise Invalid(
            f"There are no items for {node}.",
            code="given_missing",
            field="input.given",
            next_step=f"Give what {' or '.join(list(sources)[:5])} would put out, or pin items there.",
        )


async def _calls(workflow: Workflow, document: Document, known: Known) -> list[Fault]:
    """The faults of its calls to other workflows."""
    return await call_faults(document.definition, known, itself=workflow.id, name=workflow.state.name)


def _trigger(definition: Definition, catalogue: Catalogue, wanted: str | None) -> str:
    """The node the run starts at: the one wanted, else the first manual trigger, else the first trigger."""
    triggers = Graph(definition, catalogue.manifests).triggers
    if wanted is None:
        manual = (each for each in triggers if definition.nodes[each].type == "core.manual")
        return next(manual, triggers[0])
    if wanted not in triggers:
        raise Invalid(
            f"{wanted[:64]} is no trigger of this draft.",
            code="trigger_unknown",
            field="input.trigger",
            next_step=f"Its triggers are {', '.join(triggers)}.",
        )
    return wanted


def _input(definition: Definition, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Invalid("The input of a run is an object.", field="input.input", next_step="Send a JSON object.")
    filled, findings = accepted(definition.inputs, value)
    if findings:
        first = findings[0]
        raise Invalid(
            f"The input does not fit: {first.message}",
            code="input_invalid",
            field=".".join(["input", "input", *map(str, first.path)]),
            next_step=first.next_step or "Send what the workflow's inputs declare.",
        )
    return filled


def _key(key: str | None) -> str | None:
    if key is not None and (not 1 <= len(key) <= KEY_LENGTH or not key.isprintable()):
        raise Invalid(
            f"An idempotency key has 1 to {KEY_LENGTH} printable characters.",
            field="input.idempotencyKey",
            next_step="Send a UUID, for instance.",
        )
    return key


async def _read(definition: Any) -> Document:
    parts = [definition.get(name) for name in ("nodes", "connections")] if isinstance(definition, dict) else []
    if any(isinstance(part, list) and len(part) >= BULKY for part in parts):
        return await asyncio.to_thread(Document.read, definition)
    return Document.read(definition)
