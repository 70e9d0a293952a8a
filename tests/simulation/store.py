"""The runner's store on the simulated server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from subgraphs.engine.run import STATUSES
from subgraphs.execution import storage
from subgraphs.execution.domain import CODES
from subgraphs.execution.runner.store import Key, Row
from tests.simulation.driver import Pool, columns

RELEASE = storage.release.fullname


class SimStore:
    """Answers as `PostgresStore` does; each method is one statement."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.server = pool.wire.server

    def _all(self, table: str, keys: Sequence[Key]) -> list[dict[str, Any]]:
        wanted = set(keys)
        return [row for row in self.server.all(table) if (row["tenant"], row["run"]) in wanted]

    async def open(self, part: int) -> list[Key]:
        def work() -> list[Key]:
            rows = self.server.all(storage.RUN.name)
            return [
                (row["tenant"], row["id"]) for row in rows if row["part"] == part and STATUSES[row["status"]] in OPEN
            ]

        return list(await self.pool.call(work))

    async def unfinished(self, count: int) -> list[Key]:
        def work() -> list[Key]:
            rows = sorted(self.server.all(storage.RUN.name), key=lambda row: row["id"].int, reverse=True)
            return [(row["tenant"], row["id"]) for row in rows if row["status"] < CODES["succeeded"]][:count]

        return list(await self.pool.call(work))

    async def newest_releases(self, count: int) -> Sequence[Row]:
        def work() -> list[Row]:
            newest: dict[Any, Row] = {}
            for row in sorted(self.server.all(RELEASE), key=lambda row: row["release"]):
                newest[(row["tenant"], row["workflow"])] = row
            return list(newest.values())[:count]

        return list(await self.pool.call(work))

    async def heads(self, keys: Sequence[Key]) -> Sequence[Row]:
        def work() -> list[Row]:
            found = (self.server.row(storage.RUN.name, key) for key in keys)
            return [row for row in found if row is not None]

        return list(await self.pool.call(work))

    async def snapshots(self, keys: Sequence[Key]) -> Sequence[Row]:
        def work() -> list[Row]:
            latest: dict[Any, dict[str, Any]] = {}
            for row in sorted(self._all(storage.SNAPSHOT.name, keys), key=lambda row: row["version"]):
                latest[row["run"]] = row
            return list(latest.values())

        return list(await self.pool.call(work))

    async def chunks(self, keys: Sequence[Key], after: Sequence[int]) -> Sequence[Row]:
        since = {run: version for (_, run), version in zip(keys, after, strict=True)}

        def work() -> list[dict[str, Any]]:
            rows = [row for row in self._all(storage.JOURNAL.name, keys) if row["version"] > since[row["run"]]]
            return sorted(rows, key=lambda row: (row["tenant"].int, row["run"].int, row["version"]))

        return list(await self.pool.call(work))

    async def release(self, tenant: UUID, workflow: UUID, number: int) -> Row | None:
        found: Row | None = await self.pool.call(lambda: self.server.row(RELEASE, (tenant, workflow, number)))
        return found

    async def newest(self, tenant: UUID, workflow: UUID) -> int | None:
        def found() -> int | None:
            rows = [row for row in self.server.all(RELEASE) if (row["tenant"], row["workflow"]) == (tenant, workflow)]
            return max((int(row["release"]) for row in rows), default=None)

        newest: int | None = await self.pool.call(found)
        return newest

    async def versions(self, keys: Sequence[Key]) -> Sequence[Row]:
        return columns(await self.heads(keys), "id", "version")

    async def due(self, parts: Sequence[int]) -> Sequence[Row]:
        def work() -> list[dict[str, Any]]:
            now = self.server.now()
            rows = [row for row in self.server.all(storage.TIMER.name) if row["part"] in parts and row["due"] <= now]
            return sorted(rows, key=lambda row: row["due"])[: storage.AT_ONCE]

        found = list(await self.pool.call(work))
        if found:
            await asyncio.sleep(self.pool.wire.dawdle())  # others go on meanwhile, and what was read grows old
        return found

    async def letters(self, parts: Sequence[int]) -> Sequence[Row]:
        def work() -> list[dict[str, Any]]:
            rows = [row for row in self.server.all(storage.INBOX.name) if row["part"] in parts]
            return rows[: storage.AT_ONCE]  # as written

        return list(await self.pool.call(work))

    def _final(self, key: Key) -> bool:
        row = self.server.row(storage.RUN.name, key)
        return row is not None and row["status"] >= CODES["succeeded"]

    async def final(self, key: Key) -> bool:
        return bool(await self.pool.call(lambda: self._final(key)))

    async def over(self, key: Key, name: str) -> None:
        def work() -> None:
            if self._final(key):
                self.server.rows[storage.TIMER.name].pop((*key, name), None)

        await self.pool.call(work)

    async def discard(self, key: Key, id: UUID) -> None:
        def work() -> None:
            if self.server.rows[storage.INBOX.name].pop((*key, id), None) is not None:
                self.pool.wire.note("discarded", key, id, self._final(key))

        await self.pool.call(work)

    async def expire(self) -> None:
        def work() -> None:
            now, rows = self.server.now(), self.server.rows[storage.START_KEY.name]
            until = storage.START_KEY.names.index("until")
            for key in [key for key, row in rows.items() if row[until] < now]:
                del rows[key]

        await self.pool.call(work)


OPEN = frozenset({"running"})
