"""Crash points: places of the product where a process can be told to die, for the tests that kill it there.

`LINKFLOW_CRASH_AT` names a function, whether to die before it is called or after it returned, and at which passing:
`after subgraphs.platform.writer:Writer._send 2`. More words: `of=Fire` counts only calls whose last argument is of a
type of this name; `later` counts from SIGUSR1 on, so that the way up is spared. It is refused unless `LINKFLOW_FAULTS`
allows faults. The function is wrapped when a process starts armed; one that does not pays nothing, for nothing of this
stands in the code it runs. Tests keep the list of places, and check that each is still there.
"""

from __future__ import annotations

import functools
import inspect
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True)
class Place:
    """A function (`module:Class.name`), and whether a process dies before that is called or after it returned.

    `of`: only calls whose last positional argument is of a type of this name count.
    """

    function: str
    after: bool = False
    of: str = ""

    def found(self) -> tuple[Any, str, Any]:
        """What the function stands in, its name there, and the function; raises ValueError when it is not there."""
        module, _, path = self.function.partition(":")
        *outer, name = path.split(".")
        try:
            holder: Any = import_module(module)
            for part in outer:
                holder = getattr(holder, part)
            return holder, name, getattr(holder, name)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"there is no {self.function}") from error

    def at(self, count: int, *, later: bool = False) -> str:
        """What to set LINKFLOW_CRASH_AT to."""
        words = ["after" if self.after else "before", self.function, str(count)]
        return " ".join([*words, *([f"of={self.of}"] if self.of else []), *(["later"] if later else [])])


def parsed(text: str) -> tuple[Place, int, bool]:
    """(place, passing, later); raises ValueError."""
    moment, function, number, *more = text.split(" ") if text.count(" ") > 1 else ("", "", "")
    if moment not in {"before", "after"} or ":" not in function or not number.isdigit() or int(number) < 1:
        raise ValueError("before or after, module:Class.function, and at which passing, from 1")
    if unknown := [word for word in more if word != "later" and not word.startswith("of=")]:
        raise ValueError(f"{unknown[0]} is neither of=TYPE nor later")
    of = next((word.removeprefix("of=") for word in more if word != "later"), "")
    return Place(function, moment == "after", of), int(number), "later" in more


def arm(text: str, die: Callable[[], None] | None = None) -> None:
    """Has the process die where `text` says. Wraps the function for good: for a process of its own."""
    place, count, later = parsed(text)
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
