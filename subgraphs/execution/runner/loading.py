"""Runs read back from the database: head, latest snapshot, the journal after it, the plan it runs by."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec

from subgraphs.engine.run import Event, Made, Plan, Run, Started, decode, replay, restore
from subgraphs.engine.run.snapshot import opened
from subgraphs.execution import storage
from subgraphs.execution.domain import Held
from subgraphs.execution.runner.store import UNREACHABLE, Key, Store
from subgraphs.platform.objects import Objects, Ref

PLANS = 256


class NotHeld(LookupError):
    """A release that has not reached us yet; the event that asks for it is tried again."""


@dataclass(slots=True)
class Stored:
    """A run as the database has it: its head row, and its state or why that could not be read."""

    head: Mapping[str, Any]
    run: Run | None = None
    fault: Exception | None = None


class Plans:
    """Compiled releases, the last used ones in memory."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[tuple[UUID, UUID, int], tuple[Held, Plan]] = OrderedDict()

    async def release(self, tenant: UUID, workflow: UUID, number: int | None) -> tuple[Held, Plan]:
        """A release, without a number the newest. Raises NotHeld, or Unrunnable for one this code cannot run."""
        if number is None:
            number = await self._store.newest(tenant, workflow)
            if number is None:
                raise NotHeld(f"any release of workflow {workflow}")
        key = (tenant, workflow, number)
        found = self._kept.get(key)
        if found is None:
            row = await self._store.release(*key)
            if row is None:
                raise NotHeld(f"release {number} of workflow {workflow}")
            held = storage.held(row)
            found = self._kept[key] = (held, held.plan())
            if len(self._kept) > PLANS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return found

    async def of(self, tenant: UUID, started: Started) -> Plan:
        """The plan a run was started with: its release's, or the draft it carries."""
        if started.definition is not None:
            return Plan.of(started.definition, started.types or {})
        if started.workflow is None or started.release is None:
            raise NotHeld(f"a run of {started.name} names no release and carries no definition")
        return (await self.release(tenant, started.workflow, started.release))[1]


class Loading:
    """Folds stored runs."""

    def __init__(self, store: Store, objects: Objects, plans: Plans) -> None:
        self.store, self.objects, self.plans = store, objects, plans

    async def chunk(self, tenant: UUID, data: bytes) -> bytes:
        """The bytes of a journal row or snapshot, fetched if the row only refers to them."""
        if data[:7] != b'{"$ref"':
            return data
        reference = msgspec.json.decode(data)
        return await self.objects.get(tenant, Ref(reference["$ref"], reference["size"]))

    async def events(self, tenant: UUID, data: bytes) -> list[Event]:
        """The events of a journal row, payloads in place."""
        events = decode(await self.chunk(tenant, data))
        if events and isinstance(events[0], Started) and events[0].stored is not None:
            events[0] = await self._inflated(tenant, events[0], events[0].stored)
        return events

    async def _inflated(self, tenant: UUID, event: Started, stored: Mapping[str, Any]) -> Started:
        json = msgspec.json.decode(await self.objects.get(tenant, Ref(stored["$ref"], stored["size"])))
        return msgspec.structs.replace(event, items=[Made(json)])

    async def journal(self, keys: Sequence[Key], after: Sequence[int] | None = None) -> dict[UUID, list[Event]]:
        """The events of each run after a version (default: all), in order; one statement."""
        runs = [run for _, run in keys]
        rows = await self.store.chunks(keys, list(after or [0] * len(keys)))
        parts = await asyncio.gather(*(self.events(row["tenant"], bytes(row["data"])) for row in rows))
        found: dict[UUID, list[Event]] = {run: [] for run in runs}
        skip = dict(zip(runs, after or [0] * len(keys), strict=True))
        for row, events in zip(rows, parts, strict=True):
            first = row["version"] - len(events)
            found[row["run"]] += events[max(0, skip[row["run"]] - first) :]
        return found

    async def runs(self, keys: Sequence[Key]) -> list[Stored]:
        """The runs as committed; unknown ones are left out. One that cannot be read does not hold up the others."""
        heads = await self.store.heads(keys)
        kept = {row["run"]: row for row in await self.store.snapshots(keys)}
        after = [kept[id]["version"] if id in kept else 0 for _, id in keys]
        chunks: dict[UUID, list[Mapping[str, Any]]] = {}
        for row in await self.store.chunks(keys, after):
            chunks.setdefault(row["run"], []).append(row)
        found = []
        for head in heads:
            stored = Stored(head)
            try:
                stored.run = await self._folded(head, kept.get(head["id"]), chunks.get(head["id"], []))
            except UNREACHABLE:
                raise
            except Exception as fault:  # noqa: BLE001 - one run's: its owner logs it, and the others go on
                stored.fault = fault
            found.append(stored)
        return found

    async def _folded(
        self, head: Mapping[str, Any], kept: Mapping[str, Any] | None, chunks: Sequence[Mapping[str, Any]]
    ) -> Run:
        tenant, id = head["tenant"], head["id"]
        parts = [(row["version"], await self.events(tenant, bytes(row["data"]))) for row in chunks]
        if kept is not None:
            state = opened(await self.chunk(tenant, bytes(kept["data"])))
            assert state.started is not None  # noqa: S101 - snapshots are taken of begun runs
            run = restore(id, tenant, await self.plans.of(tenant, state.started), state)
        else:
            started = parts[0][1][0]
            assert isinstance(started, Started)  # noqa: S101 - the first event of every run
            run = Run.blank(id, tenant, await self.plans.of(tenant, started))
        for version, events in parts:  # head, snapshot and journal are read one after another, and the run may move
            replay(run, events[max(0, run.version - version + len(events)) :])
        return run
