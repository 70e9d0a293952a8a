"""The run list rebuilt from the journals equals the one in use; what differs is named and put right."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from subgraphs.engine.step import StepError
from subgraphs.execution.rebuild import Rebuilt, rebuild
from tests.subgraphs.execution.world import World, definition, eventually, opened

ROOT = Path(__file__).resolve().parents[3]


async def anew(world: World, *, switch: bool = False) -> Rebuilt:
    return await rebuild(world.ground, lambda _: None, switch=switch)


async def furnished(world: World) -> list[str]:
    """Runs that ended well, failed, were cancelled, wait, were run again, of a release and with much data."""
    plain = await world.release(definition("a:manual", "b:set", edges="a>b"))
    calls = await world.release(definition("a:manual", "c:call", edges="a>c"))
    waits = await world.release(definition("a:manual", ("w:wait", {"seconds": 3600}, {}), edges="a>w"))
    world.executor.faults["c"] = [StepError("test.no", "No. " * 10_000)]
    ended = [(await world.start(plain, input={"n": n}))["id"] for n in range(5)]
    ended += [(await world.start(calls))["id"] for _ in range(3)]
    ended.append((await world.start(plain, input={"much": "x" * 400_000}))["id"])
    for run in ended:
        await world.finished(run)
    again = "mutation($id: ID!) { rerunExecution(input: {executionId: $id}) { ... on Execution { id } } }"
    ended.append((await world.ask(again, id=ended[0]))["rerunExecution"]["id"])
    await world.finished(ended[-1])
    waiting = [(await world.start(waits))["id"] for _ in range(2)]
    cancel = 'mutation($id: ID!) { cancelExecution(input: {executionId: $id, reason: "enough"}) { __typename } }'
    await world.ask(cancel, id=waiting[0])
    return [*ended, *waiting]


@pytest.mark.shows("ES-08", "CQ-06")
async def test_the_list_rebuilt_from_zero_equals_the_one_in_use(fresh_settings: Callable[..., Any]) -> None:
    async with opened(await fresh_settings()) as world:
        runs = await furnished(world)
        admin = await asyncpg.connect(world.ground.settings.dsn("lf_admin"))
        found = await anew(world)
        assert (found.folded, found.differing, found.unreadable, found.done) == (len(runs), 0, 0, True)
        await admin.execute("update execution.run set status = 5, name = 'wrong', error = null where id = $1", runs[0])
        await admin.execute("update execution.run set finished_at = now(), workflow = null where id = $1", runs[1])
        before = await anew(world)
        assert before.put_right == 0
        named = {each["run"]: set(each["columns"]) for each in before.named}
        assert named == {runs[0]: {"status", "name"}, runs[1]: {"finished_at", "workflow"}}
        assert (await anew(world, switch=True)).put_right == 2
        assert (await anew(world)).differing == 0
        assert (await world.finished(runs[0]))["workflowName"] == "Test"
        await admin.execute("delete from execution.journal where run = $1", runs[2])
        assert (await anew(world)).unreadable == 1
        assert await admin.fetchval("select to_regclass('execution.run_anew')") is None
        await admin.close()


@pytest.mark.shows("ES-08")
async def test_runs_go_on_while_it_is_rebuilt(fresh_settings: Callable[..., Any]) -> None:
    """Rebuilt over and over under load, with switching: nothing an owner commits is undone."""
    async with opened(await fresh_settings()) as world:
        workflow = await world.release(
            definition("a:manual", *(f"c{n}:call" for n in range(5)), edges="a>c0 c0>c1 c1>c2 c2>c3 c3>c4")
        )
        busy = asyncio.gather(*(world.start(workflow) for _ in range(60)))
        for _ in range(4):
            assert (await anew(world, switch=True)).differing == 0
        begun = await busy
        admin = await asyncpg.connect(world.ground.settings.dsn("lf_admin"))
        await eventually(lambda: admin.fetchval("select count(*) from execution.run where status = 4"), len(begun))
        await admin.close()
        assert (await anew(world)).differing == 0


@pytest.mark.shows("ES-08")
async def test_the_command_tells_how_far_it_is_and_how_it_ended(fresh_settings: Callable[..., Any]) -> None:
    settings = await fresh_settings()
    async with opened(settings) as world:
        run = (await world.start(await world.release(definition("a:manual", "b:set", edges="a>b"))))["id"]
        await world.finished(run)
        admin = await asyncpg.connect(settings.dsn("lf_admin"))
        await admin.execute("update execution.run set name = 'wrong'")
        await admin.close()
    for words, code in ((["--json"], 1), (["--json", "--switch"], 0), ([], 0)):
        command = [sys.executable, "-m", "subgraphs.platform.cli", "rebuild", "execution", *words]
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            env=settings.environment() | {"PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr
        last = done.stdout.splitlines()[-1]
        if "--json" in words:
            told = json.loads(last)
            assert (told["folded"], told["differing"], told["put_right"]) == (1, 1, int("--switch" in words))
        else:
            assert last == "execution: 1 runs folded, 0 differ from their journals, 0 put right, 0 unreadable"
