"""Wires Node: its registry, and the announcements it listens to."""

from __future__ import annotations

from subgraphs.node import consumers, queries
from subgraphs.node.schema import Context, schema
from subgraphs.platform.domain import Caller, Limited
from subgraphs.platform.server import Ground, Incoming, Subgraph


def build(ground: Ground) -> Subgraph:
    ground.bus.consume("node.catalogue", consumers.CATALOGUE, consumers.catalogue_announced)

    def context(caller: Caller, incoming: Incoming) -> Context:
        return Context(caller, lambda: ground.database.read(caller.tenant))

    async def knows_the_catalogue() -> None:
        """Raises while nothing was announced, or not yet what the Executor of this very process announces."""
        async with ground.database.read(None) as reading:
            known = await queries.digest(reading)
            if known is None or known != getattr(ground.ports.get("executor"), "digest", known):
                raise Limited("The catalogue of node types has not arrived yet.", code="catalogue_unknown")

    return Subgraph(
        name="node", schema=schema, context=context, ready=[("catalogue of node types", knows_the_catalogue)]
    )
