"""Workflow's own copy of the node types: stored once, cached in process by digest."""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import text

from subgraphs.platform.database import Reading, Transaction
from subgraphs.workflow.domain import Catalogue, Unready

LEARN = text("select workflow.learn_catalogue(:digest, cast(:manifests as json))")
DIGEST = text("select workflow.catalogue_digest()")
READ = text("select digest, manifests from workflow.read_catalogue()")


async def learn(transaction: Transaction, digest: str, manifests: Any) -> None:
    """Replaces the copy; an announcement heard again changes nothing."""
    await transaction.execute(LEARN, {"digest": digest, "manifests": orjson.dumps(manifests).decode()})


class Catalogues:
    """The newest catalogue. Each use asks for its digest, so that no process works with an old one."""

    def __init__(self) -> None:
        self._cached: Catalogue | None = None

    async def digest(self, reading: Reading) -> str | None:
        found: str | None = await reading.scalar(DIGEST)
        return found

    async def current(self, reading: Reading) -> Catalogue:
        """Raises Unready while nothing was announced."""
        digest = await self.digest(reading)
        if self._cached is None or self._cached.digest != digest:
            row = await reading.row(READ)
            if row is None:
                raise Unready
            manifests = {f"{each['type']}@{each['version']}": each for each in row["manifests"]}
            self._cached = Catalogue(row["digest"], manifests)
        return self._cached
