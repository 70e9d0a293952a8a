"""Time travel: a run as it was after any of its events, finished or live, read from its journal and nothing else.

No executor is asked and nothing is decided: state is the fold of events that were recorded, and an expression reads it
within the budget every expression has. Who may look and what is hidden is decided now, not then: rows come under the
caller's tenant, and what retention took away is gone from the past as well.

A long run is folded from the nearest snapshot before the event. Where none is near, the fold leaves some behind, so the
next look at that stretch is short; like all snapshots they may be thrown away.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Column, Integer, LargeBinary, Select, Table, Uuid, select, text
from sqlalchemy.dialects.postgresql import insert

from subgraphs.engine.expression import Budget, ExpressionError, compiled
from subgraphs.engine.run import Event, Run, Started, evolve, restore, snapshot
from subgraphs.engine.run.snapshot import opened
from subgraphs.engine.step import Item
from subgraphs.execution.domain import moment
from subgraphs.execution.history import Happening, History
from subgraphs.execution.runner.bodies import Nodes, names
from subgraphs.execution.runner.loading import Loading
from subgraphs.execution.storage import journal, metadata, run
from subgraphs.platform.database import Database, Reading
from subgraphs.platform.domain import Invalid, Missing

ROWS = 200
"""Journal rows read at once: the memory of a fold is its state and so many chunks."""
APART = 5_000
"""Events between the snapshots that a long fold leaves behind."""

kept = Table(
    "snapshot",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("run", Uuid, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Moment:
    """A run after its first `event` events, and the last of them. `events`: how many it has had by now."""

    run: Run
    happening: Happening
    events: int

    @property
    def event(self) -> int:
        return self.happening.seq


@dataclass(frozen=True, slots=True)
class Value:
    """What an expression gave, or why it gave nothing."""

    value: Any = None
    fault: ExpressionError | None = None


class Travel:
    """The past of one tenant's runs."""

    def __init__(self, database: Database, loading: Loading, tenant: UUID) -> None:
        self.database, self.loading, self.tenant = database, loading, tenant

    async def at(self, id: UUID, event: int) -> Moment:
        """The run after so many events. Raises Missing, or Invalid for an event that has not happened."""
        last = await self._version(id)
        if not 1 <= event <= last:
            raise Invalid(
                f"The run has had {last} events.",
                code="event_unknown",
                field="event",
                next_step=f"Ask for an event from 1 to {last}.",
            )
        history = await self._folded(id, event - 1)
        async for told in self._after(id, event - 1, 1):
            history = history or await self._begun(id, told)
            return Moment(history.run, history.tell([told])[0], last)
        raise Missing("This part of the run's journal is gone.", code="journal_gone", field="event")

    async def now(self, id: UUID) -> Run:
        """The run as it stands. Raises Missing."""
        history = await self._folded(id, await self._version(id))
        if history is None:
            raise Missing("The journal of this run is gone.", code="journal_gone")
        return history.run

    async def events(self, id: UUID, after: int, count: int) -> list[Happening]:
        """What happened after so many events: at most `count` of them, in order."""
        if not 0 <= after < await self._version(id):
            return []
        history, found = await self._folded(id, after), list[Happening]()
        async for event in self._after(id, after, count):
            history = history or await self._begun(id, event)
            found += history.tell([event])
        return found

    async def _version(self, id: UUID) -> int:
        async with self.database.read(self.tenant) as reading:
            mine = reading.tenant_filter(run.c.tenant)
            version = await reading.scalar(select(run.c.version).where(mine, run.c.id == id))
        if version is None:
            raise Missing("There is no such run.", field="id")
        return int(version)

    async def _begun(self, id: UUID, first: Event) -> History:
        assert isinstance(first, Started)  # noqa: S101 - the first event of every run
        return History(Run.blank(id, self.tenant, await self.loading.plans.of(self.tenant, first)))

    async def _folded(self, id: UUID, version: int) -> History | None:
        """The run after `version` events; None before the first."""
        if version == 0:
            return None
        history = await self._nearest(id, version)
        left = version - (history.run.version if history is not None else 0)
        async for event in self._after(id, version - left, left):
            history = history or await self._begun(id, event)
            evolve(history.run, event)
            if history.run.version % APART == 0 and left > APART:
                await self._leave(history.run)
        return history

    async def _nearest(self, id: UUID, version: int) -> History | None:
        """The run as the last snapshot up to this version has it."""
        async with self.database.read(self.tenant) as reading:
            mine = reading.tenant_filter(kept.c.tenant)
            query = select(kept.c.data).where(mine, kept.c.run == id, kept.c.version <= version)
            data = await reading.scalar(query.order_by(kept.c.version.desc()).limit(1))
        if data is None:
            return None
        state = opened(await self.loading.chunk(self.tenant, bytes(data)))
        assert state.started is not None  # noqa: S101 - snapshots are taken of begun runs
        return History(restore(id, self.tenant, await self.loading.plans.of(self.tenant, state.started), state))

    async def _after(self, id: UUID, version: int, count: int) -> AsyncIterator[Event]:
        """The `count` events after a version, a few rows of the journal at a time."""
        at, left = version, count
        while left > 0:
            async with self.database.read(self.tenant) as reading:
                rows = await reading.rows(_chunks(reading, id, at).limit(min(ROWS, left)))
            for row in rows:
                events = await self.loading.events(self.tenant, bytes(row["data"]))
                first = row["version"] - len(events)
                for event in events[max(0, version - first) :][:left]:
                    left -= 1
                    yield event
                at = row["version"]
            if not rows:
                return

    async def _leave(self, folded: Run) -> None:
        """Keeps a snapshot for the next look."""
        data = await self.loading.objects.check_in(self.tenant, snapshot(folded))
        row: dict[str, Any] = {"tenant": self.tenant, "run": folded.id, "version": folded.version}
        async with self.database.write(self.tenant) as transaction:
            if isinstance(data, bytes):
                row["data"] = data
            else:
                row["data"] = msgspec.json.encode(data.json())
                await transaction.execute(HOLD, {"tenant": self.tenant, "sha256": data.sha256, "holder": folded.id})
            await transaction.execute(insert(kept).values(row).on_conflict_do_nothing())


HOLD = text("insert into bus.blob (tenant, sha256, holder) values (:tenant, :sha256, :holder) on conflict do nothing")


def _chunks(reading: Reading, id: UUID, after: int) -> Select[Any]:
    mine = reading.tenant_filter(journal.c.tenant)
    query = select(journal.c.version, journal.c.data).where(mine, journal.c.run == id, journal.c.version > after)
    return query.order_by(journal.c.version)


class _Node(Mapping[str, Any]):
    """`nodes.ID` in an expression: `item`, of which the item at hand descends (else the first), and `items`."""

    def __init__(self, scope: Scope, id: str) -> None:
        self._scope, self._id = scope, id

    def __getitem__(self, name: str) -> Any:
        items = self._scope.nodes[self._id]
        if name == "items":
            return [item.json for item in items]
        if name != "item" or not items:
            raise KeyError(name)
        found = self._scope.nodes.ancestor(self._scope.item, self._id) if self._scope.item is not None else None
        return (found or items[0]).json

    def __iter__(self) -> Iterator[str]:
        return iter(("item", "items"))

    def __len__(self) -> int:
        return 2


class _All(Mapping[str, Any]):
    """`nodes` in an expression."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def __getitem__(self, id: str) -> Any:
        if id not in self._scope.nodes:
            raise KeyError(id)
        return _Node(self._scope, id)

    def __iter__(self) -> Iterator[str]:
        return iter(self._scope.nodes)

    def __len__(self) -> int:
        return len(self._scope.nodes)


class Scope:
    """The names an expression of a node may use at a moment; without a node those that need no items.

    Raises Invalid for a node the workflow has not, or an item that has not arrived."""

    def __init__(self, moment_: Moment, node: str | None, position: int | None) -> None:
        state = moment_.run
        if node is not None and node not in state.steps and node not in state.plan.nodes:
            raise Invalid(
                "The workflow has no such node.",
                code="node_unknown",
                field="node",
                next_step="Name a node by its id, as the definition has it.",
            )
        inputs = state.inputs(node) if node is not None else {}
        items: Sequence[Item] = inputs.get("main", ())
        if position is not None and not 0 <= position < len(items):
            raise Invalid(
                f"{len(items)} items have arrived at the node by then.",
                code="item_unknown",
                field="item",
                next_step="Count from 0, or leave the item out.",
            )
        self.nodes = Nodes(state, node or "")
        self.item = items[position or 0] if items else None
        step = state.steps.get(node) if node is not None else None
        self.names: dict[str, Any] = {
            **names(state),
            "items": [item.json for item in items],
            "now": moment(step.since) if step is not None and step.since else moment_.happening.at,
            "nodes": _All(self),
        }
        if self.item is not None:
            self.names["item"] = self.item.json

    def evaluate(self, expression: str) -> Value:
        """The value of an expression, or of a text with expressions in `{{ }}`."""
        source = expression if "{{" in expression else f"{{{{ {expression} }}}}"
        try:
            return Value(compiled(source).evaluate(self.names, Budget()))
        except ExpressionError as fault:
            return Value(fault=fault)

    def told(self) -> dict[str, Any]:
        """The names as JSON; of `nodes` the ids that have settled."""
        shown = {name: value for name, value in self.names.items() if name != "nodes"}
        shown["now"] = self.names["now"].isoformat()
        shown["execution"] = {**shown["execution"], "startedAt": shown["execution"]["startedAt"].isoformat()}
        return shown | {"nodes": list(self.nodes)}
