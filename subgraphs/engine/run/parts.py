"""The parts of a plan: nodes with how they retry and when they give up, connections, loops."""

from __future__ import annotations

import re
from typing import Any

import msgspec

_DURATION = re.compile(
    r"^P(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?$"
)
_UNITS = {"weeks": 604_800.0, "days": 86_400.0, "hours": 3_600.0, "minutes": 60.0, "seconds": 1.0}

DEFAULT_TIMEOUT = 30.0


class Unrunnable(ValueError):
    """The definition cannot be run as it stands; Workflow's validation would have said so before a release."""


def seconds(text: str) -> float:
    """An ISO 8601 duration of weeks to seconds (no months or years, whose length varies) in seconds."""
    match = _DURATION.match(text)
    if match is None or text in {"P", "PT"} or text.endswith("T"):
        raise Unrunnable(f"{text!r} is not a duration such as PT30S")
    return sum(float(value) * _UNITS[unit] for unit, value in match.groupdict().items() if value)


class Retry(msgspec.Struct, frozen=True):
    """How often and how far apart a failing step is tried. `attempts` counts the first; times in seconds."""

    attempts: int = 1
    exponential: bool = True
    delay: float = 1.0
    cap: float = 60.0
    jitter: bool = True
    never: tuple[str, ...] = ()


class Edge(msgspec.Struct, frozen=True):
    """One connection, in the order the definition lists them."""

    source: str
    output: str
    target: str
    input: str


class Rounds(msgspec.Struct, frozen=True):
    """How a loop goes through its items: `batch` items a round, `parallel` rounds at once. More than `tolerated` failed
    rounds, or than the `share` of all, fail it. `body`: the nodes of a round, those of loops inside it left out;
    `entering` and `returning`: the connections from output `each` and to input `next`."""

    batch: int
    parallel: int
    tolerated: int
    share: float | None
    collect: bool
    most: int
    body: tuple[str, ...] = ()
    entering: tuple[Edge, ...] = ()
    returning: tuple[Edge, ...] = ()

    def allowed(self, total: int) -> int:
        """How many of so many rounds may fail."""
        return self.tolerated if self.share is None else int(total * self.share)


class PlanNode(msgspec.Struct, frozen=True):
    """One node, ready to run. `timeout` bounds an attempt; `wait_timeout` bounds a wait, if the author set one;
    `total` bounds the node from its first attempt until it is settled. All in seconds.

    `effect` is what a body does to the world, `pure` that it does nothing; `parks`: an attempt cut off waits to be
    settled by somebody. `join`: all, any or first; `losers` are the nodes that lead to a `first` join only. `loop`: the
    loop whose body the node lies in. `incoming` and `outgoing` have no connections of loops' bodies with their loop."""

    id: str
    type: str
    version: str
    name: str
    parameters: dict[str, Any]
    pure: bool
    trigger: bool
    retry: Retry
    timeout: float
    wait_timeout: float | None
    total: float | None
    on_error: str
    incoming: tuple[Edge, ...]
    outgoing: tuple[Edge, ...]
    effect: str = "unsafe"
    parks: bool = False
    join: str = "all"
    losers: tuple[str, ...] = ()
    compensate: str | None = None
    loop: str | None = None
    rounds: Rounds | None = None
