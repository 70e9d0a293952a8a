"""What Executor tells others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from subgraphs.executor.domain import NodeType
from subgraphs.platform.domain import Event
from subgraphs.platform.facts import Read, Told

ANNOUNCED = "executor.catalogue.announced.v1"
CATALOGUE = uuid5(NAMESPACE_URL, "linkflow:executor:catalogue")
"""The one aggregate all announcements are about."""


class Announced(Told):
    """All node types an Executor can run, under a fingerprint. A manifest is as `executor/domain.py` describes it."""

    digest: str
    manifests: list[dict[str, Any]]


PUBLISHED: dict[str, type[Told]] = {ANNOUNCED: Announced}
READ: dict[str, type[Read]] = {}


def announced(types: Mapping[tuple[str, str], NodeType], digest: str, *, partition: int) -> Event:
    """All node types there are, under a fingerprint."""
    manifests = [types[key].manifest.json() for key in sorted(types)]
    data = {"digest": digest, "manifests": manifests}
    return Event(type=ANNOUNCED, subject=str(CATALOGUE), data=data, tenant=None, partition=partition)
