"""`core.code`: runs JavaScript in the sandbox, over all items at once or once per item."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import msgspec
import orjson

from subgraphs.engine.step import Item, StepError
from subgraphs.executor.domain import MAIN, Example, Manifest, NodeType, Out, StepFailed, fail, parameters
from subgraphs.executor.sandbox import Answer, Job, Made
from subgraphs.executor.step import Step, text_of
from subgraphs.executor.units import iso_duration

LONGEST: Final = timedelta(seconds=60)
SHORTEST: Final = timedelta(milliseconds=10)
ANY_NODE: Final = re.compile(r"\bnodes\b(?!\s*\.\s*[A-Za-z_])")
"""`nodes` used other than as `nodes.ID`: then the code may mean any of them."""


async def body(step: Step) -> AsyncIterator[Out]:
    values = step.parameters()
    code = text_of(step.request.parameters.get("code", ""), "code")
    inputs = step.main.all()
    if step.tools.sandbox is None:
        message = "No sandbox is configured for code; `linkflow doctor` tells an operator what is missing."
        raise fail("sandbox.missing", message, kind="infrastructure", retryable=True)
    answer: Answer = await step.tools.sandbox.run(_job(step, code, values, inputs))
    step.lines.extend(answer.lines)
    step.lines_dropped += answer.dropped
    if answer.error is not None:
        for out in _failed(step, answer.error, len(inputs)):
            yield out
        return
    for made in answer.items:
        yield MAIN, _item(step, made, inputs)


def _job(step: Step, code: str, values: Mapping[str, Any], inputs: Sequence[Item]) -> Job:
    request = step.request
    wall = min(_span(values).total_seconds(), max(0.01, request.timeout - 0.25))
    scope = {
        "trigger": step.scope["trigger"],
        "execution": request.scope.get("execution"),
        "vars": step.scope["vars"],
        "nodes": _nodes(step, code, inputs),
    }
    items = [item.json for item in inputs]
    return Job(code=code, mode=values["mode"], items=items, scope=scope, now=request.now, seed=request.seed, wall=wall)


def _span(values: Mapping[str, Any]) -> timedelta:
    try:
        span = iso_duration(text_of(values["timeout"], "timeout"))
    except ValueError:
        raise fail("code.timeout", "A time limit is written PT10S, PT0.5S or PT1M.", field="timeout") from None
    if not SHORTEST <= span <= LONGEST:
        raise fail("code.timeout", "A time limit is between 0.01 and 60 seconds.", field="timeout")
    return span


def _nodes(step: Step, code: str, inputs: Sequence[Item]) -> dict[str, Any]:
    """The nodes the code speaks of, each with the position, per input item, of the item that it descends from."""
    if "nodes" not in code:
        return {}
    all_of_them = ANY_NODE.search(code) is not None
    named = [node for node in step.scope.nodes if all_of_them or node in code]
    return {node: {"items": step.scope.node_items(node), "match": _matches(step, node, inputs)} for node in named}


def _matches(step: Step, node: str, inputs: Sequence[Item]) -> list[int]:
    jsons = step.scope.node_items(node)
    if not jsons:
        return []
    places: dict[int, int] = {}
    for index, json in enumerate(jsons):
        places.setdefault(id(json), index)
    return [places.get(id(step.scope.at(item).node_item(node)), 0) for item in inputs]


def _item(step: Step, made: Made, inputs: Sequence[Item]) -> Item:
    """The output item; the input item itself where the code passed it on unchanged."""
    if made.origin is None:
        return step.made(made.json)
    origin = inputs[made.origin]
    if made.json == origin.json and _canonical(made.json) == _canonical(origin.json):
        return origin
    return step.made(made.json, made.origin, files=origin.files)


def _canonical(json: Mapping[str, Any]) -> bytes:
    """Tells true from 1, which are equal to Python."""
    return orjson.dumps(json, option=orjson.OPT_SORT_KEYS)


def _failed(step: Step, error: StepError, count: int) -> list[Out]:
    """Our own faults end the step, to be tried again; the code's faults go where the node's settings say."""
    if error.kind == "infrastructure":
        raise StepFailed(error)
    told = msgspec.structs.replace(error, field="code")
    if step.request.on_error == "stop" or count == 0:
        raise StepFailed(told)
    return [step.rescue(index, told) for index in range(count)]


NODE = NodeType(
    Manifest(
        type="core.code",
        title="Code",
        summary="Runs JavaScript in a sandbox without files, network or processes; returns plain objects as items.",
        category="code",
        parameters=parameters(
            {
                "language": {
                    "type": "string",
                    "enum": ["javascript"],
                    "default": "javascript",
                    "title": "Language",
                    "description": "JavaScript as QuickJS speaks it (ES2023).",
                },
                "mode": {
                    "type": "string",
                    "enum": ["all", "each"],
                    "default": "all",
                    "title": "Run",
                    "description": "all: once, with all items at hand. each: once per item, with item at hand.",
                },
                "code": {
                    "type": "string",
                    "maxLength": 262144,
                    "title": "Code",
                    "description": "Body of an async function. Sees items, item, trigger, nodes, execution, vars, now "
                    "and console. Returns an object, a list of objects, or nothing. Clock and random numbers are "
                    "those of the step, the same again when it is repeated.",
                    "x-editor": "code",
                    "x-raw": True,
                },
                "timeout": {
                    "type": "string",
                    "default": "PT10S",
                    "title": "Time limit",
                    "description": "ISO 8601, at most PT60S; the code is killed then.",
                },
            },
            required=("code",),
        ),
        effect="repeatable",  # not pure: a run outlives no crash, and nothing after it may leave before it is committed
        timeout="PT1M1S",
        limits={"heapBytes": 67108864, "resultBytes": 5242880, "logBytes": 65536, "logLines": 1000, "depth": 200},
        errors={
            "code.syntax": "The code is no JavaScript; line and column say where.",
            "code.error": "The code threw; line, column and stack are those of the code.",
            "code.result": "What the code returned is no item.",
            "code.unhandled_rejection": "A promise was rejected and nobody handled it.",
            "code.exited": "The code ended its own instance.",
            "code.timeout": "The time limit cannot be read or is out of range.",
            "timeout.wall": "The code ran longer than its time limit.",
            "limit.memory": "The code used more memory than it has.",
            "limit.stack": "The code called itself too deeply.",
            "limit.trap": "The code exhausted its stack or memory.",
            "limit.output": "The code wrote too much.",
            "limit.result": "The result is too large.",
            "limit.depth": "The result nests too deeply.",
            "limit.job": "The input is too large.",
            "limit.job_depth": "The input nests too deeply.",
            "sandbox.unreachable": "The sandbox does not answer.",
        },
        examples=(
            Example(
                "All items at once",
                {"code": "return { total: items.reduce((sum, item) => sum + item.n, 0) }"},
                [{"n": 1}, {"n": 2}],
                {"main": [{"total": 3}]},
            ),
            Example(
                "Once per item",
                {"mode": "each", "code": "return { ...item, twice: item.n * 2 }"},
                [{"n": 1}, {"n": 2}],
                {"main": [{"n": 1, "twice": 2}, {"n": 2, "twice": 4}]},
            ),
            Example("An error", {"code": "nothing.here()"}, [{}], error="code.error"),
        ),
    ),
    body,
)
