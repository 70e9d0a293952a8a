"""The executor of the simulation, and the receivers that hear of effects: the ledger of what left the system."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

from subgraphs.engine.step import Reply, StepError, StepOutcome, StepRequest, Wait
from tests.simulation.workload import ERRORS, body, kind

if TYPE_CHECKING:
    from tests.simulation.judge import Judge


@dataclass
class Ledger:
    """What the outside saw, never faulted. `calls` counts begun bodies by step, `effects` what each step sent, as
    (idempotency key sent, attempt, payload)."""

    calls: dict[tuple[UUID, str], int] = field(default_factory=dict)
    effects: dict[tuple[UUID, str], list[tuple[str, int, Any]]] = field(default_factory=dict)

    def call(self, request: StepRequest) -> int:
        step = (request.execution, request.node)
        self.calls[step] = self.calls.get(step, 0) + 1
        return self.calls[step]

    def receive(self, request: StepRequest) -> None:
        items = [item.json for port in request.inputs.values() for item in port]
        sent = (request.idempotency_key, request.attempt, items)
        self.effects.setdefault((request.execution, request.node), []).append(sent)


class SimExecutor:
    """Runs bodies in virtual time. Those that reach outside take their time, and send their effect somewhere in it."""

    def __init__(self, random: Random, judge: Judge, *, remote: bool, slow: float) -> None:
        self.random, self.judge, self.ledger = random, judge, judge.ledger
        self.remote, self.slow = remote, slow

    def run_pure(self, request: StepRequest) -> StepOutcome:
        return self._outcome(request, self.ledger.call(request))

    async def run(self, request: StepRequest) -> StepOutcome:
        keyed = not request.type.endswith(".pure")
        if keyed:
            self.judge.began(request)
        call = self.ledger.call(request)
        before, after = self.random.random() * 0.05, self.random.random() * 0.05
        if self.random.random() < self.slow:
            before *= 100
        await asyncio.sleep(before)
        outcome = self._outcome(request, call)
        if keyed and outcome.error is None:
            self.ledger.receive(request)
        await asyncio.sleep(after)
        return outcome

    async def probe(self, request: StepRequest) -> bool | None:
        """Nobody knows."""
        return None

    def _outcome(self, request: StepRequest, call: int) -> StepOutcome:
        does = kind(request.type)
        if does in ERRORS:
            return StepOutcome(error=StepError(ERRORS[does]["code"], ERRORS[does]["message"], ERRORS[does]["kind"]))
        if call <= request.parameters["failures"]:
            return StepOutcome(error=StepError("sim.flaky", "Not yet.", "infrastructure"))
        if does == "wait":
            return StepOutcome(wait=Wait(request.now + timedelta(seconds=request.parameters["seconds"])))
        items = [item for port in request.inputs.values() for item in port]
        reply = Reply(201, {}, items[0].json) if does == "respond" else None
        return StepOutcome(outputs=body(does, items, request.node), reply=reply)
