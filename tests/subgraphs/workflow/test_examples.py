"""What is shipped is sound: example workflows by the built-in node types, and these by the checker of parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from subgraphs.engine.parameters import Checker
from subgraphs.engine.validation import validate
from subgraphs.executor.nodes import catalogue

EXAMPLES = sorted((Path(__file__).resolve().parents[3] / "examples").glob("*.json"))
MANIFESTS: dict[str, Any] = {
    f"{kind}@{version}": orjson.loads(orjson.dumps(node.manifest.json()))
    for (kind, version), node in catalogue().items()
}


@pytest.mark.shows("WF-12")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_workflow_has_no_fault(path: Path) -> None:
    assert validate(path.read_bytes(), MANIFESTS) == []


@pytest.mark.parametrize("key", sorted(MANIFESTS))
def test_the_examples_of_a_node_type_fit_its_parameters(key: str) -> None:
    checker = Checker(MANIFESTS[key]["parameters"])
    faults = {each["title"]: checker.findings(each["parameters"]) for each in MANIFESTS[key]["examples"]}
    assert not {title: found for title, found in faults.items() if found}
