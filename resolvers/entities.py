"""Entity references and other fan-outs through one batched read.

`resolve_reference` of an entity loads through a per-request loader, so that a list of N references is one statement:

    context = Context(caller, users=loader(lambda ids: queries.users_by_id(reading, ids)))
    ...
    row = await info.context.users.load(parse_id(id))
"""

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import TypeVar

from opentelemetry import trace
from strawberry.dataloader import DataLoader

Key = TypeVar("Key", bound=Hashable)
Row = TypeVar("Row")

BATCH = 1000
"""Keys per call of the batch function. More than this in one request is split, in order."""


def loader(
    batch: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Row]]], *, at_most: int = BATCH
) -> DataLoader[Key, Row | None]:
    """A loader over `batch`, which maps the keys it finds to rows; keys it leaves out load as nothing.

    Every key is asked for once a request; results come back in the order asked. Make one per request: it remembers.
    """

    async def ordered(keys: list[Key]) -> list[Row | None]:
        with trace.get_tracer("linkflow").start_as_current_span("loader", attributes={"linkflow.keys": len(keys)}):
            found = await batch(keys)
        return [found.get(key) for key in keys]

    return DataLoader(load_fn=ordered, max_batch_size=at_most)
