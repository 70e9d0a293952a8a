"""What a start brings, against the inputs a definition declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from subgraphs.engine.definition import Input
from subgraphs.engine.parameters import Checker, Finding


def accepted(inputs: Sequence[Input], value: Mapping[str, Any]) -> tuple[dict[str, Any], list[Finding]]:
    """The input with defaults filled in, and what does not fit. Where nothing is declared, everything fits; null
    stands for an input that was left out."""
    if not inputs:
        return dict(value), []
    given = {name: each for name, each in value.items() if each is not None}
    defaults = {each.name: each.default for each in inputs if each.default is not None}
    return {**defaults, **given}, misfits(inputs, given)


def misfits(inputs: Sequence[Input], given: Mapping[str, Any], *, expressions: bool = False) -> list[Finding]:
    """What of the values given does not fit, or is missing. With `expressions`, text with braces fits anywhere."""
    if not inputs:
        return []
    schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {each.name: {"type": each.type} for each in inputs},
        "required": [each.name for each in inputs if each.required and each.default is None],
    }
    return Checker(schema, expressions=expressions).findings(given)
