"""Syntax faults say where and what, in words that need no knowledge of grammars."""

from __future__ import annotations

import pytest

from subgraphs.engine.expression import check


@pytest.mark.parametrize(
    ("source", "position", "message"),
    [
        ("1 +", 7, "The expression ends too early: a value is expected."),
        ("{'a':}", 8, "'}' is out of place: a value is expected."),
        ("x ? 1", 9, "The expression ends too early: ':' is expected."),
        ("(1", 6, "')' is missing at the end."),
        ("item id", 8, "'id' is not expected here."),
        ("item..x", 8, "The expression cannot go on like this after '..'."),
        ("1 ~ 2", 5, "This has no meaning here: ~"),
    ],
)
def test_the_first_fault_is_said_plainly(source: str, position: int, message: str) -> None:
    fault = check({"value": f"{{{{ {source} }}}}"})[0]
    assert (fault.code, fault.message) == ("expression.syntax", message)
    assert fault.position == position
