"""Published events. (Interface.)"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from subgraphs.platform.database import Transaction
from subgraphs.platform.domain import Event
from subgraphs.platform.leases import Lease
from subgraphs.platform.writer import Unit

Handle = Callable[[Event, Transaction], Awaitable[None]]


class Preparer(Protocol):
    """Turns an event into the first unit of a stream whose id is the event's id."""

    name: str
    types: frozenset[str]
    head_table: str

    async def prepare(self, event: Event, lease: Lease) -> Unit | None: ...

    def settled(self, event: Event, unit: Unit, committed: bool) -> None: ...


class Bus:
    def consume(self, name: str, types: Iterable[str], handle: Handle) -> None: ...

    def prepare(self, preparer: Preparer) -> None: ...

    def listen(self, types: Iterable[str], callback: Callable[[Event], None]) -> None: ...

    def on_wake(self, topic: str, callback: Callable[[int], None]) -> None: ...

    async def publish(self, *events: Event) -> None: ...
