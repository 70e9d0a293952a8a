"""Every node type: its manifest is sound and its examples do what they say."""

from __future__ import annotations

import msgspec
import pytest
from jsonschema import Draft202012Validator

from subgraphs.engine.parameters import Checker
from subgraphs.engine.step import Item, StepRequest
from subgraphs.executor.domain import Example, NodeType
from subgraphs.executor.nodes import catalogue
from subgraphs.executor.runner import Runner
from tests.subgraphs.executor.steps import request

TYPES = list(catalogue().values())
PURE = [(node, example) for node in TYPES if node.pure for example in node.manifest.examples]
NAMES = [f"{node.manifest.type} {node.manifest.version}: {example.title}" for node, example in PURE]


def asked(node: NodeType, example: Example) -> StepRequest:
    """The example as a step."""
    one = request(node.manifest.type, example.parameters, *example.input, version=node.manifest.version)
    others = {port: [Item(dict(json)) for json in jsons] for port, jsons in example.inputs.items()}
    return msgspec.structs.replace(one, inputs={**one.inputs, **others})


EXPECTED = "manual webhook respond http set if switch filter split merge wait stop code noop".split()


@pytest.mark.shows("NO-01")
def test_the_catalogue_holds_the_built_in_types() -> None:
    assert {node.manifest.type for node in TYPES} >= {f"core.{name}" for name in EXPECTED}


@pytest.mark.shows("NO-02", "NO-11")
@pytest.mark.parametrize("node", TYPES, ids=lambda node: node.manifest.type)
def test_the_manifest_is_sound(node: NodeType) -> None:
    manifest = node.manifest.json()
    Draft202012Validator.check_schema(manifest["parameters"])
    Draft202012Validator.check_schema(manifest["outputSchema"])
    assert manifest["title"]
    assert manifest["summary"].endswith(".")
    assert manifest["effect"] in {"pure", "read", "repeatable", "keyed", "unsafe"}
    assert manifest["probes"] == (node.probe is not None)
    assert len(manifest["examples"]) >= 1
    for name, schema in manifest["parameters"]["properties"].items():
        assert schema.get("title"), name
        for other, values in schema.get("x-show", {}).items():
            allowed = manifest["parameters"]["properties"][other].get("enum")
            assert allowed is None or set(values) <= set(allowed)


@pytest.mark.shows("NO-07")
@pytest.mark.parametrize("node", TYPES, ids=lambda node: node.manifest.type)
def test_the_examples_fit_the_schema(node: NodeType) -> None:
    checker = Checker(node.manifest.parameters)
    for example in node.manifest.examples:
        assert checker.findings(example.parameters) == [], example.title


@pytest.mark.shows("NO-07", "WF-19", "EX-21")
@pytest.mark.parametrize(("node", "example"), PURE, ids=NAMES)
def test_example(node: NodeType, example: Example) -> None:
    outcome = Runner().run_pure(asked(node, example))
    if example.error:
        assert outcome.error is not None
        assert outcome.error.code == example.error
        return
    assert outcome.error is None
    if example.wait:
        assert outcome.wait is not None
        assert outcome.wait.until is not None
        assert outcome.wait.until.isoformat() == example.wait
        return
    assert {port: [item.json for item in items] for port, items in outcome.outputs.items()} == example.output
    for name, value in (example.reply or {}).items():
        assert getattr(outcome.reply, name) == value
