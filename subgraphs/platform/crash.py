"""Crash points: named places of the product where a process can be told to die, for the tests that kill it there.

`LINKFLOW_CRASH_AT=NAME:N` ends the process by SIGKILL when it passes the named place for the N-th time; with
`NAME:N:later` it counts from SIGUSR1 on, so that the way up is spared. It is refused unless `LINKFLOW_FAULTS` allows
faults. The places are listed here and wrapped when a process starts armed; one that does not pays nothing, for nothing
of this stands in the code it runs. A test checks that every place still exists.
"""

from __future__ import annotations

import functools
import inspect
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True)
class Place:
    """A function (`module:Class.name`), and whether it dies before that is called or after it returned.

    `of`: only calls whose last positional argument is of a type of this name count.
    """

    function: str
    after: bool = False
    of: str = ""

    def found(self) -> tuple[Any, str, Any]:
        """What the function stands in, its name there, and the function; raises AttributeError when it is gone."""
        module, _, path = self.function.partition(":")
        holder: Any = import_module(module)
        *outer, name = path.split(".")
        for part in outer:
            holder = getattr(holder, part)
        return holder, name, getattr(holder, name)


WRITER = "subgraphs.platform.writer:Writer"
RUNNER = "subgraphs.execution.runner.runner:Runner"
PLACES: Mapping[str, Place] = {
    "claimed": Place("subgraphs.platform.leases:Leases._gain", after=True),
    "lease_renewed": Place("subgraphs.platform.leases:Leases._look_round", after=True),
    "before_commit": Place(f"{WRITER}._send"),
    "after_commit": Place(f"{WRITER}._send", after=True),
    "prepared": Place("subgraphs.execution.runner.preparation:Preparation.prepare", after=True),
    "settled": Place(f"{RUNNER}.settle"),
    "body_begun": Place("subgraphs.execution.runner.bodies:outside"),
    "body_ended": Place("subgraphs.execution.runner.bodies:outside", after=True),
    "effect_sent": Place("subgraphs.platform.egress.client:Egress.request", after=True),
    "timer_due": Place(f"{RUNNER}.ask", of="Fire"),
    "letter_read": Place("subgraphs.execution.runner.sweep:Sweep._letter"),
    "object_stored": Place("subgraphs.platform.objects:Objects.put", after=True),
    "event_handled": Place("subgraphs.platform.delivery:Consumer.attempt", after=True),
    "before_cursor": Place("subgraphs.platform.cursors:advance"),
    "reply_sent": Place("subgraphs.webhook.replies:Answer.send", after=True),
    "read_back": Place(f"{RUNNER}._adopt", after=True),
    "before_drain": Place(f"{RUNNER}.drain"),
}


def parsed(text: str) -> tuple[str, int, bool]:
    """`NAME:N` or `NAME:N:later` as (name, n, later); raises ValueError."""
    name, _, rest = text.partition(":")
    number, _, word = rest.partition(":")
    if name not in PLACES or word not in {"", "later"}:
        raise ValueError(f"one of {', '.join(PLACES)}, a colon, a number, and perhaps `:later`")
    count = int(number or "1")
    if count < 1:
        raise ValueError("the number is at least 1")
    return name, count, word == "later"


def arm(text: str, die: Callable[[], None] | None = None) -> None:
    """Has the process die at the place `NAME:N`. Wraps the function for good: for a process of its own."""
    name, count, later = parsed(text)
    place = PLACES[name]
    holder, attribute, function = place.found()

    def wrap(*_: object) -> None:
        setattr(holder, attribute, _wrapped(function, place, count, die or _killed))

    if later:
        signal.signal(signal.SIGUSR1, wrap)
    else:
        wrap()


def _killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _wrapped(function: Any, place: Place, count: int, die: Callable[[], None]) -> Any:
    left = count

    def passed(words: tuple[Any, ...]) -> None:
        nonlocal left
        if place.of and (not words or type(words[-1]).__name__ != place.of):
            return
        left -= 1
        if left == 0:
            die()

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def later(*words: Any, **named: Any) -> Any:
            if not place.after:
                passed(words)
            result = await function(*words, **named)
            if place.after:
                passed(words)
            return result

        return later

    @functools.wraps(function)
    def at_once(*words: Any, **named: Any) -> Any:
        if not place.after:
            passed(words)
        result = function(*words, **named)
        if place.after:
            passed(words)
        return result

    return at_once
