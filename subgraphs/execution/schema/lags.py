"""How far behind the readers of published events are."""

from typing import Any

import strawberry

from resolvers.connections import sized
from subgraphs.execution import positions


@strawberry.type(description="How far one reader of published events is behind, counting your own events only.")
class ReaderLag:
    reader: str = strawberry.field(description="execution begins runs; execution.releases keeps published releases.")
    events: int = strawberry.field(description="Events it has not acted on yet.")
    seconds: float = strawberry.field(description="How long the oldest of them has waited.")
    target_seconds: float = strawberry.field(description="What is normal: more is worth somebody's attention.")


@strawberry.type
class Lags:
    """A part of `Query`."""

    @sized(at_most=10, description="How current what Execution shows is: its readers, and what they have not seen yet.")
    async def execution_lag(self, info: strawberry.Info[Any, None]) -> list[ReaderLag] | None:
        tenant = info.context.caller.must("execution:read")
        return [
            ReaderLag(reader=lag.reader, events=lag.events, seconds=lag.seconds, target_seconds=positions.TARGET)
            for lag in await positions.lags(info.context.database, tenant)
        ]
