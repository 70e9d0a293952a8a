"""The tree is complete: what each subgraph must have, what lock files must not."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = ("__init__", "domain", "storage", "schema", "service")


def subgraphs() -> list[str]:
    return sorted(path.parent.name for path in (ROOT / "subgraphs").glob("*/service.py"))


@pytest.mark.parametrize("name", subgraphs())
def test_a_subgraph_is_whole(name: str) -> None:
    """Its files or packages, a docstring, a history, an SDL, an entry in rover.yaml, tests."""
    folder = ROOT / "subgraphs" / name
    for part in FILES:
        assert (folder / f"{part}.py").exists() or (folder / part).is_dir(), f"{name} has no {part}"
    assert (folder / "__init__.py").read_text().lstrip().startswith('"""'), "say what it owns, tells and listens to"
    assert list((ROOT / "migrations" / name).glob("0001_*.py"))
    assert (ROOT / "supergraph" / "subgraphs" / f"{name}.graphql").exists()
    assert name in yaml.safe_load((ROOT / "rover.yaml").read_text())["subgraphs"]
    assert (ROOT / "tests" / "subgraphs" / name).is_dir()


def test_nothing_stands_for_a_subgraph_that_is_not_there() -> None:
    known = set(subgraphs())
    assert {path.stem for path in (ROOT / "supergraph" / "subgraphs").glob("*.graphql")} <= known
    assert {path.name for path in (ROOT / "migrations").iterdir() if path.is_dir()} - {"__pycache__"} <= known | {"bus"}
    assert set(yaml.safe_load((ROOT / "rover.yaml").read_text())["subgraphs"]) <= known


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements*.txt")), ids=lambda path: path.name)
def test_python_locks_have_hashes_and_no_addresses(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    assert "--find-links" not in text
    assert "--index-url" not in text
    pins = re.split(r"\n(?=[a-z0-9])", re.sub(r"(?m)^\s*#.*\n", "", text).strip())
    assert not [pin.split()[0] for pin in pins if "==" not in pin or "--hash=sha256:" not in pin]


def test_the_npm_lock_has_hashes_and_no_addresses() -> None:
    text = (ROOT / "router" / "package-lock.json").read_text()
    assert "://" not in text, "npm writes funding links into it; .ci/lock takes them out"
    assert '"integrity"' in text


def test_the_package_cannot_be_published_by_mistake() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "Private :: Do Not Upload" in project["classifiers"]


def test_what_the_package_needs_is_what_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {line for line in (ROOT / "requirements.in").read_text().splitlines() if line and line[0] != "#"}
    assert set(project["dependencies"]) == wanted
