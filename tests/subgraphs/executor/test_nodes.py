"""Every node type: its manifest is sound and its examples do what they say."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from graphql import OperationDefinitionNode, build_schema, parse, print_ast, validate
from jsonschema import Draft202012Validator

from subgraphs.engine.parameters import Checker
from subgraphs.engine.step import Item, StepRequest, Wait
from subgraphs.executor.domain import Example, NodeType
from subgraphs.executor.nodes import catalogue
from subgraphs.executor.runner import Runner
from tests.subgraphs.executor.steps import request

SUPERGRAPH = Path(__file__).parents[3] / "supergraph" / "supergraph.graphql"
TYPES = list(catalogue().values())
ALONE = [
    (node, example)
    for node in TYPES
    if node.manifest.type not in ("core.http", "core.code")
    for example in node.manifest.examples
]
NAMES = [f"{node.manifest.type} {node.manifest.version}: {example.title}" for node, example in ALONE]


def asked(node: NodeType, example: Example) -> StepRequest:
    """The example as a step."""
    one = request(node.manifest.type, example.parameters, *example.input, version=node.manifest.version)
    others = {port: [Item(dict(json)) for json in jsons] for port, jsons in example.inputs.items()}
    return msgspec.structs.replace(one, inputs={**one.inputs, **others})


EXPECTED = (
    "manual webhook error respond http set if switch filter split merge wait stop code noop "
    "loop call approval signal event form callback key"
).split()


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


@pytest.mark.shows("NO-07", "WF-19", "WF-22", "EX-21", "EX-26")
@pytest.mark.parametrize(("node", "example"), ALONE, ids=NAMES)
async def test_example(node: NodeType, example: Example) -> None:
    outcome = await Runner().run(asked(node, example))
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
    if example.waits:
        assert outcome.wait == Wait(None, **example.waits)
        assert "timeout" in node.manifest.outputs
        return
    assert outcome.keys == example.keys
    assert {port: [item.json for item in items] for port, items in outcome.outputs.items()} == example.output
    for name, value in (example.reply or {}).items():
        assert getattr(outcome.reply, name) == value


@pytest.mark.shows("NO-02")
@pytest.mark.parametrize("node", TYPES, ids=lambda node: f"{node.manifest.type} {node.manifest.version}")
def test_what_a_form_offers_to_choose_from_can_be_asked_of_the_graph(node: NodeType) -> None:
    """The query is one of the published graph, and leads to lists whose entries have the fields it names."""
    graph = build_schema(SUPERGRAPH.read_text(), assume_valid=True)
    properties = node.manifest.parameters["properties"]
    for schema in properties.values():
        if (choices := schema.get("x-choices")) is None:
            continue
        document = parse(choices["query"])
        assert validate(graph, document) == []
        (operation,) = document.definitions
        assert isinstance(operation, OperationDefinitionNode)
        names = {each.variable.name.value for each in operation.variable_definitions or ()}
        assert names == {*choices.get("variables", {}), *([choices["search"]] if "search" in choices else [])}
        assert set(choices.get("variables", {}).values()) <= properties.keys()
        fields = print_ast(document).split()
        assert {*choices["items"].split("."), choices["value"], choices["label"]} <= {
            each.partition("(")[0] for each in fields
        }
