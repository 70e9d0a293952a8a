"""A version that cannot take on what another has begun says so when it starts, and takes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from subgraphs.execution.runner.gate import Unreplayable
from subgraphs.platform.settings import Settings
from tests.subgraphs.execution.world import World, definition, eventually, opened

GRAPH = definition("a:manual", "b:call", edges="a>b")
NEWER = b'[{"e":"step.teleported.v9","at":1,"node":"b"}]'


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subgraphs.execution.service.GRACE", 0.1)


async def left_open(settings: Settings) -> tuple[UUID, Any]:
    """A run that is in the middle of a step when its process ends."""
    async with opened(settings) as world:
        world.executor.gate("b")
        run = UUID((await world.start(await world.release(GRAPH)))["id"])
        await eventually(lambda: len(world.executor.requests), 1)
        return run, world.caller


async def written(settings: Settings, statement: str, *values: Any) -> None:
    admin = await asyncpg.connect(settings.dsn("lf_admin"))
    try:
        await admin.execute(statement, *values)
    finally:
        await admin.close()


async def seen(world: World, run: UUID) -> Any:
    query = "query($id: ID!) { execution(id: $id) { status error { code } } }"
    return (await world.ask(query, id=str(run)))["execution"]


@pytest.mark.shows("ES-11")
async def test_events_of_another_version_keep_a_process_from_starting(fresh_settings: Callable[..., Any]) -> None:
    settings: Settings = await fresh_settings()
    run, caller = await left_open(settings)
    await written(settings, "update execution.journal set data = $1 where run = $2", NEWER, run)
    with pytest.raises(Unreplayable, match=f"run {run}") as refused:
        async with opened(settings):
            pass
    assert "LINKFLOW_REPLAY_GATE=warn" in (refused.value.next_step or "")
    async with opened(replace(settings, replay_gate="warn")) as world:
        world.caller = caller
        other = await world.start(await world.release(GRAPH))
        assert (await world.finished(other["id"]))["status"] == "SUCCEEDED"
        assert (await seen(world, run))["status"] == "RUNNING"


@pytest.mark.shows("ES-11")
async def test_a_release_that_cannot_be_compiled_keeps_a_process_from_starting(
    fresh_settings: Callable[..., Any],
) -> None:
    settings: Settings = await fresh_settings()
    await left_open(settings)
    dangling = '{"format": "linkflow/1", "nodes": [], "connections": [{"from": "a", "to": "b"}]}'
    await written(settings, "update execution.release set definition = $1", dangling)
    with pytest.raises(Unreplayable):
        async with opened(settings):
            pass


async def test_what_is_sound_starts_again(fresh_settings: Callable[..., Any]) -> None:
    settings: Settings = await fresh_settings()
    run, caller = await left_open(settings)
    async with opened(settings) as world:
        world.caller = caller
        await eventually(lambda: seen(world, run), {"status": "SUCCEEDED", "error": None})
