"""Tenant's process."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

from resolvers.entities import loader
from subgraphs.platform.domain import Caller
from subgraphs.platform.server import Ground, Incoming, Subgraph
from subgraphs.tenant import queries
from subgraphs.tenant.consumers import Consumers
from subgraphs.tenant.events import Events
from subgraphs.tenant.schema import Context, schema
from subgraphs.tenant.storage import TenantStore, stores


def build(ground: Ground) -> Subgraph:
    """Tenant on this ground."""
    events = Events(ground.leases.partition_of)
    opened = stores(ground.database)
    Consumers(TenantStore, events, lambda: datetime.now(UTC)).register(ground.bus)

    def context(caller: Caller, incoming: Incoming) -> Context:
        read = partial(queries.by_ids, tenant=caller.tenant, database=ground.database)
        return Context(caller, loader(read), opened, events)

    return Subgraph(name="tenant", schema=schema, context=context)
