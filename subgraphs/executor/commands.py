"""What a caller may have Executor do."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from secrets import randbits
from typing import Any
from uuid import UUID

import orjson

from subgraphs.engine.expression import check
from subgraphs.engine.parameters import Checker
from subgraphs.engine.step import Item, StepOutcome, StepRequest
from subgraphs.executor.domain import MAIN, NodeType
from subgraphs.executor.runner import Runner
from subgraphs.executor.units import iso_duration
from subgraphs.platform.domain import Caller, Invalid, Missing, uuid7

ITEMS_LIMIT = 100
BYTES_LIMIT = 1_048_576


@dataclass(frozen=True, slots=True)
class Sample:
    """What a node is tried with. `items` enter by `main`, `inputs` are those of other ports. `context`: `nodes`
    ({id: [json]}), `trigger` and `vars` for its expressions."""

    type: str
    version: str | None
    parameters: Any
    items: Any
    context: Any = None
    inputs: Any = None


@dataclass(frozen=True, slots=True)
class Tried:
    """How the trial ended, and how long it took."""

    outcome: StepOutcome
    milliseconds: float


async def try_node(sample: Sample, *, caller: Caller, runner: Runner) -> Tried:
    """Runs one node with sample items, outside any execution. It really does what it does: an HTTP request is sent.

    What the node does wrong is in the outcome; raises Invalid, Missing or Forbidden for what was asked wrongly."""
    tenant = caller.must("node:test")
    type = _type(sample, runner)
    request = _request(sample, type, tenant)
    started = time.perf_counter()
    outcome = await runner.run(request)
    return Tried(outcome, (time.perf_counter() - started) * 1000)


def _type(sample: Sample, runner: Runner) -> NodeType:
    versions = {version: found for (name, version), found in runner.types.items() if name == sample.type}
    found = (
        versions.get(sample.version) if sample.version else versions[max(versions, key=_order)] if versions else None
    )
    if found is not None:
        return found
    if versions:
        step = f"Versions: {', '.join(sorted(versions))}."
        raise Missing(f"{sample.type} has no version {sample.version}.", field="version", next_step=step)
    close = get_close_matches(sample.type[:100], {name for name, _ in runner.types}, 1)
    step = f"Did you mean {close[0]}?" if close else "Ask for nodeTypes."
    raise Missing(f"There is no node type {sample.type[:100]}.", field="type", next_step=step)


def _order(version: str) -> list[int]:
    """A semantic version as numbers that sort."""
    return [int(part) for part in version.split(".")]


def _request(sample: Sample, type: NodeType, tenant: UUID) -> StepRequest:
    if not isinstance(sample.parameters, dict):
        raise Invalid("Parameters are an object.", field="parameters")
    _check(sample.parameters, type)
    context = sample.context if isinstance(sample.context, Mapping) else {}
    nodes = context.get("nodes") or {}
    if not isinstance(nodes, Mapping):
        raise Invalid("nodes is an object of lists.", field="context.nodes")
    id = uuid7()
    now = datetime.now(UTC)
    return StepRequest(
        tenant=tenant,
        execution=id,
        workflow=None,
        node="test",
        type=type.manifest.type,
        version=type.manifest.version,
        attempt=1,
        idempotency_key=f"test-{id}",
        parameters=sample.parameters,
        inputs={"main": _items(sample.items, "items"), **_others(sample.inputs, type)},
        scope={
            "nodes": {str(name): _items(items, f"context.nodes.{name}") for name, items in nodes.items()},
            "trigger": context.get("trigger") or {},
            "vars": context.get("vars") or {},
            "execution": {"id": str(id), "workflowId": None, "mode": "test", "startedAt": now},
        },
        now=now,
        seed=randbits(31),
        timeout=iso_duration(type.manifest.timeout).total_seconds(),
    )


def _others(inputs: Any, type: NodeType) -> dict[str, Sequence[Item]]:
    """The items of ports other than `main`."""
    if inputs is None:
        return {}
    ports = [port for port in type.manifest.inputs if port != MAIN]
    if not isinstance(inputs, dict) or not inputs.keys() <= set(ports):
        step = f"Its further inputs are {', '.join(ports)}." if ports else "It has no input beside main."
        raise Invalid("inputs is an object of lists of items, by port.", field="inputs", next_step=step)
    return {port: _items(items, f"inputs.{port}") for port, items in inputs.items()}


def _check(parameters: dict[str, Any], type: NodeType) -> None:
    """The same faults that saving a workflow would report, the first one as a problem."""
    properties = type.manifest.parameters.get("properties", {})
    raw = {name for name, schema in properties.items() if schema.get("x-raw")}
    for error in check({name: value for name, value in parameters.items() if name not in raw}):
        field = f"parameters{error.pointer.replace('/', '.')}"
        step = f"Look at character {error.position}."
        raise Invalid(error.message, code=error.code.replace(".", "_"), field=field, next_step=step)
    for finding in Checker(type.manifest.parameters).findings(parameters):
        field = ".".join(map(str, ("parameters", *finding.path)))
        raise Invalid(finding.message, code=finding.code.replace(".", "_"), field=field, next_step=finding.next_step)


def _items(given: Any, field: str) -> Sequence[Item]:
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise Invalid("Items are a list of objects.", field=field)
    if len(given) > ITEMS_LIMIT:
        raise Invalid(f"At most {ITEMS_LIMIT} items.", field=field, next_step="Send fewer sample items.")
    try:
        size = len(orjson.dumps(given))
    except (TypeError, ValueError):
        raise Invalid("The items are no JSON, or nest too deeply.", field=field) from None
    if size > BYTES_LIMIT:
        raise Invalid(f"At most {BYTES_LIMIT} bytes of items.", field=field, next_step="Send smaller sample items.")
    return [Item(item) for item in given]
