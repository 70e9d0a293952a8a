"""Wires Workflow: its transactions, its copy of the catalogue, what it listens to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from uuid import UUID

from subgraphs.platform.database import Reading
from subgraphs.platform.domain import Caller
from subgraphs.platform.server import Ground, Incoming, Subgraph
from subgraphs.workflow import consumers, domain
from subgraphs.workflow.activation import Activations
from subgraphs.workflow.schema import Context, schema
from subgraphs.workflow.schema.context import Kept
from subgraphs.workflow.storage import Catalogues, KeptWorkflows, Outward


def build(ground: Ground) -> Subgraph:
    catalogues, activations = Catalogues(), Activations()
    outward = Outward(ground.leases.partition_of, _partition_for(ground), ground.objects)
    ground.bus.consume("workflow.catalogue", consumers.CATALOGUE, consumers.catalogue_announced)
    ground.bus.consume("workflow.activation", consumers.HELD, consumers.release_held)
    ground.bus.listen(consumers.HELD, activations.heard)

    async def catalogue() -> domain.Catalogue:
        async with ground.database.read(None) as reading:
            return await catalogues.current(reading)

    def context(caller: Caller, incoming: Incoming) -> Context:
        def reading() -> AbstractAsyncContextManager[Reading]:
            return ground.database.read(caller.tenant)

        @asynccontextmanager
        async def kept() -> AsyncIterator[Kept]:
            _, tenant = caller.signed_in()
            async with ground.database.write(tenant) as transaction:
                yield KeptWorkflows(transaction, tenant, outward)

        return Context.of(caller, reading, kept, catalogue, activations)

    async def knows_the_catalogue() -> None:
        """Raises while nothing was announced, or not yet what the Executor of this very process announces."""
        known = (await catalogue()).digest
        if known != getattr(ground.ports.get("executor"), "digest", known):
            raise domain.Unready

    return Subgraph(
        name="workflow", schema=schema, context=context, ready=[("catalogue of node types", knows_the_catalogue)]
    )


def _partition_for(ground: Ground) -> Callable[[UUID], int]:
    def partition(execution: UUID) -> int:
        """One this process owns, so that the run starts here at once; else the one the id hashes to."""
        lease = ground.leases.lease_for(execution)
        return lease.partition if lease else ground.leases.partition_of(execution)

    return partition
