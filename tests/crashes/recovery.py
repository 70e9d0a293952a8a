"""How long runs stand still when their process is killed: from the kill to the next committed step of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from uuid import UUID

from tests.crashes.rig import Rig
from tests.crashes.supervisor import Worker

MINE = """
select r.id, r.version from execution.run r join bus.lease l on l.part = r.part join bus.worker w on w.id = l.owner
where r.status < 4 and split_part(w.name, ':', 2)::integer = any($1)
"""
STANDING = 30.0


class Recovery:
    """Kills and starts processes again, and measures."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.times: list[float] = []

    async def of(self, victims: Sequence[Worker]) -> None:
        """Kills these, starts as many others, and times the runs that were the victims'."""
        pids = [worker.pid for worker in victims]
        async with self.rig.connected() as connection:
            await asyncio.gather(*(self.rig.remove(worker) for worker in victims))
            killed = time.monotonic()
            waiting: dict[UUID, int] = {row["id"]: row["version"] for row in await connection.fetch(MINE, pids)}
            starting = [asyncio.create_task(self.rig.spawn()) for _ in victims]
            while waiting and time.monotonic() - killed < STANDING:
                rows = await connection.fetch("select id, version from execution.run where id = any($1)", list(waiting))
                for row in rows:
                    if row["version"] > waiting[row["id"]]:
                        self.times.append(time.monotonic() - killed)
                        del waiting[row["id"]]
                await asyncio.sleep(0.01)
            assert not waiting, f"stood still for {STANDING} s: {list(waiting)[:5]}"
            await asyncio.gather(*starting)

    def told(self) -> str:
        times = sorted(self.times)
        if not times:
            return "nobody waited"
        return (
            f"recovery of {len(times)} runs p50 {percentile(times, 50):.2f} s, p99 {percentile(times, 99):.2f} s, "
            f"max {times[-1]:.2f} s"
        )


def percentile(ordered: Sequence[float], percent: int) -> float:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]
