"""An event loop whose clock is a number: nothing sleeps, time jumps to the next timer.

Callbacks that are ready at one instant run in an order drawn from the seed. Every callback belongs to the simulated
process in whose context it was made: what belongs to a dead process is dropped, what belongs to a stopped one is kept
until it goes on. So a process dies at an await, as by SIGKILL, and neither its `finally` nor its `except` runs.
"""

from __future__ import annotations

import asyncio
from asyncio import events
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from random import Random
from typing import Any, cast

RUNNING, STOPPED, DEAD = range(3)


class Owner:
    """Whose callbacks run, wait or are lost. A simulated process is one."""

    __slots__ = ("name", "parked", "state")

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = RUNNING
        self.parked: list[Tick] = []


OWNER: ContextVar[Owner | None] = ContextVar("owner", default=None)


class Tick:
    """One callback; what `call_soon` and `call_at` give back."""

    __slots__ = ("args", "at", "callback", "cancelled_", "context")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...], context: Context, at: float) -> None:
        self.callback, self.args, self.context, self.at = callback, args, context, at
        self.cancelled_ = False

    def cancel(self) -> None:
        self.cancelled_ = True

    def cancelled(self) -> bool:
        return self.cancelled_

    def when(self) -> float:
        return self.at


class Loop:
    """Runs to the end of a future, or of a virtual time. It has what asyncio's tasks, futures and timeouts ask of a
    loop, and no sockets, threads or signals."""

    def __init__(self, random: Random) -> None:
        self._random = random.random
        self._ready: list[Tick] = []
        self._timers: list[tuple[float, int, Tick]] = []
        self._made = 0
        self.now = 0.0
        self.ticks = 0
        self.over = False
        self.faults: list[str] = []

    def run(self, work: Coroutine[Any, Any, Any], until: float) -> Any:
        """The result of `work`; raises TimeoutError when the clock would pass `until`."""
        before = events._get_running_loop()
        events._set_running_loop(cast(asyncio.AbstractEventLoop, self))
        try:
            main = self.create_task(work)
            while not main.done():
                if not self._ready:
                    self._jump(until)
                self._turn()
            return main.result()
        finally:
            events._set_running_loop(before)

    def _jump(self, until: float) -> None:
        """To the next timer; everything due at that instant is ready."""
        timers = self._timers
        while timers and timers[0][2].cancelled_:
            heappop(timers)
        if not timers or timers[0][0] > until:
            raise TimeoutError(f"nothing ends by {until}")
        self.now = timers[0][0]
        while timers and timers[0][0] <= self.now:
            tick = heappop(timers)[2]
            if not tick.cancelled_:
                self._ready.append(tick)

    def _turn(self) -> None:
        ready = self._ready
        last = len(ready) - 1
        if last:
            at = int(self._random() * (last + 1))
            ready[at], ready[last] = ready[last], ready[at]
        tick = ready.pop()
        if tick.cancelled_:
            return
        owner = tick.context.get(OWNER)
        if owner is not None and owner.state != RUNNING:
            if owner.state == STOPPED:
                owner.parked.append(tick)
            return
        self.ticks += 1
        tick.context.run(tick.callback, *tick.args)

    def resume(self, owner: Owner) -> None:
        """What waited while the process was stopped is ready now."""
        owner.state = RUNNING
        parked, owner.parked = owner.parked, []
        self._ready += parked

    # What asyncio asks of a loop

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        tick = Tick(callback, args, copy_context() if context is None else context, self.now)
        if not self.over:
            self._ready.append(tick)
        return tick

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        tick = Tick(callback, args, copy_context() if context is None else context, when)
        self._made += 1
        heappush(self._timers, (when, self._made, tick))
        return tick

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=cast(asyncio.AbstractEventLoop, self))

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None, **_: Any
    ) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=cast(asyncio.AbstractEventLoop, self), name=name, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What is never awaited is no fault here: the dead leave tasks and futures behind."""

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self.over
