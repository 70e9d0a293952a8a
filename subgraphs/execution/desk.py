"""What commands need of the world, on the real ground: the group commit, the database, the object store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import insert

from subgraphs.execution import queries
from subgraphs.execution.domain import KEY_HOURS, Claim, Head, Held
from subgraphs.execution.storage import START_KEY, inbox
from subgraphs.platform.domain import Event, uuid7
from subgraphs.platform.objects import Ref
from subgraphs.platform.server import Ground
from subgraphs.platform.waiting import Waiting
from subgraphs.platform.writer import Ingress

TOPIC = "execution.inbox"
SMALL = 64 * 1024
"""Input larger than this travels by claim check, so that event and journal row stay well below their limit. So does
input that looks like a reference: nobody but us may name a stored object."""


@dataclass(frozen=True, slots=True)
class TenantDesk:
    """One tenant's desk; see `domain.Desk`."""

    ground: Ground
    tenant: UUID
    ends: Waiting

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
            await self._post(head, kind, data)
            await end(patience)

    async def _post(self, head: Head, kind: str, data: Mapping[str, Any]) -> None:
        async with self.ground.database.write(self.tenant) as transaction:
            row = {
                "tenant": self.tenant,
                "run": head.id,
                "id": uuid7(),
                "part": head.part,
                "kind": kind,
                "data": msgspec.json.encode(data).decode(),
            }
            await transaction.execute(insert(inbox).values(row))
            transaction.wake(TOPIC, head.part)

    def partition(self, id: UUID) -> int:
        lease = self.ground.leases.lease_for(id)
        return lease.partition if lease is not None else self.ground.leases.partition_of(id)
