"""Runs steps: finds the node type, makes the step, drives its body, turns whatever happens into an outcome."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from subgraphs.engine.expression import ExpressionError, Template, compiled
from subgraphs.engine.parameters import defaults, shown
from subgraphs.engine.step import Item, StepError, StepOutcome, StepRequest
from subgraphs.executor.domain import ERROR, OUTPUT_LIMIT, NodeType, StepFailed
from subgraphs.executor.nodes import catalogue, digest
from subgraphs.executor.step import Step, expression_failed

KEPT_TEMPLATES = 4096
log = logging.getLogger("linkflow.executor")


@dataclass(frozen=True, slots=True)
class Tools:
    """What bodies reach the world with: `egress` for outgoing calls, `sandbox` for strangers' code."""

    egress: Any = None
    sandbox: Any = None


@lru_cache(maxsize=256)
def _defaults(type: NodeType) -> Mapping[str, Any]:
    return defaults(type.manifest.parameters)


@lru_cache(maxsize=256)
def _raw(type: NodeType) -> tuple[str, ...]:
    """Parameters whose text is never an expression (`x-raw`): bodies read them from the request."""
    properties = type.manifest.parameters.get("properties", {})
    return tuple(name for name, schema in properties.items() if schema.get("x-raw"))


def _filled(type: NodeType, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that count, with defaults: hidden ones (`x-show`) are as if they had not been written."""
    properties, given = type.manifest.parameters.get("properties", {}), _defaults(type)
    values = {**given, **parameters}
    for name in parameters:
        if shown(name, properties, values) is False:
            del values[name]
            if name in given:
                values[name] = given[name]
    for name in _raw(type):
        values.pop(name, None)
    return values


def _choices(type: NodeType, filled: Mapping[str, Any]) -> dict[str, Any]:
    """The allowed values of parameters whose value is known only in the run, or that nobody has checked."""
    properties = type.manifest.parameters.get("properties", {})
    choices = {name: schema["enum"] for name, schema in properties.items() if "enum" in schema and name in filled}
    return {name: allowed for name, allowed in choices.items() if filled[name] not in allowed}


@dataclass(frozen=True, slots=True)
class _Kept:
    """Parameters as they are run."""

    parameters: Mapping[str, Any]
    type: NodeType
    template: Template
    choices: Mapping[str, Any]


class Runner:
    """Implements `subgraphs.engine.step.Executor` in process. `types` are the node types it can run, `digest` their
    fingerprint. `busy` counts the steps that wait for something at this moment, `done` and `failed` all since the
    start."""

    remote = False

    def __init__(
        self,
        tools: Tools | None = None,
        types: Mapping[tuple[str, str], NodeType] | None = None,
        *,
        workers: int = 64,
    ) -> None:
        self._tools = tools or Tools()
        self.types = dict(types) if types is not None else dict(catalogue())
        self._templates: OrderedDict[int, _Kept] = OrderedDict()
        self._slots = asyncio.Semaphore(workers)
        self.digest = digest(self.types)
        self.busy = self.done = self.failed = 0

    def effect(self, type: str, version: str) -> str:
        """The effect class; an unknown type is `pure`, since it fails without having done anything."""
        known = self.types.get((type, version))
        return known.manifest.effect if known else "pure"

    def run_pure(self, request: StepRequest) -> StepOutcome:
        """Runs a pure body to its end, without a task, a loop or a thread."""
        return self._counted(self._attempt_pure(request))

    def _attempt_pure(self, request: StepRequest) -> StepOutcome:
        step: Step | None = None
        try:
            type = self._type(request)
            if not type.pure:
                message = f"{request.type} waits for others, so it does not run as a pure step."
                return _failed(StepError(code="executor.not_pure", message=message, kind="infrastructure"))
            step = self._step(type, request)
            collected = _Collected(type, request)
            for port, item in type.body(step):
                collected.add(port, item)
            return collected.outcome(step)
        except StepFailed as failed:
            return _failed(failed.error, step)
        except Exception:  # noqa: BLE001 - the boundary to node bodies; logged
            return _broken(request)

    async def run(self, request: StepRequest) -> StepOutcome:
        """Runs any body within the request's timeout. Cancelling the task cancels the body."""
        type = self.types.get((request.type, request.version))
        if type is None or type.pure:
            return self.run_pure(request)
        async with self._slots:
            self.busy += 1
            try:
                return self._counted(await self._attempt(type, request))
            finally:
                self.busy -= 1

    async def _attempt(self, type: NodeType, request: StepRequest) -> StepOutcome:
        step: Step | None = None
        started = time.monotonic()
        try:
            async with asyncio.timeout(request.timeout):
                step = self._step(type, request)
                collected = _Collected(type, request)
                async with aclosing(type.body(step)) as outs:
                    async for port, item in outs:
                        collected.add(port, item)
                return collected.outcome(step)
        except StepFailed as failed:
            return _failed(failed.error, step)
        except TimeoutError:
            if time.monotonic() - started < request.timeout:
                return _broken(request)
            message = f"The step took longer than {request.timeout:g} s."
            return _failed(StepError(code="step.timeout", message=message, kind="timeout", retryable=True), step)
        except Exception:  # noqa: BLE001 - the boundary to node bodies; logged
            return _broken(request)

    async def probe(self, request: StepRequest) -> bool | None:
        """Whether the step that this request once began has happened; None: it cannot be known."""
        type = self.types.get((request.type, request.version))
        if type is None or type.probe is None:
            return None
        async with self._slots:
            try:
                async with asyncio.timeout(request.timeout):
                    return await type.probe(self._step(type, request))
            except (StepFailed, TimeoutError) as failed:
                log.warning("probe failed", extra={"node": request.node, "type": request.type, "reason": str(failed)})
            except Exception:  # noqa: BLE001 - the boundary to node bodies; logged
                _broken(request)
        return None

    def _type(self, request: StepRequest) -> NodeType:
        type = self.types.get((request.type, request.version))
        if type is None:
            message = f"There is no node type {request.type} {request.version} here."
            raise StepFailed(StepError(code="executor.unknown_type", message=message, kind="infrastructure"))
        return type

    def _step(self, type: NodeType, request: StepRequest) -> Step:
        try:
            kept = self._kept(type, request.parameters)
        except ExpressionError as error:
            raise StepFailed(expression_failed(error)) from None
        return Step(request, kept.template, self._tools, kept.choices)

    def _kept(self, type: NodeType, parameters: Mapping[str, Any]) -> _Kept:
        """The compiled parameters with defaults filled in; kept by the identity of the definition's own object."""
        known = self._templates.get(id(parameters))
        if known is not None and known.parameters is parameters and known.type is type:
            return known
        filled = _filled(type, parameters)
        kept = _Kept(parameters, type, compiled(filled), _choices(type, filled))
        self._templates[id(parameters)] = kept
        if len(self._templates) > KEPT_TEMPLATES:
            self._templates.popitem(last=False)
        return kept

    def _counted(self, outcome: StepOutcome) -> StepOutcome:
        self.done += 1
        self.failed += outcome.error is not None
        return outcome


class _Collected:
    """The items a body puts out, by port; refuses ports it does not have and floods."""

    def __init__(self, type: NodeType, request: StepRequest) -> None:
        self._outputs: dict[str, list[Item]] = {port: [] for port in type.manifest.outputs}
        self._open = type.manifest.dynamic_outputs is not None
        if request.on_error == "output":
            self._outputs[ERROR] = []
        self._count = 0

    def add(self, port: str, item: Item) -> None:
        self._count += 1
        if self._count > OUTPUT_LIMIT:
            message = f"A step puts out at most {OUTPUT_LIMIT} items."
            raise StepFailed(StepError(code="step.too_many_items", message=message, kind="limit"))
        found = self._outputs.get(port)
        if found is None:
            if not self._open:
                raise LookupError(f"the node type has no output port {port}")
            found = self._outputs[port] = []
        found.append(item)

    def outcome(self, step: Step) -> StepOutcome:
        outputs = {port: items for port, items in self._outputs.items() if items}
        return StepOutcome(
            outputs={} if step.wait else outputs,
            wait=step.wait,
            reply=step.reply,
            lines=step.lines,
            lines_dropped=step.lines_dropped,
            keys=step.keys,
        )


def _failed(error: StepError, step: Step | None = None) -> StepOutcome:
    if step is None:
        return StepOutcome(error=error)
    return StepOutcome(error=error, lines=step.lines, lines_dropped=step.lines_dropped)


def _broken(request: StepRequest) -> StepOutcome:
    """A fault of ours inside a body: logged whole, told in general."""
    log.exception("node body broke", extra={"node": request.node, "type": request.type})
    message = "The node has a fault of ours; the logs name it."
    return _failed(StepError(code="executor.fault", message=message, kind="infrastructure"))
