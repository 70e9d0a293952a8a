"""What Executor tells others."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import NAMESPACE_URL, uuid5

from subgraphs.executor.domain import NodeType
from subgraphs.platform.domain import Event

ANNOUNCED = "executor.catalogue.announced.v1"
CATALOGUE = uuid5(NAMESPACE_URL, "linkflow:executor:catalogue")
"""The one aggregate all announcements are about."""


def announced(types: Mapping[tuple[str, str], NodeType], digest: str, *, partition: int) -> Event:
    """All node types there are, under a fingerprint."""
    manifests = [types[key].manifest.json() for key in sorted(types)]
    data = {"digest": digest, "manifests": manifests}
    return Event(type=ANNOUNCED, subject=str(CATALOGUE), data=data, tenant=None, partition=partition)
