"""Runs begin here: from an event that asks for one to the first unit of its journal.

The bus calls `prepare` where this process owns the partition, so that the run's first steps share the commit of the
event that asked for it; else the sweep finds the event later. Either way a run has its event's id, so it begins once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec

from subgraphs.engine.definition import pinned
from subgraphs.engine.run import Fork, Made, Parent, Plan, Respond, Run, Start, Started, Unrunnable, recorded, replay
from subgraphs.engine.step import StepError
from subgraphs.execution import events as published
from subgraphs.execution.domain import checked_input
from subgraphs.execution.runner import children
from subgraphs.execution.runner.live import Cut, Live, complete, cut
from subgraphs.execution.runner.loading import Loading, NotHeld
from subgraphs.execution.runner.runner import Runner
from subgraphs.execution.storage import RUN, whole
from subgraphs.platform.domain import Event, Invalid
from subgraphs.platform.facts import read
from subgraphs.platform.leases import Lease
from subgraphs.platform.writer import Unit

REFUSED: dict[str, Any] = {"nodes": [{"id": "trigger", "type": "none", "version": "0", "name": "Trigger"}]}
"""What a run carries whose own definition cannot be run: it fails at once, and can still be opened."""


@dataclass(slots=True)
class Beginning:
    """What an event asks for."""

    plan: Plan
    start: Start
    definition: Mapping[str, Any] | None = None
    """Of a release: its runs have limits to pass."""


@dataclass(slots=True)
class Preparation:
    """The preparer the bus knows. `prepare` may run pure steps; it changes nothing outside."""

    runner: Runner
    loading: Any  # () -> Loading, once the database is open
    entrance: Callable[[UUID, Start, Mapping[str, Any]], None] | None = None
    """Gives the start of a release the gates it has to pass."""
    name: str = "execution"
    types: frozenset[str] = frozenset({published.DRAFTED, published.CALLED, published.REQUESTED})
    head_table: str = RUN.name
    _prepared: dict[int, tuple[Live, Cut]] = field(default_factory=dict)
    """By the identity of the unit, which the value keeps: one event may be stored, and so prepared, twice at once."""

    async def prepare(self, event: Event, lease: Lease) -> Unit | None:
        if event.tenant is None or event.id in self.runner.runs:
            return None
        begun = await self._beginning(event, event.tenant)
        if begun.definition is not None and self.entrance is not None:
            self.entrance(event.tenant, begun.start, begun.definition)
        live = Live(Run.blank(event.id, event.tenant, begun.plan), lease, self.runner.most)
        live.apply(begun.start)
        self.runner.advance(live)
        taken = cut(live)
        unit = await complete(live, taken, self.runner.objects, self.runner.limit)
        self._prepared[id(unit)] = (live, taken)
        return unit

    def settled(self, event: Event, unit: Unit, committed: bool) -> None:
        """Adopts the run if it was stored; if not, somebody else began it, or will."""
        live, taken = self._prepared.pop(id(unit), (None, None))
        if live is None or taken is None:
            return
        ours = self.runner.leases.owned.get(live.lease.partition) == live.lease
        if not committed or not ours or event.id in self.runner.runs:
            return
        self.runner.runs[event.id] = live
        self.runner.settle(live, taken)
        self.runner.push(live)

    async def _beginning(self, event: Event, tenant: UUID) -> Beginning:
        clock = self.runner.clock
        start = Start(at=clock.now(), seed=clock.seed(), trigger="trigger", items=[])
        try:
            if event.type == published.DRAFTED:
                return await self._draft(tenant, start, read(event, published.Drafted))
            if event.type == published.CALLED:
                return await self._call(tenant, start, read(event, published.Called))
            return await self._request(tenant, start, read(event, published.Requested))
        except (Unrunnable, msgspec.ValidationError) as fault:
            start.trigger, start.items, start.stored = "trigger", [{}], None
            start.definition, start.types = REFUSED, {}
            start.fault = StepError("execution.unrunnable", str(fault))
            return Beginning(Plan.of(REFUSED, {}), start)

    async def _draft(self, tenant: UUID, start: Start, asked: published.Drafted) -> Beginning:
        start.workflow, start.name, start.mode = asked.workflow_id, asked.name, "draft"
        start.revision, start.started_by = asked.revision, asked.started_by
        start.definition = await whole(self.runner.objects, tenant, asked.definition)
        start.types = asked.node_types
        plan = Plan.of(start.definition, asked.node_types)
        start.trigger = plan.trigger(asked.trigger, "core.manual")
        start.until, start.only = asked.until, asked.only
        given = await whole(self.runner.objects, tenant, asked.given)
        start.given = {**pinned(start.definition, asked.node_types), **(given or {})}
        await self._item(tenant, start, asked.input)
        return Beginning(plan, start)

    async def _call(self, tenant: UUID, start: Start, asked: published.Called) -> Beginning:
        held, plan = await self._loading.plans.release(tenant, asked.workflow_id, asked.release)
        start.workflow, start.name, start.mode, start.release = held.workflow, held.name, "webhook", held.release
        start.trigger = plan.trigger(asked.node)
        start.respond = Respond(asked.respond.mode, asked.respond.address)
        await self._item(tenant, start, asked.item)
        return Beginning(plan, start, held.definition)

    async def _request(self, tenant: UUID, start: Start, asked: published.Requested) -> Beginning:
        start.started_by, start.rerun_of = asked.started_by, asked.rerun_of
        if asked.rerun_of is not None and asked.fork is not None:
            return await self._fork(tenant, start, asked.rerun_of, asked.fork, asked.release)
        if asked.rerun_of is not None:
            return await self._rerun(tenant, start, asked.rerun_of)
        if asked.workflow_id is None:
            raise Unrunnable("the start names no workflow")
        start.workflow, start.mode = asked.workflow_id, asked.mode
        if asked.parent is not None:
            start.parent = Parent(asked.parent.run, asked.parent.node, asked.parent.attempt, asked.parent.depth)
            return await self._started_by_run(tenant, start, asked)
        if asked.release is None:
            raise Unrunnable("the start names no release")
        held, plan = await self._loading.plans.release(tenant, asked.workflow_id, asked.release)
        start.name, start.release = held.name, held.release
        start.trigger = plan.trigger(asked.trigger, "core.manual")
        await self._item(tenant, start, asked.input)
        return Beginning(plan, start, held.definition)

    async def _started_by_run(self, tenant: UUID, start: Start, asked: published.Requested) -> Beginning:
        """A run that another one starts. Nobody stands by to be told of a refusal: it fails as a run, typed, which the
        one that started it hears as of any other end."""
        assert asked.workflow_id is not None  # noqa: S101 - looked at before
        try:
            held, plan = await self._loading.plans.release(tenant, asked.workflow_id, asked.release)
        except NotHeld:
            raise Unrunnable("the workflow it starts has no release to run") from None
        start.name, start.release = held.name, held.release
        if asked.mode == "error":
            start.trigger = plan.trigger(None, children.TRIGGER)
            if plan.nodes[start.trigger].type != children.TRIGGER:
                raise Unrunnable(f"the error workflow has no trigger {children.TRIGGER}")
            await self._item(tenant, start, asked.input)
            return Beginning(plan, start, held.definition)
        start.trigger = plan.trigger(asked.trigger, "core.manual")
        given = await whole(self.runner.objects, tenant, asked.input)
        try:
            start.items = [checked_input(held.definition.get("inputs") or (), given)]
        except Invalid as fault:
            raise Unrunnable(f"its input does not fit: {fault.message}") from None
        return Beginning(plan, start, held.definition)

    async def _rerun(self, tenant: UUID, start: Start, original: UUID) -> Beginning:
        """The same definition, trigger and items as the original, which stays as it is."""
        journal = await self._loading.journal([(tenant, original)])
        first = next(iter(journal[original]), None)
        if not isinstance(first, Started):
            raise Unrunnable("the run to repeat is gone")
        start.workflow, start.name, start.mode = first.workflow, first.name, first.mode
        start.release, start.revision, start.trigger = first.release, first.revision, first.trigger
        start.definition, start.types, start.stored = first.definition, first.types, first.stored
        start.items = [made.json for made in first.items]
        start.until, start.only, start.given = first.until, first.only, _taken(first)
        if first.workflow is not None and first.release is not None:
            held, plan = await self._loading.plans.release(tenant, first.workflow, first.release)
            return Beginning(plan, start, held.definition)
        return Beginning(await self._loading.plans.of(tenant, first), start)

    async def _fork(
        self, tenant: UUID, start: Start, original: UUID, asked: published.Forked, release: int | None
    ) -> Beginning:
        """From where the original stood, by its own definition or another release of its workflow. No limit holds it
        up: the original was let in."""
        begun = await self._rerun(tenant, start, original)
        events = (await self._loading.journal([(tenant, original)]))[original]
        state = replay(Run.blank(original, tenant, begun.plan), events[: asked.version])
        edits = await whole(self.runner.objects, tenant, asked.edits)
        start.fork = Fork(run=state, edits=edits, effects=asked.effects)
        if asked.effects == "record":
            start.fork.record = recorded(Run.blank(original, tenant, begun.plan), events)
        plan = begun.plan
        if release is not None and start.workflow is not None:
            held, plan = await self._loading.plans.release(tenant, start.workflow, release)
            start.release, start.revision, start.definition, start.types = held.release, None, None, None
        return Beginning(plan, start)

    async def _item(self, tenant: UUID, start: Start, given: Any) -> None:
        """The trigger's item, fetched if the event only refers to it."""
        item = await whole(self.runner.objects, tenant, given)
        start.stored = dict(given) if item is not given else None
        start.items = [item if item is not None else {}]

    @property
    def _loading(self) -> Loading:
        found: Loading = self.loading()
        return found


def _taken(first: Started) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """The outputs that were given with a start, to be given again."""
    return {
        node: {port: [made.json for made in items if isinstance(made, Made)] for port, items in ports.items()}
        for node, ports in first.given.items()
    }
