"""Live runs: first what happened, then what happens; each event once, in order, to the explicit last one."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from subgraphs.execution import watching
from subgraphs.platform.domain import uuid7
from tests.subgraphs.execution.world import WATCH, World, definition, eventually, someone

STAIRS = definition("a:manual", "b:call", "c:call", "d:set", edges="a>b b>c c>d")


async def climb(world: World) -> str:
    """A run that stands at its first gate."""
    world.executor.gates = {"b": asyncio.Event(), "c": asyncio.Event()}
    begun = await world.start(await world.release(STAIRS))
    return str(begun["id"])


@pytest.mark.shows("RT-03", "RT-19")
async def test_who_comes_late_or_comes_back_sees_what_the_first_saw(world: World) -> None:
    run = await climb(world)
    first, late, resumed = [], [], []
    async for event in world.stream(run):
        first.append(event)
        if event["node"] == "b" and event["type"] == "STEP_STARTED":
            world.executor.gate("b").set()
        if event["node"] == "c" and event["type"] == "STEP_STARTED":
            stream = world.stream(run)
            late = [await anext(stream) for _ in range(len(first))]
            world.executor.gate("c").set()
            late += [event async for event in stream]
    assert [event["seq"] for event in first] == list(range(1, len(first) + 1))
    assert [event["last"] for event in first] == [False] * (len(first) - 1) + [True]
    for after in range(len(first) + 1):
        resumed = await world.events(run, after)
        assert resumed == first[after:]
    assert late == first


@pytest.mark.shows("RT-03")
async def test_events_that_arrive_while_the_past_is_read_are_neither_lost_nor_doubled(world: World) -> None:
    """Watchers come at every moment of runs that do not stop."""
    graph = definition(
        "a:manual", *(f"n{i}:call" for i in range(12)), edges="a>n0 " + " ".join(f"n{i}>n{i + 1}" for i in range(11))
    )
    world.executor.gates = {}
    workflow = await world.release(graph)
    begun = await asyncio.gather(*(world.start(workflow) for _ in range(6)))
    streams = []
    for wave in range(6):
        streams += [asyncio.create_task(world.events(each["id"], wave % 3)) for each in begun]
        await asyncio.sleep(0)
    for at, events in enumerate(await asyncio.gather(*streams)):
        after = at // len(begun) % 3
        assert [event["seq"] for event in events] == list(range(after + 1, 27))
        assert events[-1]["last"]


async def test_each_event_is_complete_in_itself(world: World) -> None:
    run = await climb(world)
    for gate in world.executor.gates.values():
        gate.set()
    events = await world.events(run)
    done = next(event for event in events if event["type"] == "STEP_SUCCEEDED" and event["node"] == "b")
    assert done["nodeName"] == "B"
    assert done["items"] == [{"port": "main", "count": 1, "items": [{"called": "b", "attempt": 1}], "whole": True}]
    assert {event["workflowName"] for event in events} == {"Test"}
    assert [event["status"] for event in events][-1] == "SUCCEEDED"


async def test_a_stream_names_what_is_wrong_with_its_arguments(world: World) -> None:
    async def refusal(run: str, after: int, caller: Any = None) -> Any:
        context = world.context(caller)
        source: Any = await world.subgraph.schema.subscribe(WATCH, {"id": run, "after": after}, context_value=context)
        async for result in source:
            return getattr(result.errors[0].original_error, "code", None), result.errors[0].message
        return None

    run = await climb(world)
    for gate in world.executor.gates.values():
        gate.set()
    await world.finished(run)
    assert (await refusal(run, 99))[0] == "seq_unknown"
    assert (await refusal(run, -1))[0] == "seq_unknown"
    assert (await refusal("nonsense", 0))[0] == "id_malformed"
    assert (await refusal(str(uuid7()), 0))[0] == "missing"
    assert (await refusal(run, 0, someone()))[0] == "missing"


async def test_a_channel_holds_nothing_for_slow_watchers_and_ends_with_the_last(world: World) -> None:
    run = await climb(world)
    streams = [world.stream(run) for _ in range(150)]
    firsts = await asyncio.gather(*(anext(stream) for stream in streams))
    channel = world.ground.subgraphs[0].context(world.caller, None).watching.channels[world.tenant, UUID(run)]  # type: ignore[arg-type]
    assert channel.watchers == 150
    assert len({id(happening) for happening in channel.told}) == len(channel.told)
    for gate in world.executor.gates.values():
        gate.set()
    rests = await asyncio.gather(*(collected(stream) for stream in streams))
    assert all(first["seq"] == 1 for first in firsts)
    assert all([event["seq"] for event in rest] == list(range(2, 8)) for rest in rests)
    context = world.context()
    await eventually(lambda: (world.tenant, UUID(run)) not in context.watching.channels)


async def collected(stream: Any) -> list[dict[str, Any]]:
    return [event async for event in stream]


async def test_who_is_far_behind_still_sees_everything(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The channel keeps a window; what lies before it comes from the journal."""
    monkeypatch.setattr(watching, "WINDOW", 4)
    run = await climb(world)
    slow = world.stream(run)
    assert (await anext(slow))["seq"] == 1
    for gate in world.executor.gates.values():
        gate.set()
    await eventually(lambda: UUID(run) not in world.ground.ports["execution"].runs)
    assert world.context().watching.channels[world.tenant, UUID(run)].base > 1
    assert [event["seq"] for event in await world.events(run)] == list(range(1, 8))
    assert [event["seq"] for event in await collected(slow)] == list(range(2, 8))


async def test_a_stranger_who_asks_for_the_same_run_disturbs_nobody(world: World) -> None:
    run = await climb(world)
    stream = world.stream(run)
    seen = [await anext(stream)]
    stranger = world.context(someone())
    source: Any = await world.subgraph.schema.subscribe(WATCH, {"id": run, "after": 0}, context_value=stranger)
    assert [result.errors[0].original_error.code async for result in source] == ["missing"]
    for gate in world.executor.gates.values():
        gate.set()
    seen += await collected(stream)
    assert [event["seq"] for event in seen] == list(range(1, 8))
