"""Who may run a body next on this worker: tenants share its places by weight, runs of a tenant go by priority. Pure.

A free place goes to the tenant that holds the fewest in proportion to its weight; among equals to the one that was
served least (stride scheduling: Waldspurger and Weihl, 1995), where a tenant that comes back after a while is owed
nothing for the time it was away. Places that are taken are never taken back, so the last few are kept for tenants that
hold fewer than these few: whoever floods a worker leaves the door open for others.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field

Go = Callable[[], None]
SPARE = 8
"""One of so many places is kept for tenants that hold few."""


@dataclass(slots=True)
class Share:
    """One tenant: how many places it holds, who of it waits, how much it was served in proportion to its weight."""

    weight: float = 1.0
    held: int = 0
    served: float = 0.0
    waiting: list[tuple[int, int, Entry]] = field(default_factory=list)
    """A heap by priority, then by arrival. Entries that gave up stay until they come up."""
    left: int = 0
    """Of those, how many still wait."""


@dataclass(slots=True, eq=False)
class Entry:
    """One body that wants a place. `go` is called once, when it has one."""

    tenant: Hashable
    go: Go | None


class Turns:
    """The places of one worker. A tenant that `weights` does not name counts as one."""

    def __init__(self, places: int, weights: Mapping[Hashable, float] | None = None) -> None:
        self.places = places
        self.weights = dict(weights or {})
        self.spare = places // SPARE
        self.free = places
        self.waiting = 0
        self._shares: dict[Hashable, Share] = {}
        self._served = 0.0
        self._arrivals = 0

    def enter(self, tenant: Hashable, priority: int, go: Go) -> Entry:
        """Asks for a place; `go` is called at once if there is one."""
        share = self._share(tenant)
        entry = Entry(tenant, go)
        if not self.waiting and self._may(share):
            self._serve(share, entry)
            return entry
        if not share.left and not share.held:
            share.served = max(share.served, self._served)
        self._arrivals += 1
        heapq.heappush(share.waiting, (-priority, self._arrivals, entry))
        share.left += 1
        self.waiting += 1
        self._fill()
        return entry

    def leave(self, entry: Entry) -> None:
        """Gives the place back, or gives up waiting for one."""
        share = self._share(entry.tenant)
        if entry.go is None:
            share.held -= 1
            self.free += 1
        else:
            entry.go = None
            share.left -= 1
            self.waiting -= 1
        if self.waiting:
            self._fill()
        if not share.held and not share.left:
            del self._shares[entry.tenant]

    def _share(self, tenant: Hashable) -> Share:
        found = self._shares.get(tenant)
        if found is None:
            found = self._shares[tenant] = Share(self.weights.get(tenant, 1.0), served=self._served)
        return found

    def _may(self, share: Share) -> bool:
        return self.free > self.spare or (self.free > 0 and share.held < self.spare)

    def _serve(self, share: Share, entry: Entry) -> None:
        go, entry.go = entry.go, None
        self.free -= 1
        share.held += 1
        self._served = max(self._served, share.served)
        share.served += 1 / share.weight
        assert go is not None  # noqa: S101 - who has a place does not ask again
        go()

    def _fill(self) -> None:
        """Gives free places to those who wait, as long as anybody may take one."""
        while self.free and self.waiting:
            best = min(
                (share for share in self._shares.values() if share.left and self._may(share)),
                key=lambda share: (share.held / share.weight, share.served),
                default=None,
            )
            if best is None:
                return
            entry = heapq.heappop(best.waiting)[2]
            while entry.go is None:
                entry = heapq.heappop(best.waiting)[2]
            best.left -= 1
            self.waiting -= 1
            self._serve(best, entry)

    def queue(self) -> Iterator[tuple[Hashable, int, int]]:
        """(tenant, places held, bodies waiting) of every tenant here."""
        return ((tenant, share.held, share.left) for tenant, share in self._shares.items())


async def turn(turns: Turns, tenant: Hashable, priority: int) -> Entry:
    """Waits for a place, if there is none; whoever has it gives it back by `turns.leave`. Who is cancelled while
    waiting has none."""
    ready: asyncio.Future[None] | None = None

    def go() -> None:
        if ready is not None and not ready.done():
            ready.set_result(None)

    entry = turns.enter(tenant, priority, go)
    if entry.go is not None:
        ready = asyncio.get_running_loop().create_future()
        try:
            await ready
        except asyncio.CancelledError:
            turns.leave(entry)
            raise
    return entry
