"""What a caller may do to their tenant."""

from __future__ import annotations

from subgraphs.platform.domain import Caller, Missing
from subgraphs.tenant.domain import Stores, Tenant, checked_name
from subgraphs.tenant.events import Events


async def rename(name: str, *, caller: Caller, stores: Stores, events: Events) -> Tenant:
    """Gives the caller's tenant another name; the slug stays. Raises Invalid, Forbidden, Missing."""
    tenant = caller.must("tenant:write")
    wanted = checked_name(name)
    async with stores(tenant) as store:
        renamed = await store.rename(wanted)
        if renamed is None:
            raise Missing("There is no such tenant.")
        store.publish(events.renamed(renamed))
    return renamed
