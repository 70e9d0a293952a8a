"""How the owner of runs leaves: partition by partition, nothing begun, nothing cut off that could end in time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import structlog

from subgraphs.execution.runner.live import Live
from subgraphs.execution.runner.store import Clock, Partitions

log = structlog.get_logger("linkflow.execution")


class Owner(Protocol):
    """The owner of runs that leaves."""

    runs: dict[UUID, Live]
    leases: Partitions
    clock: Clock

    async def stop(self) -> None:
        """Forgets all runs and ends all tasks."""


@dataclass(slots=True)
class Draining:
    """Hands partitions back: at once those where no body runs, the others as their last body ends, all in the end.

    What bodies bring meanwhile is committed. Nothing begins: a step that is next is left ready for the next owner, who
    begins it, so that no attempt is repeated and no effect becomes ambiguous by a restart."""

    runner: Owner

    async def run(self, grace: float) -> None:
        """Takes at most `grace` seconds."""
        runner = self.runner
        deadline = runner.clock.ticks() + grace
        while held := set(runner.leases.owned):
            rest = deadline - runner.clock.ticks()
            busy = self._busy() if rest > 0 else {}
            await self._hand_back(held - busy.keys())
            if not busy:
                break
            await asyncio.wait(set(busy.values()), timeout=rest, return_when=asyncio.FIRST_COMPLETED)
        await runner.stop()

    def _busy(self) -> dict[int, asyncio.Task[None]]:
        """Partitions where a body runs or a commit is under way, each with a task to wait for."""
        found: dict[int, asyncio.Task[None]] = {}
        for live in self.runner.runs.values():
            for task in (live.pump, *(task for _, task in live.bodies.values())):
                if task is not None and not task.done():
                    found[live.lease.partition] = task
        return found

    async def _hand_back(self, partitions: Collection[int]) -> None:
        if not partitions:
            return
        try:
            await self.runner.leases.hand_back(partitions)
        except Exception:  # a tick's boundary: whoever notices our end takes them
            log.exception("not_handed_back")
