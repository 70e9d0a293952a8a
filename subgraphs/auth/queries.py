"""What Auth reads to say who somebody is."""

from __future__ import annotations

from datetime import datetime

from subgraphs.auth import storage
from subgraphs.auth.domain import Standing
from subgraphs.auth.tokens import Access
from subgraphs.platform.database import Database


async def standing(access: Access, now: datetime, *, database: Database) -> Standing | None:
    """What the holder of an access token may claim now; nothing if session or account is over."""
    async with database.read(access.tenant) as reading:
        found = await reading.row(storage.standing(reading, access.session, access.account, now))
    return Standing(found["name"], found["role"]) if found else None
