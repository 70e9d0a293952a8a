"""What resolvers of Workflow lean on, for the length of one request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from strawberry.dataloader import DataLoader

from resolvers.entities import loader
from subgraphs.platform.database import Reading
from subgraphs.platform.domain import Caller
from subgraphs.workflow import domain, queries
from subgraphs.workflow.activation import Activations


class Kept(domain.Workflows, domain.DraftRuns, Protocol):
    """Workflows and wishes to run them, within one transaction."""


@dataclass(frozen=True)
class Context:
    """Made anew for each operation; its loaders remember what they read."""

    caller: Caller
    reading: Callable[[], AbstractAsyncContextManager[Reading]]
    kept: Callable[[], AbstractAsyncContextManager[Kept]]
    catalogue: Callable[[], Awaitable[domain.Catalogue]]
    activations: Activations
    workflows: DataLoader[UUID, queries.WorkflowRow | None]
    documents: DataLoader[str, Any]
    revisions: DataLoader[queries.PageKey, list[queries.RevisionRow] | None]
    releases: DataLoader[queries.PageKey, list[queries.ReleaseRow] | None]
    callers: DataLoader[queries.CallerKey, list[queries.CallRow] | None]

    @classmethod
    def of(
        cls,
        caller: Caller,
        reading: Callable[[], AbstractAsyncContextManager[Reading]],
        kept: Callable[[], AbstractAsyncContextManager[Kept]],
        catalogue: Callable[[], Awaitable[domain.Catalogue]],
        activations: Activations,
    ) -> Context:
        def batched(query: Callable[[Reading, Any], Awaitable[Any]]) -> DataLoader[Any, Any]:
            async def read(keys: Any) -> Any:
                async with reading() as opened:
                    return await query(opened, keys)

            return loader(read)

        return cls(
            caller=caller,
            reading=reading,
            kept=kept,
            catalogue=catalogue,
            activations=activations,
            workflows=batched(queries.by_ids),
            documents=batched(queries.documents),
            revisions=batched(queries.revision_pages),
            releases=batched(queries.release_pages),
            callers=batched(queries.caller_pages),
        )
