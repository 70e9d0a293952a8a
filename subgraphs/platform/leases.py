"""Who owns which partition. (Interface.)"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Lease:
    """A partition this process owns, and the epoch of that ownership."""

    partition: int
    epoch: int


class Leases:
    owned: Mapping[int, Lease]

    def partition_of(self, id: UUID) -> int:
        raise NotImplementedError

    def lease_for(self, id: UUID) -> Lease | None:
        raise NotImplementedError

    def watch(self, acquired: Callable[[Lease], Awaitable[None]], lost: Callable[[int], None]) -> None: ...
