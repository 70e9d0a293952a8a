"""The standing check sees a limit that is exceeded and a place that was not given back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest

from tests.subgraphs.execution.limits.test_limits import closed, limited, statuses
from tests.subgraphs.execution.test_invariants import look, violations
from tests.subgraphs.execution.world import World, eventually, opened


@pytest.fixture
async def house(fresh_settings: Callable[..., Any]) -> AsyncIterator[World]:
    async with opened(await fresh_settings()) as found:
        yield found


@pytest.mark.shows("EX-14", "EX-17", "EX-30")
async def test_one_run_too_many_and_a_place_nobody_gave_back_are_found(house: World) -> None:
    gate = closed(house, "work")
    workflow = await house.release(limited(concurrency={"limit": 1}))
    runs = [await house.call(workflow, {}, "hook") for _ in range(2)]
    await eventually(lambda: statuses(house, workflow), ["RUNNING", "QUEUED"])
    await look(house)
    assert violations(house) == {}
    admin = await asyncpg.connect(house.ground.settings.dsn("lf_admin"))
    await admin.execute(
        "insert into execution.verdict select t.tenant, t.run, t.gate, t.part, t.at, null, 0 "
        "from execution.ticket t where t.run = $1",
        runs[1],
    )
    await look(house)
    assert violations(house) == {"limit.exceeded": 1}
    await admin.execute("delete from execution.verdict where run = $1", runs[1])
    await look(house)
    assert violations(house) == {}
    gate.set()
    for run in runs:
        await house.finished(run)
    await admin.execute(
        "insert into execution.ticket values ($1, $2, $2, 0, 0, $3, 'concurrency', '', 0, 0, '', '{}')",
        house.tenant,
        runs[0],
        workflow,
    )
    await look(house)
    assert violations(house) == {"place.leaked": 1}
    await admin.close()
