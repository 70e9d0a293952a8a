"""Live runs for those who watch: first what happened, then what happens, each event once and in order.

One channel a run and process holds what was told, whoever asks: watchers are positions in that list, so a slow one
costs nothing, and an event is folded once for all. Who is farther back than the channel reaches reads the journal.
A channel is filled from the journal and fed by the owner's commits if the run is owned here, else by looking at the
journal whenever the run's version moved.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from subgraphs.engine.run import Event, Run, Started
from subgraphs.execution.history import Happening, History
from subgraphs.execution.runner.loading import Loading
from subgraphs.platform.domain import Invalid, Missing

log = structlog.get_logger("linkflow.execution")

LOOK = 0.25  # seconds between looks at runs that others own
WINDOW = 10_000  # happenings a channel keeps
UNBEGUN = (0.0, 0.1, 0.3, 0.6, 1.0)  # a start that was just accepted may not have begun


@dataclass(slots=True, eq=False)
class Channel:
    """What was told of one run. `base` is the number of the last happening that is no longer kept."""

    tenant: UUID
    run: UUID
    watchers: int = 0
    base: int = 0
    told: list[Happening] = field(default_factory=list)
    history: History | None = None
    more: asyncio.Event = field(default_factory=asyncio.Event)
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    missed: bool = False
    closed: bool = False

    @property
    def version(self) -> int:
        return self.base + len(self.told)

    @property
    def over(self) -> bool:
        return self.history is not None and self.history.run.final

    def append(self, history: History, events: Sequence[Event]) -> None:
        """Tells events that directly follow what was told."""
        self.told += history.tell(events)
        if len(self.told) > WINDOW:
            surplus = len(self.told) - WINDOW // 2
            del self.told[:surplus]
            self.base += surplus
        self.wake()

    def wake(self) -> None:
        woken, self.more = self.more, asyncio.Event()
        woken.set()


class Watching:
    """The channels of this process."""

    def __init__(self, loading: Callable[[], Loading], owned: Callable[[UUID], bool]) -> None:
        self.loading, self._owned = loading, owned
        self.channels: dict[tuple[UUID, UUID], Channel] = {}
        self._task: asyncio.Task[None] | None = None
        self._due = asyncio.Event()

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def stop(self) -> None:
        """Ends every stream without a last event, which tells watchers to come back."""
        for channel in self.channels.values():
            channel.closed = True
            channel.wake()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def told(self, run: Run, version: int, events: Sequence[Event]) -> None:
        """The owner committed these events; the last of them is number `version`."""
        channel = self.channels.get((run.tenant, run.id))
        if channel is None or not events:
            return
        follows = channel.version == version - len(events)
        if channel.history is not None and follows and not channel.reading.locked():
            channel.append(channel.history, events)
        else:
            channel.missed = True
            self._due.set()

    def ended(self, tenant: UUID, run: UUID) -> None:
        """A run ended somewhere."""
        if (channel := self.channels.get((tenant, run))) is not None and not channel.over:
            channel.missed = True
            self._due.set()

    async def watch(self, tenant: UUID, run: UUID, after: int) -> AsyncIterator[Happening]:
        """Every happening with a number above `after`; ends after the last one. Raises Missing or Invalid at once."""
        channel = self.channels.setdefault((tenant, run), Channel(tenant, run))
        channel.watchers += 1
        try:
            await self._filled(channel)
            if not 0 <= after <= channel.version:
                raise Invalid(
                    f"The run has had {channel.version} events.",
                    code="seq_unknown",
                    field="afterSeq",
                    next_step="Send the seq of the last event you saw, or 0 for all of them.",
                )
            while not channel.closed:
                more = channel.more
                kept = channel.told[after - channel.base :] if after >= channel.base else await self._past(channel)
                for happening in kept[max(0, after - kept[0].seq + 1) if kept else 0 :]:
                    after = happening.seq
                    yield happening
                if channel.over and after >= channel.version:
                    return
                if after >= channel.version:
                    await more.wait()
        finally:
            channel.watchers -= 1
            if not channel.watchers:
                self.channels.pop((tenant, run), None)

    async def _filled(self, channel: Channel) -> None:
        for pause in UNBEGUN:
            await asyncio.sleep(pause)
            if channel.history is None:
                await self._read(channel)
            if channel.history is not None:
                return
        raise Missing("There is no such run.", field="executionId")

    async def _past(self, channel: Channel) -> list[Happening]:
        """Everything the journal holds, for one who is farther back than the channel reaches."""
        loading = self.loading()
        events = (await loading.journal([(channel.tenant, channel.run)]))[channel.run]
        assert channel.history is not None  # noqa: S101 - who watches has a filled channel
        plan = channel.history.run.plan
        return History(Run.blank(channel.run, channel.tenant, plan)).tell(events)

    async def _read(self, channel: Channel) -> None:
        """Brings the channel up to what the journal holds."""
        async with channel.reading:
            channel.missed = False
            loading = self.loading()
            version = channel.version
            events = (await loading.journal([(channel.tenant, channel.run)], [version]))[channel.run]
            if not events:
                return
            if channel.history is None:
                first = events[0]
                assert isinstance(first, Started)  # noqa: S101 - the first event of every run
                plan = await loading.plans.of(channel.tenant, first)
                channel.history = History(Run.blank(channel.run, channel.tenant, plan))
            channel.append(channel.history, events)

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK):  # wait_for of Python 3.11 loses a cancellation
                    await self._due.wait()
            self._due.clear()
            try:
                await self._look()
            except Exception:  # a tick's boundary: the next look finds the same
                log.exception("watching_failed")
                await asyncio.sleep(LOOK)

    async def _look(self) -> None:
        filled = [channel for channel in self.channels.values() if channel.history is not None and not channel.over]
        foreign = [channel for channel in filled if not channel.missed and not self._owned(channel.run)]
        if foreign:
            rows = await self.loading().store.versions([(channel.tenant, channel.run) for channel in foreign])
            versions = {row["id"]: row["version"] for row in rows}
            for channel in foreign:
                channel.missed |= versions.get(channel.run, 0) > channel.version
        for channel in filled:
            if channel.missed:
                await self._read(channel)
