"""`core.call`: runs another workflow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from subgraphs.executor.choices import RELEASES, WORKFLOWS
from subgraphs.executor.domain import MAIN, TIMEOUT, Example, Manifest, NodeType, Out, fail, parameters
from subgraphs.executor.step import Step, text_of, type_name

LATEST = "latest"


async def body(step: Step) -> AsyncIterator[Out]:
    values = step.parameters()
    workflow, given = _workflow(values["workflowId"]), values["input"]
    if not isinstance(given, dict):
        raise fail("parameter.invalid", f"input must be an object, not {type_name(given)}.", field="input")
    release = _release(values["release"])
    step.await_answer("child", workflow, workflow=workflow, release=release, mode=values["mode"], input=given)
    nothing: tuple[Out, ...] = ()
    for out in nothing:
        yield out


def _workflow(value: Any) -> str:
    try:
        return str(UUID(text_of(value, "workflowId")))
    except ValueError:
        raise fail("call.workflow", "workflowId is no id of a workflow.", field="workflowId") from None


def _release(value: Any) -> int | None:
    if value == LATEST:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise fail("call.release", "release is a number from 1 on, or latest.", field="release")


ORDERS = "0197c0de-0000-7000-8000-000000000001"

NODE = NodeType(
    Manifest(
        type="core.call",
        title="Call workflow",
        summary="Runs a release of another workflow once and goes on with what its last step put out, or at once. The "
        "called run is the same however often the step is repeated.",
        category="flow",
        effect="keyed",
        outputs=(MAIN, TIMEOUT),
        parameters=parameters(
            {
                "workflowId": {
                    "type": "string",
                    "minLength": 1,
                    "title": "Workflow",
                    "description": "Which one to run. It may not lead back to this one.",
                    "x-choices": WORKFLOWS,
                    "x-editor": "expression",
                },
                "release": {
                    "anyOf": [{"const": LATEST}, {"type": "integer", "minimum": 1}],
                    "default": LATEST,
                    "title": "Release",
                    "description": "A number pins that release; latest follows whatever is published.",
                    "x-choices": RELEASES,
                },
                "mode": {
                    "type": "string",
                    "enum": ["wait", "detach"],
                    "default": "wait",
                    "title": "Go on",
                    "description": "wait: when it has ended, with its items; its error is this step's. detach: at "
                    "once, with its id as executionId.",
                },
                "input": {
                    "type": "object",
                    "default": {},
                    "title": "Input",
                    "description": "For the inputs that the workflow declares. Expressions see item, the first, and "
                    "items, all of them.",
                    "x-editor": "json",
                },
            },
            required=("workflowId",),
        ),
        limits={"depth": 20},
        errors={
            "call.workflow": "No id of a workflow.",
            "call.release": "No number of a release.",
            "call.too_deep": "More than 20 workflows have called each other.",
        },
        examples=(
            Example(
                "The release that is current, with a value of the item",
                {"workflowId": ORDERS, "input": {"order": "{{ item.id }}"}},
                [{"id": 7}],
                waits={
                    "kind": "child",
                    "name": ORDERS,
                    "detail": {"workflow": ORDERS, "release": None, "mode": "wait", "input": {"order": 7}},
                },
            ),
            Example(
                "Release 3, without waiting for it",
                {"workflowId": ORDERS, "release": 3, "mode": "detach", "input": {"all": "{{ items }}"}},
                [{"n": 1}, {"n": 2}],
                waits={
                    "kind": "child",
                    "name": ORDERS,
                    "detail": {
                        "workflow": ORDERS,
                        "release": 3,
                        "mode": "detach",
                        "input": {"all": [{"n": 1}, {"n": 2}]},
                    },
                },
            ),
            Example("No id", {"workflowId": "{{ item.which }}"}, [{"which": "orders"}], error="call.workflow"),
        ),
    ),
    body,
)
