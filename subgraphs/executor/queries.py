"""What may be read of Executor."""

from __future__ import annotations

from subgraphs.executor.domain import Worker, Workers
from subgraphs.platform.domain import Caller


async def workers(known: Workers, *, caller: Caller) -> list[Worker]:
    """The processes that run steps; they serve all tenants."""
    caller.must("execution:read")
    return await known.listed()
