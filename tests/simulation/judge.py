"""What must hold: seen at every commit as the server carries it out, and of everything once the storm is over.

The invariants are I1 to I8 of the reliability goals (README.md), and the fence: nothing decided under a lost lease is
ever stored. The judge reads the server's tables and the ledger alone, never a process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec

from subgraphs.engine.run import (
    Event,
    Finished,
    Plan,
    Replied,
    Run,
    Started,
    StepFailed,
    StepsSkipped,
    StepStarted,
    StepSucceeded,
    decode,
    replay,
)
from subgraphs.engine.run.recovery import RECOVERIES
from subgraphs.engine.step import StepRequest
from subgraphs.execution import events as published
from subgraphs.execution import storage
from subgraphs.execution.domain import CODES
from subgraphs.platform.flush import Batch, Unit
from tests.simulation.bodies import Ledger
from tests.simulation.server import Server
from tests.simulation.workload import LAST, TYPES, UNDO, Expected, Flow, expected

FINAL = CODES["succeeded"]
STATUSES = {code: status for status, code in CODES.items()}


@dataclass
class Intent:
    """A start somebody meant once: under which ids it was asked for, and under which it was acknowledged."""

    flow: Flow
    item: dict[str, Any]
    respond: str
    key: str | None
    asked: list[UUID] = field(default_factory=list)
    acknowledged: set[UUID] = field(default_factory=set)
    cancelled: bool = False


class Judge:
    """Collects `faults`, one sentence each; an empty list is the verdict a seed should get."""

    def __init__(self, server: Server, note: Callable[..., None]) -> None:
        self.server, self.note = server, note
        self.ledger = Ledger()
        self.faults: list[str] = []
        self.intents: list[Intent] = []
        self.started: set[tuple[UUID, str, int]] = set()
        self.letters: dict[UUID, UUID] = {}
        self.plans: dict[UUID, Plan] = {}
        self.deaths: Callable[[], int] = lambda: 0
        self.decided: dict[tuple[UUID, UUID, int], int] = {}
        server.watch = self.watch

    def fault(self, text: str) -> None:
        if text not in self.faults:
            self.faults.append(text)
            self.note("fault", text)

    def whole(self, tenant: UUID, data: bytes) -> bytes:
        """A journal row, fetched if it is a claim check."""
        if data[:7] != b'{"$ref"':
            return data
        return self.server.objects[(tenant, msgspec.json.decode(data)["$ref"])]

    # -- at each commit

    def deciding(self, owner: UUID, unit: Unit) -> None:
        """A process hands a unit to its writer: this is the epoch it was decided under."""
        self.decided[(owner, unit.id, unit.version)] = unit.epoch

    def posted(self, letter: UUID, run: UUID) -> None:
        self.letters[letter] = run

    def watch(self, batch: Batch, owner: UUID, streams: Mapping[Any, Any], changes: list[Any]) -> None:
        heads = {id: (name, key, row) for (_, id), (name, key, row) in streams.items()}
        for id, (name, key, row) in heads.items():
            self._fence(id, owner, row)
            former = self.server.rows[name].get(key)
            if (
                former is not None
                and former[RUN_STATUS] >= FINAL
                and (former[3], former[RUN_STATUS]) != (row[3], row[RUN_STATUS])
            ):
                self.fault(f"I6: {id} had ended and was changed")
            self.note("head", id.hex, row[3], row[4], row[RUN_STATUS])
        for name, key, row in changes:
            if name == storage.JOURNAL.name and row is not None:
                for event in decode(self.whole(row[0], row[4])):
                    if isinstance(event, StepStarted):
                        self.started.add((row[1], event.node, event.attempt))
            elif name == storage.TIMER.name and row is None:
                self._timer(key, heads)
            elif name == storage.INBOX.name and row is None and key[1] in heads:
                self.letters.pop(key[2], None)
                if heads[key[1]][2][RUN_STATUS] < FINAL and not self._ending(key[1]):
                    self.fault(f"letters: the letter to {key[1]} was taken and had no effect")

    def _fence(self, id: UUID, owner: UUID, row: tuple[Any, ...]) -> None:
        lease = self.server.leases.get(row[2])
        if lease is None or lease.owner != owner or lease.epoch != row[4]:
            self.fault(
                f"fence: {id} was moved to {row[3]} by one who does not own partition {row[2]} in epoch {row[4]}"
            )
        if self.decided.get((owner, id, row[3]), row[4]) != row[4]:
            self.fault(f"fence: {id} was moved to {row[3]} by what was decided under a lease that was lost")

    def _timer(self, key: tuple[Any, ...], heads: Mapping[UUID, Any]) -> None:
        former = self.server.row(storage.TIMER.name, key)
        if former is None or former["due"] <= self.server.now():
            return
        if self._ending(key[1]):
            return
        if heads[key[1]][2][RUN_STATUS] < FINAL and key[2].startswith(("wait:", "retry:")):
            self.fault(f"timers: {key[2]} of {key[1]} fired {former['due'] - self.server.now()} early")

    def _ending(self, run: UUID) -> bool:
        """Whether the run's end takes more than a step: then it is not final at once when something ends it."""
        flow = next((intent.flow for intent in self.intents if run in intent.asked), None)
        return flow is not None and not {UNDO, LAST}.isdisjoint(flow.nodes)

    def began(self, request: StepRequest) -> None:
        """A body that reaches outside begins: the commit that says so is durable."""
        self.note("body", request.execution.hex, request.node, request.attempt)
        if (request.execution, request.node, request.attempt) not in self.started:
            self.fault(f"intent: attempt {request.attempt} of {request.node} began before its commit")

    def discarded(self, letter: UUID, final: bool) -> None:
        self.letters.pop(letter, None)
        if not final:
            self.fault(f"letters: {letter} was thrown away, its run goes on")

    # -- when the storm is over

    def settled(self) -> bool:
        """Whether everything has come to its end, as far as the tables tell."""
        rows = self.server.rows
        if rows[storage.TIMER.name] or rows[storage.INBOX.name]:
            return False
        if any(row[RUN_STATUS] < FINAL for row in rows[storage.RUN.name].values()):
            return False
        ended = {id for _, id in rows[storage.RUN.name]}
        return all(not intent.acknowledged or intent.acknowledged & ended for intent in self.intents)

    def conclude(self) -> None:
        heads = {row["id"]: row for row in self.server.all(storage.RUN.name)}
        asked = {id: intent for intent in self.intents for id in intent.asked}
        for id in heads:
            if id not in asked:
                self.fault(f"I1: {id} was never asked for")
        for intent in self.intents:
            self._intent(intent, [id for id in dict.fromkeys(intent.asked) if id in heads])
        chunks: dict[UUID, list[Any]] = {}
        for row in sorted(self.server.all(storage.JOURNAL.name), key=lambda row: row["version"]):
            chunks.setdefault(row["run"], []).append(row)
        for id, head in heads.items():
            if id in asked:
                self._run(head, chunks.get(id, []), asked[id])
        for letter, run in self.letters.items():
            if (letter,) not in {key[2:] for key in self.server.rows[storage.INBOX.name]}:
                self.fault(f"letters: a letter to {run} vanished without effect")
        for name in (storage.TIMER.name, storage.INBOX.name):
            if left := self.server.rows[name]:
                self.fault(f"I7: {len(left)} rows are left in {name}")

    def _intent(self, intent: Intent, begun: list[UUID]) -> None:
        if len(begun) > 1 and (intent.key is not None or len(set(intent.asked)) == 1):
            self.fault(f"I1: one start began {len(begun)} runs")
        for id in intent.acknowledged:
            if id not in begun:
                self.fault(f"I1: {id} was acknowledged and is lost")

    def _run(self, head: Mapping[str, Any], chunks: list[Any], intent: Intent) -> None:
        id, events = head["id"], list[Event]()
        for chunk in chunks:
            events += decode(self.whole(chunk["tenant"], chunk["data"]))
            if chunk["version"] != len(events):
                self.fault(f"I2: the journal of {id} has a hole or a double before {chunk['version']}")
                return
        if head["version"] != len(events) or not events:
            self.fault(f"I2: {id} is at {head['version']}, its journal at {len(events)}")
            return
        epochs = [chunk["epoch"] for chunk in chunks]
        if epochs != sorted(epochs):
            self.fault(f"fence: the journal of {id} goes back to an older epoch")
        if STATUSES[head["status"]] not in {"succeeded", "failed", "cancelled", "timed_out"}:
            self.fault(f"I7: {id} is {STATUSES[head['status']]} for ever")
            return
        if [at for at, event in enumerate(events) if isinstance(event, Finished)] != [len(events) - 1]:
            self.fault(f"I6: {id} does not end with its end")
        for node, count in Counter(node for event in events for node in _settled(event)).items():
            if count > 1:
                self.fault(f"I2: {node} of {id} has {count} outcomes")
        if any(isinstance(event, StepFailed) and event.error.code == "step.poison" for event in events):
            if self.deaths() < RECOVERIES + 1:
                self.fault(f"poison: a step of {id} was given up after {self.deaths()} deaths of processes")
            return
        run = replay(Run.blank(id, head["tenant"], self._plan(intent.flow)), events)
        self._outcome(run, intent, events)

    def _plan(self, flow: Flow) -> Plan:
        if flow.workflow not in self.plans:
            self.plans[flow.workflow] = Plan.of(flow.definition, TYPES)
        return self.plans[flow.workflow]

    def _outcome(self, run: Run, intent: Intent, events: list[Event]) -> None:
        wanted = expected(intent.flow, intent.item)
        allowed = {wanted.status}
        allowed |= {"cancelled"} if intent.cancelled else set()
        allowed |= {"timed_out"} if intent.flow.timed else set()
        if run.status not in allowed:
            self.fault(f"I3: {run.id} is {run.status}, not {' or '.join(sorted(allowed))}")
        for node, outputs in wanted.outputs.items():
            step = run.steps.get(node)
            ran = step is not None and (step.status == "succeeded" or (step.status == "failed" and bool(step.outputs)))
            if step is not None and ran:
                found = {port: [item.json for item in items] for port, items in step.outputs.items()}
                if found != outputs:
                    self.fault(f"I3: {node} of {run.id} put out {found}, not {outputs}")
            elif run.status == "succeeded" and outputs is not None:
                self.fault(f"I3: {node} of {run.id} should have run")
        self._effects(run, wanted)
        self._endings(run, intent.flow)
        self._told(run, intent, events)

    def _effects(self, run: Run, wanted: Expected) -> None:
        here = {node: sent for (id, node), sent in self.ledger.effects.items() if id == run.id}
        last = {node for node in here if node.partition("@")[0] in {UNDO, LAST}}
        for node in sorted({*here, *wanted.effects}):
            sent = here.get(node, [])
            if sent and node not in wanted.effects and node not in last:
                self.fault(f"I4: {node} of {run.id} had an effect it must not have")
            if not sent and node in wanted.effects and run.status == "succeeded":
                self.fault(f"I4: the effect of {node} of {run.id} is missing")
            if len({key for key, _, _ in sent}) > 1:
                self.fault(f"I4: {node} of {run.id} came under several keys, so a receiver counts it twice")
            if any(payload != sent[0][2] for _, _, payload in sent):
                self.fault(f"I4: {node} of {run.id} sent other data under the same key")
            if len({attempt for _, attempt, _ in sent}) < len(sent):
                self.fault(f"I5: one attempt at {node} of {run.id} had its effect twice")

    def _endings(self, run: Run, flow: Flow) -> None:
        """What was done is undone once where a run did not succeed, and never where it did; the last section ran."""
        undone = [node for node in flow.nodes if flow.nodes[node].get("settings", {}).get("compensate")]
        did = [node for node in undone if (step := run.steps.get(node)) is not None and step.status == "succeeded"]
        sent = [node for id, node in self.ledger.effects if id == run.id and node.partition("@")[0] == UNDO]
        if len(sent) != (len(did) if run.status != "succeeded" else 0):
            self.fault(f"undo: {run.id} is {run.status}, did {did} and undid {sent}")
        if LAST in flow.nodes and (run.id, LAST) not in self.ledger.effects:
            self.fault(f"finally: the last section of {run.id} did not run")

    def _told(self, run: Run, intent: Intent, events: list[Event]) -> None:
        replies = sum(isinstance(event, Replied) for event in events)
        if replies > 1 or (intent.respond != "now" and replies != 1):
            self.fault(f"I1: {run.id} answered {replies} times")
        logged = Counter(row["type"] for row in self.server.log if row["subject"] == str(run.id))
        if logged[published.FINISHED] != 1:
            self.fault(f"I8: the end of {run.id} was published {logged[published.FINISHED]} times")
        if logged[published.REPLIED] != replies:
            self.fault(f"I8: the reply of {run.id} was published {logged[published.REPLIED]} times")

    def heard(self, type: str, table: str) -> None:
        """Every event of the type had its effect in a consumer's table once."""
        counted = Counter(row["event"] for row in self.server.all(table))
        sent = {row["id"] for row in self.server.log if row["type"] == type}
        for id in sent:
            if counted[id] != 1:
                self.fault(f"I8: an event {type} had {counted[id]} effects at its consumer")


RUN_STATUS = storage.RUN.names.index("status")


def _settled(event: Event) -> Iterable[str]:
    match event:
        case Started():
            yield event.trigger
        case StepSucceeded():
            yield event.node
        case StepFailed() if event.outputs is not None or event.retry_at is None:
            yield event.node
        case StepsSkipped():
            yield from event.nodes
