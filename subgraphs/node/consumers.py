"""What the registry does when Executor says which node types there are."""

from __future__ import annotations

from subgraphs.node import commands, events
from subgraphs.node.storage import KeptTypes
from subgraphs.platform.database import Transaction
from subgraphs.platform.domain import Event
from subgraphs.platform.facts import read

CATALOGUE = (events.ANNOUNCED,)


async def catalogue_announced(event: Event, transaction: Transaction) -> None:
    told = read(event, events.Announced)
    await commands.learn(told.digest, told.manifests, registry=KeptTypes(transaction))
