"""What the registry does when Executor says which node types there are."""

from __future__ import annotations

from subgraphs.node import commands
from subgraphs.node.storage import KeptTypes
from subgraphs.platform.database import Transaction
from subgraphs.platform.domain import Event

CATALOGUE = ("executor.catalogue.announced.v1",)


async def catalogue_announced(event: Event, transaction: Transaction) -> None:
    await commands.learn(event.data["digest"], event.data["manifests"], registry=KeptTypes(transaction))
