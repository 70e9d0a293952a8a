"""What the keeper of gates needs of the process it runs in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from subgraphs.platform.leases import Lease
from subgraphs.platform.writer import Committed, Ingress, Unit


class Clock(Protocol):
    def now(self) -> int:
        """Microseconds since 1970."""

    def ticks(self) -> float:
        """Seconds on a clock that only goes forward."""


class Commits(Protocol):
    """The group commit (platform/writer.py)."""

    async def commit(self, ingress: Ingress | None = None, units: Sequence[Unit] = ()) -> Committed: ...


class Partitions(Protocol):
    """The partitions of this process (platform/leases.py)."""

    @property
    def owned(self) -> Mapping[int, Lease]: ...
