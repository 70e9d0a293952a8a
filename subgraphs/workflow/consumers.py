"""What Workflow does when others publish. Each runs in the transaction that notes the event as seen."""

from __future__ import annotations

from sqlalchemy import func, update

from subgraphs.platform.database import Transaction
from subgraphs.platform.domain import Event
from subgraphs.platform.facts import read
from subgraphs.workflow import events
from subgraphs.workflow.storage import learn
from subgraphs.workflow.storage.tables import release

CATALOGUE = (events.ANNOUNCED,)
HELD = tuple(events.HOLDERS)


async def catalogue_announced(event: Event, transaction: Transaction) -> None:
    """Keeps an own copy of the node types, to validate by."""
    told = read(event, events.Announced)
    await learn(transaction, told.digest, told.manifests)


async def release_held(event: Event, transaction: Transaction) -> None:
    """Notes since when Execution or Webhook holds a release; the first time counts."""
    held = read(event, events.Held)
    column = release.c[f"{events.HOLDERS[event.type]}_at"]
    await transaction.execute(
        update(release)
        .where(
            transaction.tenant_filter(release.c.tenant),
            release.c.workflow == held.workflow_id,
            release.c.number == held.release,
        )
        .values({column: func.coalesce(column, event.time)})
    )
