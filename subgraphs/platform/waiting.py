"""Waiting for an event that another part publishes because of what we just committed.

    waiting = Waiting(bus, {"auth.signup.completed.v1"}, key=lambda event: event.data["signUpId"])
    with waiting.expect(id) as answer:
        await commit()                      # registered before, so that nothing is missed
        event = await answer(2.0)           # or None, when nothing came within two seconds

What is heard is volatile: None means "not yet as far as this process knows", never "not".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager

from subgraphs.platform.bus import Bus
from subgraphs.platform.domain import Event


class Waiting:
    """Hands each event of some types to those who expect its key."""

    def __init__(self, bus: Bus, types: Iterable[str], key: Callable[[Event], Hashable]) -> None:
        self._key = key
        self._expected: dict[Hashable, set[asyncio.Future[Event]]] = {}
        bus.listen(types, self._heard)

    @contextmanager
    def expect(self, key: Hashable) -> Iterator[Callable[[float], Awaitable[Event | None]]]:
        """Yields a function that waits up to so many seconds for the event of this key."""
        future: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._expected.setdefault(key, set()).add(future)

        async def answer(seconds: float) -> Event | None:
            done, _ = await asyncio.wait({future}, timeout=seconds)
            return future.result() if done else None

        try:
            yield answer
        finally:
            waiting = self._expected[key]
            waiting.discard(future)
            if not waiting:
                del self._expected[key]
            future.cancel()

    def _heard(self, event: Event) -> None:
        for future in self._expected.get(self._key(event), ()):
            if not future.done():
                future.set_result(event)
