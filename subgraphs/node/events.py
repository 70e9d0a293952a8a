"""What Node reads of what others tell."""

from __future__ import annotations

from typing import Any

from subgraphs.platform.facts import Read, Told

ANNOUNCED = "executor.catalogue.announced.v1"


class Announced(Read):
    digest: str
    manifests: list[dict[str, Any]]


PUBLISHED: dict[str, type[Told]] = {}
READ: dict[str, type[Read]] = {ANNOUNCED: Announced}
