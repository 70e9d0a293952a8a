"""Large payloads lie in the object store, durable before the reference commits; no journal row exceeds 1 MB."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from subgraphs.execution.runner import live
from subgraphs.platform.objects import Ref
from subgraphs.platform.writer import Unit
from tests.subgraphs.execution.world import World, definition

BIG = "x" * 2_500_000
LIMIT = 1_048_576


async def rows(world: World, run: str) -> list[bytes]:
    found = await world.ground.database.engine.fetch(
        "select data from execution.journal where run = $1 order by version", UUID(run)
    )
    return [bytes(row["data"]) for row in found]


async def held(world: World, run: str) -> set[str]:
    found = await world.ground.database.engine.fetch("select sha256 from bus.blob where holder = $1", UUID(run))
    return {row["sha256"] for row in found}


@pytest.mark.shows("CC-01", "CC-03", "CC-05")
async def test_a_step_that_puts_out_megabytes_is_kept_by_reference(world: World) -> None:
    graph = definition("a:manual", ("b:set", {"big": BIG}, {}), "c:set", edges="a>b b>c")
    begun = await world.start(await world.release(graph))
    run = await world.finished(begun["id"])
    assert run["steps"][2]["output"]["main"][0]["big"] == BIG
    kept = await rows(world, begun["id"])
    assert all(len(row) <= LIMIT for row in kept)
    (reference,) = [Ref.of(msgspec.json.decode(row)) for row in kept]
    assert reference is not None
    assert await held(world, begun["id"]) == {reference.sha256}
    stored = await world.ground.objects.get(world.tenant, reference)
    assert stored.count(BIG.encode()) == 1


@pytest.mark.shows("CC-01", "CC-03")
async def test_a_large_start_travels_and_stays_by_reference_and_can_be_repeated(world: World) -> None:
    workflow = await world.release(definition("a:manual", "b:set", edges="a>b"))
    begun = await world.start(workflow, input={"big": BIG})
    run = await world.finished(begun["id"])
    assert run["trigger"]["items"] == [{"big": BIG}]
    assert sum(map(len, await rows(world, begun["id"]))) < 2_000
    again = await world.ask(
        "mutation($id: ID!) { rerunExecution(input: {executionId: $id}) { ... on Execution { id } } }", id=begun["id"]
    )
    second = await world.finished(again["rerunExecution"]["id"])
    assert second["steps"][1]["output"] == {"main": [{"big": BIG}]}
    assert await held(world, begun["id"]) == await held(world, second["id"]) != set()


@pytest.mark.shows("CC-02")
async def test_an_input_that_only_looks_like_a_reference_is_data(world: World) -> None:
    workflow = await world.release(definition("a:manual", "b:set", edges="a>b"))
    fake = {"$ref": "0" * 64, "size": 3}
    run = await world.finished((await world.start(workflow, input=fake))["id"])
    assert run["trigger"]["items"] == [fake]


@pytest.mark.shows("WH-19", "CC-03")
async def test_a_large_reply_is_handed_over_by_reference(world: World) -> None:
    reference = await world.ground.objects.put(world.tenant, msgspec.json.encode({"body": BIG}))
    workflow = await world.release(definition("hook:webhook", "answer:respond", edges="hook>answer"))
    heard: list[Any] = []
    stop = world.ground.bus.listen(["execution.execution.replied.v1"], heard.append)
    made = await world.call(workflow, reference.json(), "hook", mode="node", address="here")
    await world.finished(made)
    stop()
    (reply,) = heard
    body = Ref.of(reply.data["body"])
    assert body is not None
    assert msgspec.json.decode(await world.ground.objects.get(world.tenant, body)) == {"body": BIG}


@pytest.mark.shows("CC-01", "CC-02")
@pytest.mark.parametrize(("size", "inline"), [(999, True), (1000, True), (1001, False)])
async def test_the_limit_is_exact(world: World, size: int, inline: bool) -> None:
    unit = Unit(world.tenant, UUID(int=1), 0, 0, 0, 1, "execution.run", ())
    data = await live._checked(unit, b"y" * size, world.ground.objects, 1000)
    assert (data == b"y" * size) == inline
    assert bool(unit.rows) != inline


async def test_a_step_that_puts_out_more_than_is_kept_fails_typed_and_the_run_keeps_the_rest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.ground.ports["execution"], "most", 1_000_000)
    big = ("b:set", {"big": BIG}, {"onError": "output"})
    graph = definition("a:manual", big, "after:set", edges="a>b b.error>after")
    run = await world.finished((await world.start(await world.release(graph), input={"n": 1}))["id"])
    assert run["status"] == "SUCCEEDED"
    error = run["steps"][2]["input"]["main"][0]["error"]
    assert (error["code"], error["kind"], error["detail"]["limit"]) == ("step.output_too_large", "limit", 1_000_000)
    assert run["steps"][0]["output"] == {"main": [{"n": 1}]}
