"""Finds what is due: timers whose time has come by the database's clock, and mail in the runs' inboxes."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import structlog

from subgraphs.engine.run import Command, Fire
from subgraphs.execution.domain import journal_time
from subgraphs.execution.limits.letters import admission
from subgraphs.execution.runner import letters
from subgraphs.execution.runner.runner import Runner
from subgraphs.execution.runner.store import Row, Store
from subgraphs.execution.storage import AT_ONCE

log = structlog.get_logger("linkflow.execution")

EVERY = 0.25  # seconds; a timer fires at most this much late, and a look costs one index probe
MAIL_EVERY = 4  # looks; mail also wakes us
CLEAN_EVERY = 2400  # looks between removals of idempotency keys whose time is over


class Sweep:
    """A loop over the partitions this process owns."""

    def __init__(self, runner: Runner, store: Store) -> None:
        self.runner, self.store = runner, store
        self._woken = asyncio.Event()
        self._mail = True
        self._looks = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._loop())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def wake(self, _partition: int) -> None:
        """There is mail."""
        self._mail = True
        self._woken.set()

    async def _loop(self) -> None:
        while True:
            self._looks += 1
            try:
                await self._look(mail=self._mail or self._looks % MAIL_EVERY == 0)
            except Exception:  # a tick's boundary: the next look finds the same rows
                log.exception("sweep_failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY):  # wait_for of Python 3.11 loses a cancellation
                    await self._woken.wait()

    async def _look(self, *, mail: bool) -> None:
        parts = list(self.runner.leases.owned)
        self._woken.clear()
        if not parts:
            return
        if not self.runner.draining:
            await self._timers(parts)
        if self._looks % CLEAN_EVERY == 0:
            await self.store.expire()
        if mail:
            self._mail = False
            await self._letters(parts)

    async def _timers(self, parts: list[int]) -> None:
        rows = await self.store.due(parts)
        if not rows:
            return
        found = await self.runner.obtain((row["tenant"], row["run"]) for row in rows)
        runs = {live.run.id: live for live in found}
        for row in rows:
            live = runs.get(row["run"])
            if live is None:
                await self.store.over((row["tenant"], row["run"]), row["name"])
                continue
            due = journal_time(row["due"]) + 1
            # The run may have set a timer of the same name anew since the row was read: that one is not due, whatever
            # our clock says, which may be ahead of the database's.
            if live.run.alarms.get(row["name"], due) <= due:
                self.runner.ask(live, Fire(at=max(self.runner.clock.now(), due), timer=row["name"]))
        for live in found:
            self.runner.push(live)
        if len(rows) == AT_ONCE:  # there are more: as soon as these are committed
            pumps = [live.pump for live in found if live.pump is not None]
            if pumps:
                await asyncio.wait(pumps, timeout=EVERY)
            self._woken.set()

    async def _letters(self, parts: list[int]) -> None:
        rows = await self.store.letters(parts)
        if not rows:
            return
        await self.runner.obtain((row["tenant"], row["run"]) for row in rows)
        for row in rows:
            await self._letter(row)

    async def _letter(self, row: Row) -> None:
        live = self.runner.runs.get(row["run"])
        if live is None:
            key = (row["tenant"], row["run"])
            if await self.store.final(key):
                await self.store.discard(key, row["id"])
            return
        if row["id"] in live.mail or row["id"] in live.early:
            return
        at = self.runner.clock.now()
        try:
            if row["kind"] == "admit":
                data = msgspec.json.decode(row["data"])
                asked: Command = await admission(at, row["tenant"], row["run"], data, self.runner)
            else:
                asked = await letters.command(self.runner.objects, row, at)
        except letters.Unknown as kind:
            log.warning("letter_unknown", execution=str(row["run"]), kind=str(kind))
            return
        self.runner.read(live, row["id"], asked)
