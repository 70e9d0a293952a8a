"""The state of a run: the fold of its journal, nothing else. `folding` says how each event changes it.

Steps are named by keys (see `keys`). Payloads are shared between steps, never copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from subgraphs.engine.run.events import Outputs, Respond, Started, Undo
from subgraphs.engine.run.keys import node_of, place
from subgraphs.engine.run.parts import PlanNode
from subgraphs.engine.run.plan import Plan
from subgraphs.engine.step import Item, Reply, Source, StepError

FINAL = frozenset({"succeeded", "failed", "cancelled", "timed_out"})
STATUSES = ("queued", "running", "waiting", "paused", "succeeded", "failed", "cancelled", "timed_out")
SETTLED = frozenset({"succeeded", "failed", "skipped", "cancelled"})


class Step(msgspec.Struct):
    """One node in one run, or in one round of a loop: ready, running, retrying, waiting, ambiguous, succeeded, failed,
    skipped or cancelled.

    `attempt` counts every start, `failures` only those the node itself failed, which is what a retry policy counts, and
    `recoveries` those cut off with their process. `since` is when the first attempt began: a repeated attempt sees the
    same `now`. `won`: the step whose items it takes, when it waits for one connection only.
    """

    status: str
    attempt: int = 0
    failures: int = 0
    since: int = 0
    until: int = 0
    outputs: dict[str, list[Item]] = {}
    error: StepError | None = None
    recoveries: int = 0
    won: str = ""


class Hold(msgspec.Struct, omit_defaults=True):
    """What a waiting step waits for."""

    attempt: int
    since: int
    kind: str = "time"
    name: str = ""
    detail: dict[str, Any] = {}
    until: int | None = None
    deadline: int | None = None


class Waiting(NamedTuple):
    """A step that waits, for whoever asks why a run does not go on. Times in microseconds."""

    key: str
    kind: str
    name: str
    attempt: int
    detail: dict[str, Any]
    since: int
    until: int | None
    deadline: int | None


class Round(msgspec.Struct):
    """A round under way: `left` steps of the body are not settled; `outputs` holds its items under `each`."""

    left: int
    first: int
    outputs: dict[str, list[Item]]


class Loop(msgspec.Struct):
    """A loop under way: `items` in all, so many `rounds`, the `next` to begin, those `open`, what was `collected` by
    round and how many items that is. `first`: what the first failed round failed with."""

    items: int
    rounds: int
    next: int = 0
    open: list[int] = []
    failed: int = 0
    count: int = 0
    collected: dict[int, list[Item]] = {}
    first: StepError | None = None


class Undone(msgspec.Struct, array_like=True):
    """A step that would be undone by `node` if the run failed, and what it put out."""

    key: str
    node: str
    outputs: dict[str, list[Item]]


class Message(msgspec.Struct, omit_defaults=True):
    """A signal nobody has waited for yet."""

    data: Any = None
    by: UUID | None = None


class Ending(msgspec.Struct, omit_defaults=True):
    """The end a run is coming to: compensations first (`undo`, of which `done` are over), then the finally section."""

    status: str
    error: StepError | None = None
    node: str | None = None
    by: UUID | None = None
    undo: tuple[Undo, ...] = ()
    done: int = 0
    last: bool = False


class Run(msgspec.Struct):
    """One execution. `pending` counts the incoming connections of each step that have not settled, `fed` are the steps
    that something reached, `left` the nodes that are not settled, `alarms` due times by name.

    `ready` may begin now; `held` could but for a pause. `holds` are the waiting steps, `ambiguous` those nobody knows
    of whether they happened. `loops` and `rounds` are those under way. `undo`: what would be undone, oldest first.
    `plain`: it is a whole run of a plain plan, which needs less thought.
    """

    id: UUID
    tenant: UUID
    plan: Plan
    pending: dict[str, int]
    left: int
    version: int = 0
    status: str = "queued"
    started: Started | None = None
    finished_at: int | None = None
    error: StepError | None = None
    reply: Reply | None = None
    steps: dict[str, Step] = {}
    fed: set[str] = set()
    ready: dict[str, None] = {}
    running: dict[str, int] = {}
    alarms: dict[str, int] = {}
    last: str | None = None
    queued: bool = False
    passed: int = 0
    paused: bool = False
    held: dict[str, None] = {}
    holds: dict[str, Hold] = {}
    ambiguous: dict[str, int] = {}
    loops: dict[str, Loop] = {}
    rounds: dict[str, Round] = {}
    undo: list[Undone] = []
    ending: Ending | None = None
    keys: dict[str, str] = {}
    signals: dict[str, list[Message]] = {}
    heard: dict[str, None] = {}
    record: dict[str, Outputs] | None = None
    forked: bool = False
    plain: bool = False

    @staticmethod
    def blank(id: UUID, tenant: UUID, plan: Plan) -> Run:
        """A run nothing has happened to yet."""
        return Run(id=id, tenant=tenant, plan=plan, pending=dict(plan.pending), left=len(plan.pending))

    def begun(self, started: Started) -> None:
        """It was started so."""
        self.started = started
        self.plain = self.plan.plain and not (started.given or started.until or started.only)

    @property
    def final(self) -> bool:
        return self.status in FINAL

    @property
    def respond(self) -> Respond | None:
        return self.started.respond if self.started else None

    @property
    def timers(self) -> dict[str, int]:
        """The due times that count now, by name: none while the run is paused. Not to be changed."""
        return {} if self.paused else self.alarms

    def node(self, key: str) -> PlanNode:
        """The node of a step."""
        return self.plan.nodes.get(key) or self.plan.nodes[node_of(key)]

    def arriving(self, key: str) -> Iterator[tuple[str, str, str, list[Item]]]:
        """What each incoming connection brings: (source step, its port, our port, items), in connection order."""
        node = self.plan.nodes.get(key)
        around = ""
        if node is None:
            node, around = self.node(key), place(key)
        if not node.incoming:
            yield from self._handed(key, node)
            return
        won = self.steps[key].won if node.join != "all" and key in self.steps else ""
        for edge in node.incoming:
            source = edge.source + around if around else edge.source
            step: Step | Round | None = self.steps.get(source) or self.rounds.get(source)
            items = step.outputs.get(edge.output) if step is not None else None
            if items and (not won or source == won):
                yield source, edge.output, edge.input, items

    def _handed(self, key: str, node: PlanNode) -> Iterator[tuple[str, str, str, list[Item]]]:
        """What a compensation or the beginning of the finally section gets."""
        ending = self.ending
        if ending is None:
            return
        if node.id in self.plan.last_roots:
            yield "", "main", "main", [Item(self._outcome(ending))]
            return
        undone = next((each.undone for each in ending.undo if each.node == key), None)
        outputs = next((each.outputs for each in reversed(self.undo) if each.key == undone), None)
        if outputs is None or undone is None:
            return
        if not any(outputs.values()):
            yield undone, "main", "main", [Item({})]
        for port, items in outputs.items():
            if items:
                yield undone, port, "main", items

    def _outcome(self, ending: Ending) -> dict[str, Any]:
        error = ending.error
        told = {"code": error.code, "message": error.message, "kind": error.kind} if error is not None else None
        return {"status": ending.status, "error": told, "executionId": str(self.id)}

    def inputs(self, key: str) -> dict[str, list[Item]]:
        """The items per input port. A port fed by one connection gets that very list: do not change it."""
        found: dict[str, list[Item]] = {}
        for _, _, port, items in self.arriving(key):
            found[port] = found[port] + items if port in found else items
        return found

    def origins(self, key: str) -> list[tuple[Source, Item]]:
        """Every arriving item and where it lies, by position."""
        return [
            (Source(source, port, index), item)
            for source, port, _, items in self.arriving(key)
            for index, item in enumerate(items)
        ]

    def seen(self, viewer: str, id: str) -> Step | Round | None:
        """What node `id` is to step `viewer`: its step at top level, that of the rounds both stand in, or, for a loop
        around the viewer, the round the viewer stands in. None for what has not begun or lies in another loop."""
        nodes = self.plan.nodes
        node = nodes.get(id)
        if node is None:
            return None
        around = place(viewer)
        if not around or (node.loop is None and node.rounds is None):
            return self.steps.get(id) if node.loop is None else None
        theirs, ours = self._loops(node), self._loops(nodes[node_of(viewer)])
        if ours[: len(theirs)] != theirs:
            return None
        numbers = around[1:].split(".")
        depth = len(theirs) + (len(ours) > len(theirs) and ours[len(theirs)] == id)
        name = f"{id}@{'.'.join(numbers[:depth])}" if depth else id
        return self.rounds.get(name) if depth > len(theirs) else self.steps.get(name)

    def _loops(self, node: PlanNode) -> list[str]:
        """The loops around a node, outermost first."""
        found: list[str] = []
        while node.loop is not None:
            found.insert(0, node.loop)
            node = self.plan.nodes[node.loop]
        return found

    def waits(self) -> list[Waiting]:
        """The steps that wait, and for what."""
        return [
            Waiting(key, hold.kind, hold.name, hold.attempt, hold.detail, hold.since, hold.until, hold.deadline)
            for key, hold in self.holds.items()
        ]

    def given(self, key: str) -> Outputs | None:
        """The outputs that were given for this step with the start."""
        given = self.started.given if self.started is not None else None
        if not given:
            return None
        found = given.get(key)
        return found if found is not None else given.get(node_of(key))
