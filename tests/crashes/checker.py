"""What must hold after every fault, read from the database, the ledger and the record of the calls.

Numbers are those of the invariants in README.md: nothing lost (I1), nothing doubled, gapped or committed by a stale
owner (I2), outputs and effects as the model says (I3 to I5), no end undone (I6), nothing left behind (I7, I8, I11), no
process that was spared looked dead (I12).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from subgraphs.engine.run import (
    Event,
    Finished,
    Made,
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
from tests.crashes.graphs import KINDS, WHOLE_EFFECTS
from tests.crashes.rig import Rig

LAG = """
select (select count(*) from bus.held) + coalesce(sum((
  select count(*) from bus.log l where l.part = c.part and l.type = any(c.types)
  and (l.xid >= pg_snapshot_xmax(c.snap) or l.xid = any(array(select pg_snapshot_xip(c.snap)))))), 0)
from bus.pos c where c.consumer <> 'execution'
"""
STRANGERS = """
select count(*) from pg_locks l where locktype = 'advisory' and granted and mode = 'ExclusiveLock'
and database = (select oid from pg_database where datname = current_database())
"""


@dataclass
class Verdict:
    """What was found wrong, by run or in words; and what there was to see."""

    runs: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    gapped: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    effects: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    recovered: Counter[str] = field(default_factory=Counter)
    """Attempts that were begun again, by run:node."""
    again: int = 0
    """Effects at doors that do not honour the key that happened more than once; each belongs to such an attempt."""

    @property
    def wrong(self) -> dict[str, list[str]]:
        names = ("lost", "doubled", "gapped", "stale", "outputs", "effects", "undone", "left", "dead", "failed")
        return {name: found[:5] for name in names if (found := getattr(self, name))}


async def judge(rig: Rig, *, left: bool = True) -> Verdict:
    """Reads everything. `left`: also that nothing is left behind, which takes a moment after the last run."""
    verdict = Verdict(dead=list(rig.dead))
    async with rig.connected() as connection:
        heads = {row["id"]: row for row in await connection.fetch("select * from execution.run")}
        journals = await _journals(connection)
        verdict.runs = len(heads)
        known = {run for run in rig.acknowledged if run in heads}
        verdict.lost = [f"{run}: {rig.acknowledged[run]}" for run in rig.acknowledged if run not in known]
        runs = {}
        for id, head in heads.items():
            run = runs[id] = _judge_run(verdict, rig, id, head, journals.get(id, []))
            if head["status"] < CODES["succeeded"]:
                verdict.lost.append(f"{id}: {run.status}")
            if head["status"] >= CODES["succeeded"] and run.status != _expected(rig, head["workflow"]):
                verdict.failed.append(f"{id} {_name(rig, head['workflow'])}: {run.status} {head['error']}")
            if id in rig.ended and rig.ended[id] != (head["status"], head["version"]):
                verdict.undone.append(str(id))
        _effects(verdict, rig, heads)
        _outputs(verdict, rig, runs)
        if left:
            verdict.left = await _left(connection, rig)
    return verdict


async def _journals(connection: asyncpg.Connection) -> dict[UUID, list[Any]]:
    found: dict[UUID, list[Any]] = {}
    rows = await connection.fetch("select run, version, epoch, data from execution.journal order by run, version")
    for row in rows:
        found.setdefault(row["run"], []).append(row)
    return found


def _judge_run(verdict: Verdict, rig: Rig, id: UUID, head: Any, chunks: list[Any]) -> Run:
    plan = next(each.plan for each in rig.workflows.values() if each.id == head["workflow"])
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
    if any(count > 1 for count in settled.values()):
        verdict.doubled.append(f"{id}: {settled}")
    if head["status"] == CODES["succeeded"] and {node.partition("@")[0] for node in settled} != set(plan.nodes):
        verdict.doubled.append(f"{id}: settled {sorted(settled)}")
    if head["status"] >= CODES["succeeded"]:
        ends = [at for at, event in enumerate(events) if isinstance(event, Finished)]
        if ends != [len(events) - 1]:
            verdict.undone.append(str(id))
    for event in events:
        if isinstance(event, StepStarted) and event.recovered:
            verdict.recovered[f"{id}:{event.node}"] += 1
    _inflate(rig, head["tenant"], events)
    run = replay(Run.blank(id, head["tenant"], plan), events)
    verdict.statuses[run.status] += 1
    return run


def _inflate(rig: Rig, tenant: UUID, events: list[Event]) -> None:
    """The trigger's item of a large call lies in the object store."""
    first = events[0]
    if isinstance(first, Started) and first.stored is not None:
        name = first.stored["$ref"]
        data = (rig.settings.home / "objects" / str(tenant) / name[:2] / name).read_bytes()
        events[0] = msgspec.structs.replace(first, items=[Made(msgspec.json.decode(data))])


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


def _name(rig: Rig, workflow: UUID) -> str:
    return next(name for name, each in rig.workflows.items() if each.id == workflow)


def _expected(rig: Rig, workflow: UUID) -> str:
    name = _name(rig, workflow)
    return KINDS[name].status if name in KINDS else "succeeded"


def _effects(verdict: Verdict, rig: Rig, heads: Mapping[UUID, Any]) -> None:
    """I4 and I5: every effect of the model happened, none else; where it happened again, the journal shows why."""
    calls, done = rig.ledger.read()
    expected = {
        (door, f"{run}:{node}")
        for run, head in heads.items()
        if head["status"] == CODES["succeeded"]
        for door, node in _model(_name(rig, head["workflow"]))
    }
    verdict.effects += [f"missing: {each}" for each in expected - set(done)]
    verdict.effects += [f"nobody asked for: {each}" for each in set(done) - expected if UUID(each[1][:36]) in heads]
    verdict.effects += [f"not ours: {each}" for each in done if UUID(each[1][:36]) not in heads]
    for (door, key), count in done.items():
        run, _, node = key.rpartition(":")
        allowed = 1 + (verdict.recovered[f"{run}:{node.partition('-')[0]}"] if door != "idem" else 0)
        verdict.again += count - 1
        if count > allowed:
            verdict.effects.append(f"{count} times: {door} {key}")
    for (door, key), count in calls.items():
        run, _, node = key.rpartition(":")
        if door == "idem" and count > 1 + verdict.recovered[f"{run}:{node.partition('-')[0]}"]:
            verdict.effects.append(f"asked {count} times: {door} {key}")


def _model(workflow: str) -> set[tuple[str, str]]:
    if workflow == "whole":
        return WHOLE_EFFECTS
    return {(door, node) for node, door in KINDS[workflow].effects.items()} if workflow in KINDS else set()


def _outputs(verdict: Verdict, rig: Rig, runs: Mapping[UUID, Run]) -> None:
    """I3: each run ends with what its own call brought."""
    for id, run in runs.items():
        assert run.started is not None
        key = run.started.items[0].json["body"]["key"]
        if id in rig.acknowledged and rig.acknowledged[id][1] != key:
            verdict.outputs.append(f"{id} runs for another call")
        if id in rig.replies and rig.replies[id] != {"key": key}:
            verdict.outputs.append(f"{id} was answered {rig.replies[id]}")
        if run.status != "succeeded":
            continue
        name = _name(rig, run.started.workflow)  # type: ignore[arg-type]
        found = {
            node: [item.json for items in step.outputs.values() for item in items] for node, step in run.steps.items()
        }
        if name == "whole":
            right = found["join"] == [{"body": "done"}, {"body": "done"}, {"marked": key}]
            right = right and found["end"] == [{"body": "done", "key": key}] * 3
        else:
            right = name not in KINDS or found["end"] == KINDS[name].end(key)
        if not right:
            verdict.outputs.append(f"{id} {name}: {found['end']}")


async def _left(connection: asyncpg.Connection, rig: Rig) -> list[str]:
    """I7, I8, I11: what is still there after a while that should not be."""
    wrong: list[str] = []
    for _ in range(200):
        wrong = await _leftovers(connection, rig)
        if not wrong:
            break
        await asyncio.sleep(0.1)
    return wrong


async def _leftovers(connection: asyncpg.Connection, rig: Rig) -> list[str]:
    living = sum(worker.alive for worker in rig.workers)
    expected = {
        "rows of timer": ("select count(*) from execution.timer", 0),
        "rows of inbox": ("select count(*) from execution.inbox", 0),
        "events not handled": (LAG, 0),
        "workers held to be alive": ("select count(*) from bus.worker where alive", living),
        "locks of workers": (STRANGERS, living),
        "partitions without an owner": (
            f"select count(*) from bus.lease where owner is null and {living} > 0",
            0,
        ),
    }
    found = {name: (await connection.fetchval(query), right) for name, (query, right) in expected.items()}
    folder = rig.settings.home / "objects"
    blobs = await connection.fetch("select tenant, sha256 from bus.blob")
    paths = {folder / str(row["tenant"]) / row["sha256"][:2] / row["sha256"] for row in blobs}
    return [
        *(f"{count} {name}, not {right}" for name, (count, right) in found.items() if count != right),
        *(f"object {path.name} is held and gone" for path in paths if not path.exists()),
    ]


async def last_calls(rig: Rig, workflow: str = "whole", count: int = 5) -> None:
    """I13: the last calls of every client succeed at the first attempt, and their runs end."""
    for worker in rig.workers:
        await rig.ready(worker)
        for nth in range(count):
            run = await rig.sent(worker, workflow, f"last-{worker.pid}-{nth}", 10)
            told = worker.log.read_text()[-3000:] if run is None else ""
            assert run is not None, f"call {nth} of {worker.pid} was refused after healing: {rig.refusal}: {told}"
    await rig.watch(len(rig.acknowledged), 40)
