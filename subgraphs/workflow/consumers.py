"""What Workflow does when others publish. Each runs in the transaction that notes the event as seen."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import func, update

from subgraphs.platform.database import Transaction
from subgraphs.platform.domain import Event
from subgraphs.workflow.activation import HOLDERS
from subgraphs.workflow.storage import learn
from subgraphs.workflow.storage.tables import release

CATALOGUE = ("executor.catalogue.announced.v1",)
HELD = tuple(HOLDERS)


async def catalogue_announced(event: Event, transaction: Transaction) -> None:
    """Keeps an own copy of the node types, to validate by."""
    await learn(transaction, event.data["digest"], event.data["manifests"])


async def release_held(event: Event, transaction: Transaction) -> None:
    """Notes since when Execution or Webhook holds a release; the first time counts."""
    column = release.c[f"{HOLDERS[event.type]}_at"]
    await transaction.execute(
        update(release)
        .where(
            transaction.tenant_filter(release.c.tenant),
            release.c.workflow == UUID(event.data["workflowId"]),
            release.c.number == int(event.data["release"]),
        )
        .values({column: func.coalesce(column, event.time)})
    )
