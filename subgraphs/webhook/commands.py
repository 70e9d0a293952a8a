"""What happens to endpoints: their owner changes them, a release declares them. Whoever calls owns the transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from subgraphs.platform.domain import Caller
from subgraphs.webhook.domain import TRIGGER, Endpoint, Endpoints, Terms, Wish


async def configure(id: UUID, wish: Wish, *, caller: Caller, endpoints: Endpoints, now: datetime) -> Endpoint:
    """Changes how callers prove themselves."""
    caller.must("webhook:write")
    changed = (await endpoints.by_id(id)).configured(wish, now)
    await endpoints.save(changed)
    return changed


async def rotate(id: UUID, *, caller: Caller, endpoints: Endpoints, now: datetime) -> Endpoint:
    """Gives the endpoint a new URL; the old one is unknown from now on."""
    caller.must("webhook:write")
    changed = (await endpoints.by_id(id)).rotated(now)
    await endpoints.save(changed)
    return changed


async def hold(
    workflow: UUID,
    release: int,
    definition: Mapping[str, Any],
    *,
    tenant: UUID,
    endpoints: Endpoints,
    now: datetime,
    new_id: Callable[[], UUID],
) -> Sequence[Endpoint]:
    """The endpoints of a release: one for each webhook trigger, its URL kept over releases; others retire.

    A release older than the one held changes nothing.
    """
    current = await endpoints.advance(workflow, release)
    existing = {endpoint.node: endpoint for endpoint in await endpoints.of_workflow(workflow)}
    if not current:
        return list(existing.values())
    declared = {node["id"]: node.get("parameters") or {} for node in definition["nodes"] if node["type"] == TRIGGER}
    held = []
    for node, parameters in declared.items():
        terms = Terms.of(parameters)
        known = existing.get(node)
        if known is None:
            held.append(Endpoint.declared(tenant, new_id(), workflow, node, release, terms, now))
        else:
            held.append(known.redeclared(release, terms, now))
    gone = [endpoint.retired(now) for node, endpoint in existing.items() if node not in declared and endpoint.present]
    for endpoint in (*held, *gone):
        await endpoints.save(endpoint)
    return held


def definition_of(value: Any) -> Mapping[str, Any]:
    """A definition as it was published; raises ValueError for anything else."""
    if not isinstance(value, Mapping) or not isinstance(value.get("nodes"), list):
        raise ValueError("this is no definition")
    return value
