"""What must hold after every fault, read from the database alone: nothing lost, nothing doubled, no end undone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg

from subgraphs.engine.run import (
    Event,
    Finished,
    Plan,
    Run,
    Started,
    StepFailed,
    StepsSkipped,
    StepStarted,
    StepSucceeded,
    decode,
    replay,
)
from subgraphs.execution.domain import CODES


@dataclass
class Verdict:
    """Runs that were lost (I1), stepped twice (I2), gapped (I2), changed after their end (I6), left work behind."""

    runs: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    gapped: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    recovered: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    outputs: dict[UUID, dict[str, Any]] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.gapped or self.undone or self.stale or self.left)


async def judge(
    connection: asyncpg.Connection, acknowledged: Iterable[UUID], plan: Plan, ended: Mapping[UUID, tuple[int, int]]
) -> Verdict:
    """`ended`: what runs ended as when first seen ended, (status, version)."""
    verdict = Verdict()
    heads = {row["id"]: row for row in await connection.fetch("select * from execution.run")}
    rows = await connection.fetch("select run, version, epoch, data from execution.journal order by run, version")
    journals: dict[UUID, list[Any]] = {}
    for row in rows:
        journals.setdefault(row["run"], []).append(row)
    verdict.runs = len(heads)
    verdict.lost = [str(id) for id in acknowledged if id not in heads or heads[id]["status"] < CODES["succeeded"]]
    for id, head in heads.items():
        _judge_run(verdict, id, head, journals.get(id, []), plan)
        if id in ended and ended[id] != (head["status"], head["version"]):
            verdict.undone.append(str(id))
    for table in ("timer", "inbox"):
        if count := await connection.fetchval(f"select count(*) from execution.{table}"):
            verdict.left[table] = count
    return verdict


def _judge_run(verdict: Verdict, id: UUID, head: Any, chunks: list[Any], plan: Plan) -> None:
    events: list[Event] = []
    for chunk in chunks:
        events += decode(bytes(chunk["data"]))
        if chunk["version"] != len(events):
            verdict.gapped.append(str(id))
    if head["version"] != len(events):
        verdict.gapped.append(str(id))
    epochs = [chunk["epoch"] for chunk in chunks]
    if epochs != sorted(epochs):
        verdict.stale.append(str(id))
    settled = Counter(node for event in events for node in _settled(event))
    if any(count > 1 for count in settled.values()) or set(settled) != set(plan.nodes):
        verdict.doubled.append(str(id))
    if [at for at, event in enumerate(events) if isinstance(event, Finished)] != [len(events) - 1]:
        verdict.undone.append(str(id))
    for event in events:
        if isinstance(event, StepStarted) and event.recovered:
            verdict.recovered[f"{id}:{event.node}"] += 1
    run = replay(Run.blank(id, head["tenant"], plan), events)
    verdict.statuses[run.status] += 1
    verdict.outputs[id] = {
        node: [item.json for items in step.outputs.values() for item in items] for node, step in run.steps.items()
    }


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
