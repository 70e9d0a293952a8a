"""What running a node does to the world, where that depends on its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WORST = "unsafe"


def effect_of(known: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    """The effect class of a node: pure, read, repeatable, keyed or unsafe.

    `known` is what the manifest says of its type. The first rule of `effects` counts whose `when` ({parameter: values},
    null standing for one that was left out) holds for the parameters as written; an expression among them is none of
    the values. Without a rule that holds it is `effect`; of a type nobody knows, the worst is assumed.
    """
    for rule in known.get("effects") or ():
        if all(_among(parameters.get(name), values) for name, values in rule["when"].items()):
            return str(rule["effect"])
    return str(known.get("effect", WORST))


def _among(value: Any, values: Any) -> bool:
    return any(type(value) is type(each) and value == each for each in values)
