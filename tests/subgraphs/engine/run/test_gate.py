"""The replay gate: this build takes runs as earlier builds recorded them, and a change of mind is caught."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pytest

from subgraphs.engine.run import Fire, Plan, decide, decode, encode, restore
from subgraphs.engine.run.gate import Verdict, replay
from tests.subgraphs.engine.run.recording import told

HISTORIES = Path(__file__).parent / "histories"


class History(NamedTuple):
    """One recorded run."""

    name: str
    plan: Plan
    chunks: list[bytes]
    end: dict[str, Any]


def histories() -> Iterator[History]:
    for path in sorted(HISTORIES.glob("*.jsonl")):
        head: dict[str, Any] = {}
        chunks: list[bytes] = []
        for line in path.read_bytes().splitlines():
            if line.startswith(b"["):
                chunks.append(line)
                continue
            value = msgspec.json.decode(line)
            if "end" in value:
                yield History(head["name"], Plan.of(head["definition"], head["types"]), chunks, value["end"])
                chunks = []
            else:
                head = value


def gate(history: History, chunks: list[bytes] | None = None) -> Verdict:
    return replay(history.plan, history.chunks if chunks is None else chunks, UUID(int=1), UUID(int=2))


RECORDED = list(histories())


@pytest.mark.shows("ES-11", "ES-10")
def test_every_recorded_run_replays_without_divergence_and_ends_where_it_ended() -> None:
    assert len(RECORDED) > 200
    decided = events = 0
    for history in RECORDED:
        verdict = gate(history)
        assert verdict.divergence is None, (history.name, verdict.divergence)
        assert msgspec.json.decode(msgspec.json.encode(told(verdict.run))) == history.end, history.name
        decided, events = decided + verdict.decided, events + verdict.run.version
    assert decided > events * 0.9


@pytest.mark.shows("ES-11")
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("retry-fixed", lambda text: text.replace(b'"retry_at":17000000', b'"retry_at":17000001')),
        ("gate", lambda text: text.replace(b'"nodes":["c"]', b'"nodes":["d"]')),
        ("wait-too-long", lambda text: text.replace(b"step.wait_timeout", b"step.wait_tiemout")),
        ("branches", lambda text: text.replace(b"step.started.v1", b"step.started.v9")),
        ("reply-done", lambda text: text.replace(b'"reply":{"status":200', b'"reply":{"status":201')),
        ("cancel", lambda text: text.replace(b'"status":"cancelled"', b'"status":"succeeded"')),
    ],
)  # fmt: skip
def test_a_run_that_this_build_would_take_another_way_is_caught(name: str, change: Any) -> None:
    history = next(each for each in RECORDED if each.name == name)
    changed = [change(chunk) for chunk in history.chunks]
    assert changed != history.chunks
    assert gate(history, changed).divergence is not None


@pytest.mark.shows("ES-03", "ES-10")
@pytest.mark.parametrize("path", sorted((HISTORIES / "snapshots").glob("*.json")), ids=lambda path: path.stem)
def test_a_snapshot_of_an_earlier_build_is_the_run_its_journal_tells(path: Path) -> None:
    history = next(each for each in RECORDED if each.name == path.stem)
    restored = restore(UUID(int=1), UUID(int=2), history.plan, path.read_bytes())
    assert msgspec.json.decode(msgspec.json.encode(told(restored))) == history.end
    for timer, due in restored.timers.items():
        assert decide(restored, Fire(due, timer))


@pytest.mark.shows("ES-11")
def test_an_event_that_cannot_be_applied_is_told_with_its_place() -> None:
    history = next(each for each in RECORDED if each.name == "chain")
    events = [event for chunk in history.chunks for event in decode(chunk)]
    verdict = gate(history, [encode(events[:1]), encode(events[4:])])
    assert verdict.divergence is not None
    assert verdict.divergence.version == 2
    assert "cannot be applied" in verdict.divergence.now
