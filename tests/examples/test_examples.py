"""Every example is a valid definition of node types that are there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from subgraphs.engine.validation import validate
from subgraphs.executor.nodes import catalogue

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.json"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_can_be_published(path: Path) -> None:
    known = {f"{type}@{version}": node.manifest.json() for (type, version), node in catalogue().items()}
    assert [fault for fault in validate(json.loads(path.read_text()), known) if fault.severity == "error"] == []


def test_the_readme_names_every_example() -> None:
    told = EXAMPLES[0].with_name("README.md").read_text()
    assert [path.name for path in EXAMPLES if f"`{path.name}`" not in told] == []
