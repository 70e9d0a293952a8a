"""The run list made anew from the journals, beside the one in use: folded, compared, and put right where it differs.

Runs go on meanwhile. Each is folded from its first event, without snapshots; those that moved while they were folded
are folded again. A row is only put right if its run is still at the version that was folded, so what its owner commits
in between stands. Epoch and partition are not in the journal: they are the fence of the owner, and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID

import asyncpg

from subgraphs.engine.run import Run, Started, replay
from subgraphs.execution.runner.live import Live, cut
from subgraphs.execution.runner.loading import Loading, Plans
from subgraphs.execution.runner.store import PostgresStore
from subgraphs.execution.storage import RUN
from subgraphs.platform.leases import Lease
from subgraphs.platform.server import Ground

BATCH = 200
ROUNDS = 5  # over runs that moved meanwhile
KEPT = ("epoch", "part")
SHOWN = 20  # differing runs that are named

NAMES = ", ".join(RUN.names)
BESIDE = (
    "drop table if exists execution.run_anew",
    "create unlogged table execution.run_anew (like execution.run including defaults, primary key (tenant, id))",
    "alter table execution.run_anew enable row level security",
    "grant select, insert, delete on execution.run_anew to lf_engine",
    "create policy engine on execution.run_anew to lf_engine using (true) with check (true)",
)
DROP = "drop table if exists execution.run_anew"
NEXT = "select * from execution.run where (tenant, id) > ($1, $2) order by tenant, id limit $3"
STRETCH = """
select data from execution.journal where tenant = $1 and run = $2 and version > $3 order by version limit 100
"""
MOVED = f"""
select r.* from execution.run r join execution.run_anew a on a.tenant = r.tenant and a.id = r.id
where a.version <> r.version limit {BATCH}
"""  # noqa: S608
_PLACES = ", ".join(f"${n + 1}" for n in range(len(RUN.names)))
INSERT = f"insert into execution.run_anew ({NAMES}) values ({_PLACES})"  # noqa: S608
FORGET = "delete from execution.run_anew where (tenant, id) in (select * from unnest($1::uuid[], $2::uuid[]))"
_COMPARED = [name for name in RUN.names if name not in (*KEPT, "tenant", "id", "version")]
DIFFERING = f"""
select r.tenant, r.id, array_remove(array[{
    ", ".join(f"case when r.{name} is distinct from a.{name} then '{name}' end" for name in _COMPARED)
}], null) as columns
from execution.run r join execution.run_anew a on a.tenant = r.tenant and a.id = r.id and a.version = r.version
where ({", ".join(f"r.{name}" for name in _COMPARED)}) is distinct from ({", ".join(f"a.{name}" for name in _COMPARED)})
"""  # noqa: S608
PUT_RIGHT = f"""
update execution.run r set {", ".join(f"{name} = a.{name}" for name in _COMPARED)} from execution.run_anew a
where a.tenant = r.tenant and a.id = r.id and a.version = r.version
and ({", ".join(f"r.{name}" for name in _COMPARED)}) is distinct from ({", ".join(f"a.{name}" for name in _COMPARED)})
"""  # noqa: S608


@dataclass(slots=True)
class Rebuilt:
    """How far it is, and how it ended. `differing`: runs whose row says something else than their journal, the first
    of them with the columns; `unreadable`: runs whose journal cannot be folded."""

    runs: int = 0
    folded: int = 0
    unreadable: int = 0
    differing: int = 0
    put_right: int = 0
    done: bool = False
    named: list[dict[str, Any]] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        if not self.done:
            return f"execution: {self.folded} of {self.runs} runs folded"
        named = "".join(f"\n    {each['run']}: {', '.join(each['columns'])}" for each in self.named)
        return (
            f"execution: {self.folded} runs folded, {self.differing} differ from their journals, "
            f"{self.put_right} put right, {self.unreadable} unreadable{named}"
        )


class Rebuild:
    """One rebuild; `tell` hears how far it is."""

    def __init__(self, ground: Ground, tell: Callable[[Rebuilt], None]) -> None:
        store = PostgresStore(ground.database.engine)  # type: ignore[arg-type]
        self.pool, self.settings, self.tell = ground.database.engine, ground.settings, tell
        self.loading = Loading(store, ground.objects, Plans(store))
        self.state = Rebuilt()

    async def run(self, switch: bool) -> Rebuilt:
        """Folds and compares; with `switch` puts right what differs."""
        owner = await asyncpg.connect(self.settings.dsn("lf_migrate"))
        try:
            for statement in BESIDE:
                await owner.execute(statement)
            await self._fold_all()
            for _ in range(ROUNDS):
                if not await self._fold_moved():
                    break
            await self._compare(switch)
        finally:
            await owner.execute(DROP)
            await owner.close()
        return self.state

    async def _fold_all(self) -> None:
        self.state.runs = await self.pool.fetchval("select count(*) from execution.run")
        tenant = id = UUID(int=0)
        while rows := await self.pool.fetch(NEXT, tenant, id, BATCH):
            await self._fold(rows)
            tenant, id = rows[-1]["tenant"], rows[-1]["id"]
            self.tell(self.state)

    async def _fold_moved(self) -> bool:
        """Folds again what moved while it was folded; whether there was any."""
        rows = await self.pool.fetch(MOVED)
        if rows:
            await self.pool.execute(FORGET, [row["tenant"] for row in rows], [row["id"] for row in rows])
            self.state.folded -= len(rows)
            await self._fold(rows)
        return bool(rows)

    async def _fold(self, rows: Sequence[Any]) -> None:
        made = []
        for row in rows:
            try:
                made.append(await self._row(row))
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                raise
            except Exception:  # noqa: BLE001 - one run's: it is counted, and the others go on
                self.state.unreadable += 1
        await self.pool.executemany(INSERT, made)
        self.state.folded += len(made)

    async def _row(self, row: Any) -> tuple[Any, ...]:
        """The head of a run as its journal has it, read a stretch at a time."""
        folded: Run | None = None
        key = (row["tenant"], row["id"])
        while folded is None or folded.version < row["version"]:
            chunks = await self._stretch(key, folded.version if folded is not None else 0)
            if not chunks:
                raise LookupError(f"the journal of {key[1]} ends early")
            for chunk in chunks:
                events = await self.loading.events(key[0], bytes(chunk["data"]))
                if folded is None:
                    started = events[0]
                    assert isinstance(started, Started)  # noqa: S101 - the first event of every run
                    folded = Run.blank(key[1], key[0], await self.loading.plans.of(key[0], started))
                replay(folded, events)
        return cut(Live(folded, Lease(row["part"], row["epoch"]), folded.version, folded.version)).unit.head

    async def _stretch(self, key: tuple[UUID, UUID], after: int) -> Sequence[Any]:
        found: Sequence[Any] = await self.pool.fetch(STRETCH, *key, after)
        return found

    async def _compare(self, switch: bool) -> None:
        rows = await self.pool.fetch(DIFFERING)
        self.state.differing = len(rows)
        self.state.named = [{"run": str(row["id"]), "columns": list(row["columns"])} for row in rows[:SHOWN]]
        if switch:
            self.state.put_right = int((await self.pool.execute(PUT_RIGHT)).split()[-1])
        self.state.done = True
        self.tell(self.state)


async def rebuild(ground: Ground, tell: Callable[[Rebuilt], None], *, switch: bool) -> Rebuilt:
    """Makes the run list anew from the journals and compares; see the module."""
    return await Rebuild(ground, tell).run(switch)
