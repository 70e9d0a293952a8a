"""Waiting until those who run a release hold it, so that nobody meets a 404 right after publishing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from subgraphs.platform.domain import Event
from subgraphs.platform.facts import read
from subgraphs.workflow.events import HOLDERS, Held

PATIENCE = 2.0
"""Seconds a publish waits for its holders."""


class Watch:
    """What was heard of one workflow's releases since the watch began."""

    def __init__(self) -> None:
        self._held: set[tuple[int, str]] = set()
        self._news = asyncio.Event()

    def hear(self, release: int, holder: str) -> None:
        self._held.add((release, holder))
        self._news.set()

    def holders(self, release: int) -> frozenset[str]:
        return frozenset(holder for number, holder in self._held if number == release)

    async def all(self, release: int, patience: float = PATIENCE) -> frozenset[str]:
        """Who holds the release: everybody, or those who did when `patience` seconds were over."""
        try:
            async with asyncio.timeout(patience):
                while len(self.holders(release)) < len(HOLDERS):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass  # the caller is told who is missing
        return self.holders(release)


class Activations:
    """Tells watches what `*.release.held.v1` events say. `heard` is given to the bus as a listener."""

    def __init__(self) -> None:
        self._watches: dict[UUID, list[Watch]] = {}

    @contextmanager
    def watch(self, workflow: UUID) -> Iterator[Watch]:
        """Begin before publishing: an answer may come before the publisher goes on."""
        watch = Watch()
        self._watches.setdefault(workflow, []).append(watch)
        try:
            yield watch
        finally:
            self._watches[workflow].remove(watch)
            if not self._watches[workflow]:
                del self._watches[workflow]

    def heard(self, event: Event) -> None:
        held = read(event, Held)
        for watch in self._watches.get(held.workflow_id, ()):
            watch.hear(held.release, HOLDERS[event.type])
