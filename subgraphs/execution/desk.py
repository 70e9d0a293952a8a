"""What commands need of the world, on the real ground: the group commit, the database, the object store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import msgspec
from sqlalchemy import delete, literal, select
from sqlalchemy.dialects.postgresql import insert

from subgraphs.engine.run import Run
from subgraphs.execution import queries
from subgraphs.execution.domain import CODES, KEY_HOURS, Answer, Claim, Head, Held, Pause
from subgraphs.execution.storage import START_KEY, answered, delegation, inbox, opened, paused, run, wait
from subgraphs.execution.waits import OpenWait
from subgraphs.platform.database import Transaction
from subgraphs.platform.domain import Event, uuid7
from subgraphs.platform.objects import Ref
from subgraphs.platform.server import Ground
from subgraphs.platform.waiting import Waiting
from subgraphs.platform.writer import Ingress

TOPIC = "execution.inbox"
PAUSES = "execution.paused"
SMALL = 64 * 1024
"""Input larger than this travels by claim check, so that event and journal row stay well below their limit. So does
input that looks like a reference: nobody but us may name a stored object."""


@dataclass(frozen=True, slots=True)
class TenantDesk:
    """One tenant's desk; see `domain.Desk`."""

    ground: Ground
    tenant: UUID
    ends: Waiting
    folded: Callable[[UUID, UUID], Awaitable[Run | None]]
    failing: Callable[[UUID, UUID], Awaitable[Run | None]]

    async def head(self, id: UUID) -> Head | None:
        async with self.ground.database.read(self.tenant) as reading:
            return await queries.head(reading, id)

    async def begun(self, id: UUID) -> Head | None:
        return (await queries.begun(self.ground.database, self.tenant, [id])).get(id)

    async def held(self, workflow: UUID, release: int | None) -> Held | None:
        async with self.ground.database.read(self.tenant) as reading:
            return await queries.held(reading, workflow, release)

    async def claimed(self, key: str) -> Claim | None:
        async with self.ground.database.read(self.tenant) as reading:
            return await queries.claimed(reading, key)

    async def publish(self, event: Event, claim: Claim | None) -> bool:
        ingress = Ingress(events=[event])
        if claim is not None:
            until = datetime.now(UTC) + timedelta(hours=KEY_HOURS)
            ingress.claim = (START_KEY.name, (claim.tenant, claim.key, claim.run, claim.hash, until))
        return (await self.ground.writer.commit(ingress)).claimed

    async def portable(self, data: Any) -> Any:
        encoded = msgspec.json.encode(data)
        if len(encoded) <= SMALL and Ref.of(data) is None:
            return data
        reference = await self.ground.objects.put(self.tenant, encoded)
        return reference.json()

    async def post_until_end(self, head: Head, kind: str, data: Mapping[str, Any], patience: float) -> None:
        with self.ends.expect(str(head.id)) as end:
            await self._send(head, kind, data, uuid7())
            await end(patience)

    async def post(
        self, head: Head, kind: str, data: Mapping[str, Any], *, patience: float, id: UUID | None = None
    ) -> bool:
        letter = id or uuid7()
        await self._send(head, kind, data, letter)
        return await self._heeded(head.id, letter, patience)

    async def _send(self, head: Head, kind: str, data: Mapping[str, Any], id: UUID) -> None:
        async with self.ground.database.write(self.tenant) as transaction:
            await put(transaction, head.id, head.part, kind, data, id)

    async def _heeded(self, run_id: UUID, letter: UUID, patience: float) -> bool:
        """Whether the letter is gone: the commit that heeds it deletes it. Its owner may be any process."""
        deadline, pause = time.monotonic() + patience, 0.005
        query = select(literal(1)).where(inbox.c.run == run_id, inbox.c.id == letter)
        while True:
            async with self.ground.database.read(self.tenant) as reading:
                if await reading.scalar(query.where(reading.tenant_filter(inbox.c.tenant))) is None:
                    return True
            if time.monotonic() + pause > deadline:
                return False
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.1)

    async def wait(self, run_id: UUID, step: str) -> OpenWait | None:
        async with self.ground.database.read(self.tenant) as reading:
            mine = reading.tenant_filter(wait.c.tenant)
            row = await reading.row(select(wait).where(mine, wait.c.run == run_id, wait.c.step == step))
        return opened(row) if row is not None else None

    async def answer(self, head: Head, waiting: OpenWait, given: Answer, *, patience: float) -> bool:
        letter = uuid5(head.id, f"answer:{waiting.step}:{waiting.attempt}")
        async with self.ground.database.write(self.tenant) as transaction:
            if not await claimed(transaction, waiting.run, waiting.step, waiting.attempt, given):
                return False
            data = answer_letter(waiting.step, waiting.attempt, given)
            await put(transaction, head.id, head.part, "answer", data, letter)
        await self._heeded(head.id, letter, patience)
        return True

    async def delegates(self, waiting: OpenWait) -> Sequence[str]:
        async with self.ground.database.read(self.tenant) as reading:
            mine = reading.tenant_filter(delegation.c.tenant)
            at_step = (delegation.c.step == waiting.step, delegation.c.attempt == waiting.attempt)
            query = select(delegation.c.approver).where(mine, delegation.c.run == waiting.run, *at_step)
            return [row["approver"] for row in await reading.rows(query)]

    async def delegate(self, waiting: OpenWait, by: UUID, approver: str) -> None:
        row = {
            "tenant": self.tenant,
            "run": waiting.run,
            "step": waiting.step,
            "attempt": waiting.attempt,
            "id": uuid5(by, approver),
            "by": by,
            "approver": approver,
            "at": datetime.now(UTC),
        }
        async with self.ground.database.write(self.tenant) as transaction:
            await transaction.execute(insert(delegation).values(row).on_conflict_do_nothing())

    async def ambiguous(self, head: Head, node: str) -> int | None:
        found = await self.folded(self.tenant, head.id)
        step = found.steps.get(node) if found is not None else None
        return step.attempt if step is not None and step.status == "ambiguous" else None

    async def before_failure(self, id: UUID) -> Run | None:
        return await self.failing(self.tenant, id)

    async def pause(self, workflow: UUID, by: UUID | None, reason: str) -> Pause:
        made = Pause(self.tenant, workflow, by, reason, datetime.now(UTC))
        row = {"tenant": self.tenant, "workflow": workflow, "by": by, "reason": reason, "at": made.at}
        async with self.ground.database.write(self.tenant) as transaction:
            new = await transaction.execute(
                insert(paused).values(row).on_conflict_do_nothing().returning(paused.c.workflow)
            )
            if new.first() is None:
                return await self._pause(transaction, workflow) or made
            await self._to_all(transaction, workflow, "pause", {"reason": reason, "by": str(by)})
            transaction.wake(PAUSES, 0)
        return made

    async def unpause(self, workflow: UUID, by: UUID | None) -> Pause | None:
        async with self.ground.database.write(self.tenant) as transaction:
            found = await self._pause(transaction, workflow)
            if found is None:
                return None
            mine = transaction.tenant_filter(paused.c.tenant)
            await transaction.execute(delete(paused).where(mine, paused.c.workflow == workflow))
            await self._to_all(transaction, workflow, "resume", {"by": str(by)})
            transaction.wake(PAUSES, 0)
        return found

    async def _pause(self, transaction: Transaction, workflow: UUID) -> Pause | None:
        mine = transaction.tenant_filter(paused.c.tenant)
        row = await transaction.row(select(paused).where(mine, paused.c.workflow == workflow))
        return Pause(row["tenant"], row["workflow"], row["by"], row["reason"], row["at"]) if row is not None else None

    async def _to_all(self, transaction: Transaction, workflow: UUID, kind: str, data: Mapping[str, Any]) -> None:
        """A letter to every run that has begun and not ended; queued ones are held where they queue."""
        conditions = [transaction.tenant_filter(run.c.tenant), run.c.status.in_(range(1, CODES["succeeded"]))]
        if workflow.int:
            conditions.append(run.c.workflow == workflow)
        rows = await transaction.rows(select(run.c.id, run.c.part).where(*conditions))
        for row in rows:
            await put(transaction, row["id"], row["part"], kind, data, uuid7())

    def partition(self, id: UUID) -> int:
        lease = self.ground.leases.lease_for(id)
        return lease.partition if lease is not None else self.ground.leases.partition_of(id)


async def put(transaction: Transaction, run_id: UUID, part: int, kind: str, data: Mapping[str, Any], id: UUID) -> None:
    """Puts a letter into a run's inbox, once for an id, and wakes the run's owner when that is committed."""
    row = {
        "tenant": transaction.tenant,
        "run": run_id,
        "id": id,
        "part": part,
        "kind": kind,
        "data": msgspec.json.encode(data).decode(),
    }
    await transaction.execute(insert(inbox).values(row).on_conflict_do_nothing())
    transaction.wake(TOPIC, part)


async def claimed(transaction: Transaction, run_id: UUID, step: str, attempt: int, given: Answer) -> bool:
    """Takes the right to answer an attempt's wait; False if somebody answered it before."""
    row = {
        "tenant": transaction.tenant,
        "run": run_id,
        "step": step,
        "attempt": attempt,
        "port": given.port,
        "by": given.by,
        "at": datetime.now(UTC),
    }
    taken = insert(answered).values(row).on_conflict_do_nothing().returning(answered.c.step)
    return (await transaction.execute(taken)).first() is not None


def answer_letter(step: str, attempt: int, given: Answer) -> Mapping[str, Any]:
    by = str(given.by) if given.by is not None else None
    return {"node": step, "attempt": attempt, "port": given.port, "data": given.data, "by": by}
