"""What others may do to the registry: announce what there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from subgraphs.node.domain import NodeType, Registry


async def learn(digest: str, manifests: Sequence[Mapping[str, Any]], *, registry: Registry) -> None:
    """Takes over a catalogue; one heard again changes nothing."""
    await registry.replace(digest, [NodeType(manifest) for manifest in manifests])
