"""Puts the keeper of gates on the ground: its tables, its partitions, what it hears."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import cast
from uuid import UUID

from subgraphs.execution.limits import events
from subgraphs.execution.limits.fairness import Turns
from subgraphs.execution.limits.keeper import Keeper
from subgraphs.execution.limits.ports import Clock
from subgraphs.execution.limits.storage import PAUSED_TOPIC, WRITTEN, PostgresShelf, Rows
from subgraphs.platform.server import Ground
from subgraphs.platform.settings import Settings


def keeper(ground: Ground, clock: Clock, woken: Callable[[int], None]) -> Keeper:
    """The keeper of this process. `woken(partition)`: runs of that partition have letters of gates."""

    def shelf() -> PostgresShelf:
        return PostgresShelf(cast(Rows, ground.database.engine))

    made = Keeper(ground.writer, ground.leases, clock, shelf, ground.settings.partitions)
    for table in WRITTEN:
        ground.writer.register(table)
    ground.leases.watch(made.acquired, made.lost)
    ground.bus.listen([events.TAKEN, events.RETURNED], made.heard)
    ground.bus.listen([events.GIVEN], lambda event: woken(event.partition))
    ground.bus.on_wake(PAUSED_TOPIC, lambda _: made.look_up_pauses())
    return made


def turns(settings: Settings) -> Turns:
    """The places of this worker."""
    weights: dict[Hashable, float] = {}
    for stated in settings.tenant_weights:
        tenant, _, weight = stated.partition("=")
        weights[UUID(tenant)] = float(weight)
    return Turns(settings.worker_bodies, weights)
