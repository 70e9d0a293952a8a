"""The registry's table. It has no tenant: requests reach it by functions only, listed in its migration."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from sqlalchemy import ARRAY, JSON, Column, Integer, MetaData, Table, Text, text

from subgraphs.node.domain import NodeType
from subgraphs.platform.database import Transaction

metadata = MetaData(schema="node")

node_type = Table(
    "node_type",
    metadata,
    Column("type", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("ordinal", ARRAY(Integer), nullable=False),
    Column("category", Text, nullable=False),
    Column("words", Text, nullable=False),
    Column("manifest", JSON, nullable=False),
    Column("digest", Text, nullable=False),
)
"""`ordinal`: the version as numbers. `words`: what searches look through. `digest`: of the catalogue it came with."""

REPLACE = text("select node.replace_types(:digest, cast(:rows as json))")


class KeptTypes:
    """`domain.Registry` within one transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def replace(self, digest: str, types: Sequence[NodeType]) -> None:
        rows = [
            {
                "type": each.type,
                "version": each.version,
                "ordinal": each.order,
                "category": each.manifest["category"],
                "words": each.words,
                "manifest": each.manifest,
            }
            for each in types
        ]
        await self._transaction.execute(REPLACE, {"digest": digest, "rows": orjson.dumps(rows).decode()})
