"""Short ways to say a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from subgraphs.executor.sandbox import Answer, Job, Sandbox

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def job(
    code: str,
    items: Sequence[Mapping[str, Any]] = (),
    *,
    mode: str = "all",
    wall: float = 20.0,
    seed: int = 7,
    scope: Mapping[str, Any] | None = None,
) -> Job:
    return Job(code=code, mode=mode, items=items, scope=scope or {}, now=NOW, seed=seed, wall=wall)


def jsons(answer: Answer) -> list[dict[str, Any]]:
    assert answer.error is None, answer.error
    return [made.json for made in answer.items]


async def serves(box: Sandbox) -> None:
    """The next good job is answered correctly."""
    answer = await box.run(job("return items.map((item) => ({ twice: item.n * 2 }))", [{"n": 1}, {"n": 21}]))
    assert jsons(answer) == [{"twice": 2}, {"twice": 42}]
