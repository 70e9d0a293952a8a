"""Faults inside a process under test: storage calls that fail at random (before or after they were carried out)."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping
from typing import Any

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

CALLS = ("execute", "fetch", "fetchrow", "fetchval")


class Storm:
    """Fails a share of calls: half of them before they reach the database, half after their effect, and of all a fifth
    with the loss of the connection. The first `spared` calls pass, so that a process can start."""

    def __init__(self, rate: float, seed: int, spared: int) -> None:
        self.rate, self.chance, self.spared = rate, random.Random(seed), spared
        self.failed = 0

    def strikes(self) -> bool:
        if self.spared:
            self.spared -= 1
            return False
        return self.chance.random() < self.rate

    def wrap(self, holder: Any, name: str) -> None:
        function = getattr(holder, name)

        async def called(target: Any, *words: Any, **named: Any) -> Any:
            if not self.strikes():
                return await function(target, *words, **named)
            self.failed += 1
            print(json.dumps({"event": "storm", "call": name}), file=sys.stderr, flush=True)
            late, lost = self.chance.random() < 0.5, self.chance.random() < 0.2
            if late:
                await function(target, *words, **named)
            if lost and isinstance(target, asyncpg.Connection):
                target.terminate()
                raise asyncpg.ConnectionDoesNotExistError("storm: connection was closed in the middle of operation")
            raise asyncpg.PostgresIOError("storm: could not read block")

        setattr(holder, name, called)


def prepare(faults: Mapping[str, Any]) -> None:
    """`{"rate": 0.05, "seed": 1, "spared": 100}`: calls of storage fail from now on in this process."""
    if not faults.get("rate"):
        return
    storm = Storm(faults["rate"], faults.get("seed", 1), faults.get("spared", 200))
    for name in CALLS:
        storm.wrap(asyncpg.Connection, name)
    for name in ("fetch", "fetchrow", "fetchval"):
        storm.wrap(PreparedStatement, name)
