"""Every worked example of the README gives what it says."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import subgraphs.engine.expression as expression

README = (Path(expression.__file__).parent / "README.md").read_text()
SCOPE: dict[str, Any] = json.loads(README.split("```json\n")[1].split("```")[0])
EXAMPLES = [
    (match[1].rstrip(), match[2])
    for match in re.finditer(r"^(.*\S) +-> (.*)$", README.split("```text\n")[1].split("```")[0], re.M)
]


def scope() -> dict[str, Any]:
    return SCOPE | {"now": datetime.fromisoformat(SCOPE["now"])}


def test_there_are_enough() -> None:
    assert len(EXAMPLES) >= 25


@pytest.mark.shows("X05")
@pytest.mark.parametrize(("template", "expected"), EXAMPLES)
def test_example(template: str, expected: str) -> None:
    wanted = SCOPE["item"] if expected == "$item" else json.loads(expected)
    assert expression.check({"p": template}) == []
    got = expression.compiled({"p": template}).evaluate(scope())["p"]
    assert got == wanted
    assert type(got) is type(wanted)
