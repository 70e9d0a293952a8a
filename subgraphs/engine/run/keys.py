"""The names of steps: a node's id at top level (`n5`), with the rounds it stands in inside loops (`n5@3`, `n5@3.0`).

The first number is the round of the outermost loop. A compensation is named after its place in the order of undoing:
`refund@0` is the first that runs. No node id holds an `@`.
"""

from __future__ import annotations

from collections.abc import Sequence


def split(key: str) -> tuple[str, tuple[int, ...]]:
    """The node's id and the rounds, outermost first."""
    node, _, rounds = key.partition("@")
    return node, tuple(int(each) for each in rounds.split(".")) if rounds else ()


def join(node: str, rounds: Sequence[int] = ()) -> str:
    """The key of a node's step in these rounds."""
    return f"{node}@{'.'.join(map(str, rounds))}" if rounds else node


def node_of(key: str) -> str:
    """The node's id alone."""
    return key.partition("@")[0]


def place(key: str) -> str:
    """What follows the node's id: `@3.0`, or nothing at top level. All steps of a round share it."""
    at = key.find("@")
    return key[at:] if at >= 0 else ""


def inside(key: str, number: int) -> str:
    """The name of a loop step's round: `each@3` of loop `each`, `inner@3.0` of loop step `inner@3`."""
    return f"{key}.{number}" if "@" in key else f"{key}@{number}"


def around(name: str) -> tuple[str, int]:
    """The loop step a round belongs to, and the round's number: `inside` undone."""
    cut = max(name.rfind("."), name.rfind("@"))
    return name[:cut], int(name[cut + 1 :])
