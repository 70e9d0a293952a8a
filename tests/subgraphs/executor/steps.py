"""Steps as the run's owner asks for them, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from subgraphs.engine.step import Item, StepRequest

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def request(type: str, parameters: Mapping[str, Any], *items: Mapping[str, Any], **changes: Any) -> StepRequest:
    """One attempt at a node of that type with these items on `main`."""
    inputs: Mapping[str, Sequence[Item]] = {"main": [Item(dict(item)) for item in items]}
    words: dict[str, Any] = {
        "tenant": UUID(int=1),
        "execution": UUID(int=2),
        "workflow": UUID(int=3),
        "node": "node",
        "type": type,
        "version": "1.0.0",
        "attempt": 1,
        "idempotency_key": "key-1",
        "parameters": parameters,
        "inputs": inputs,
        "scope": {"nodes": {}, "trigger": {}, "execution": {"id": "e"}, "vars": {}},
        "now": NOON,
    }
    return StepRequest(**words | changes)
