"""Workflows as commands see them: loaded from the event store, saved with projections and published events."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert

from subgraphs.platform.database import Transaction
from subgraphs.platform.domain import Conflict, Missing, uuid7
from subgraphs.platform.objects import Objects, Ref
from subgraphs.workflow import events
from subgraphs.workflow.domain import Document, DraftRun, Part, ReleasePublished, Workflow
from subgraphs.workflow.storage import tables
from subgraphs.workflow.storage.known import KnownWorkflows
from subgraphs.workflow.storage.projections import project
from subgraphs.workflow.storage.store import EventStore

SNAPSHOT_EVERY = 50
"""Changes between two snapshots of a workflow."""
BULKY_BYTES = 100_000
HOLD = text("insert into bus.blob (tenant, sha256, holder) values (:tenant, :sha256, :holder) on conflict do nothing")


@dataclass(frozen=True, slots=True)
class Outward:
    """How published events leave: `partition_of` a workflow's id, `partition_for` an execution's, and the objects that
    hold what is too large for an event."""

    partition_of: Callable[[UUID], int]
    partition_for: Callable[[UUID], int]
    objects: Objects

    async def checked_in(self, transaction: Transaction, tenant: UUID, body: bytes, holder: UUID) -> Any:
        """The JSON value of `body`, or its claim check, which `holder` then keeps from being swept."""
        found = await self.objects.check_in(tenant, body)
        if not isinstance(found, Ref):
            return orjson.loads(found)
        await transaction.execute(HOLD, {"tenant": tenant, "sha256": found.sha256, "holder": holder})
        return found.json()


class KeptWorkflows(KnownWorkflows):
    """`domain.Workflows` and `domain.DraftRuns` within one transaction."""

    def __init__(self, transaction: Transaction, tenant: UUID, outward: Outward) -> None:
        super().__init__(transaction)
        self._transaction = transaction
        self._tenant = tenant
        self._outward = outward
        self.store = EventStore(transaction, tenant)

    async def load(self, id: UUID) -> Workflow:
        """From snapshot and tail; deleted, foreign and unknown ones are Missing alike."""
        found = await self.store.snapshot(id)
        if found is None:
            workflow = Workflow.replay(id, await self.store.read(id))
        else:
            state, version = found
            workflow = Workflow.resume(id, state, version, await self.store.read(id, after=version))
        if not workflow.version or workflow.state.deleted:
            raise Missing(
                "There is no such workflow.",
                field="input.workflowId",
                next_step="List the workflows you can see with workflows.",
            )
        return workflow

    async def document(self, digest: str) -> Document:
        table = tables.definition
        body = await self._transaction.scalar(
            select(table.c.body).where(self._transaction.tenant_filter(table.c.tenant), table.c.digest == digest)
        )
        if len(body) < BULKY_BYTES:
            return Document.stored(body)
        return await asyncio.to_thread(Document.stored, body)

    async def save(self, workflow: Workflow) -> None:
        """Appends first: whoever loses the race for a version has written nothing yet."""
        if not workflow.fresh:
            return
        at = datetime.now(UTC)
        before = workflow.version - len(workflow.fresh)
        await self.store.append(self._transaction, workflow.id, before, workflow.fresh, at)
        await self._keep_documents(workflow)
        await project(self._transaction, self._tenant, workflow, at)
        if workflow.version // SNAPSHOT_EVERY > before // SNAPSHOT_EVERY:
            await self.store.keep(self._transaction, workflow.id, workflow.state, workflow.version)
        await self._publish(workflow)
        workflow.fresh = []

    async def _keep_documents(self, workflow: Workflow) -> None:
        if workflow.documents:
            rows = [
                {"tenant": self._tenant, "digest": digest, "body": document.body}
                for digest, document in workflow.documents.items()
            ]
            await self._transaction.execute(insert(tables.definition).values(rows).on_conflict_do_nothing())

    async def _publish(self, workflow: Workflow) -> None:
        partition = self._outward.partition_of(workflow.id)
        for change in workflow.fresh:
            definition = None
            if isinstance(change, ReleasePublished):
                body = workflow.documents[change.digest].body
                definition = await self._outward.checked_in(self._transaction, self._tenant, body, workflow.id)
            event = events.published(workflow, change, tenant=self._tenant, partition=partition, definition=definition)
            if event is not None:
                self._transaction.publish(event)

    async def request(self, run: DraftRun) -> UUID:
        """Publishes the wish, once for each key."""
        execution = uuid7()
        if run.key is not None and (earlier := await self._earlier(run, execution)) is not None:
            return earlier
        body, filled = run.document.body, orjson.dumps(run.input)
        definition = await self._outward.checked_in(self._transaction, self._tenant, body, execution)
        given = await self._outward.checked_in(self._transaction, self._tenant, filled, execution)
        parts = orjson.dumps(run.part.given)
        cached = await self._outward.checked_in(self._transaction, self._tenant, parts, execution)
        self._transaction.publish(
            events.draft_requested(
                run,
                id=execution,
                tenant=self._tenant,
                partition=self._outward.partition_for(execution),
                definition=definition,
                input=given,
                given=cached,
            )
        )
        return execution

    async def _earlier(self, run: DraftRun, execution: UUID) -> UUID | None:
        """The execution this key stands for already; claims the key when there is none."""
        wish: list[Any] = [run.document.digest, run.trigger, run.input]
        if run.part != Part():
            wish += [run.part.until, run.part.only, run.part.given]
        wanted = orjson.dumps(wish, option=orjson.OPT_SORT_KEYS)
        hashed = hashlib.sha256(wanted).hexdigest()
        table = tables.draft_run
        row = {"tenant": self._tenant, "workflow": run.workflow, "key": run.key}
        claim = insert(table).values(**row, execution=execution, wish=hashed, at=datetime.now(UTC))
        claimed = await self._transaction.execute(claim.on_conflict_do_nothing().returning(table.c.key))
        if claimed.first() is not None:
            return None
        where = [self._transaction.tenant_filter(table.c.tenant), table.c.workflow == run.workflow]
        held = await self._transaction.row(select(table).where(*where, table.c.key == run.key))
        if held is None or held["wish"] != hashed:
            raise Conflict(
                "This key was used for another run.",
                code="idempotency_conflict",
                field="input.idempotencyKey",
                next_step="Use a new key for a new run.",
            )
        found: UUID = held["execution"]
        return found
