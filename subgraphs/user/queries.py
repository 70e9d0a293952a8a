"""What a caller may read of people: those of their tenant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, tuple_

from resolvers.connections import Page, Unpageable
from subgraphs.platform.database import Database
from subgraphs.user import storage
from subgraphs.user.domain import Organisation, Person
from subgraphs.user.storage import member, organisation, people, person


async def by_ids(ids: Sequence[UUID], *, tenant: UUID | None, database: Database) -> Mapping[UUID, Person]:
    """The people with these ids in the caller's tenant: one statement however many are asked for."""
    if tenant is None:
        return {}
    async with database.read(tenant) as reading:
        rows = await reading.rows(people(reading).where(person.c.id.in_(ids)))
    return {row["id"]: storage.person_of(row) for row in rows}


async def organisation_of(subject: UUID, *, tenant: UUID, database: Database) -> Organisation | None:
    """The organisation that the person is a member of."""
    async with database.read(tenant) as reading:
        row = await reading.row(
            select(organisation.c.id, organisation.c.name)
            .join(member, (member.c.tenant == organisation.c.tenant) & (member.c.organisation == organisation.c.id))
            .where(reading.tenant_filter(organisation.c.tenant), member.c.person == subject)
        )
    return Organisation(row["id"], row["name"]) if row else None


async def members(of: UUID, page: Page, *, tenant: UUID, database: Database) -> Sequence[Person]:
    """A page of an organisation's members, the longest there first."""
    after = position(page.after)
    async with database.read(tenant) as reading:
        found = people(reading).where(organisation.c.id == of).order_by(member.c.at, person.c.id).limit(page.limit)
        if after is not None:
            found = found.where(tuple_(member.c.at, person.c.id) > after)
        return [storage.person_of(row) for row in await reading.rows(found)]


def key(found: Person) -> list[Any]:
    """What a cursor into `members` holds."""
    return [found.member_since.isoformat(), str(found.id)]


def position(after: list[Any] | None) -> tuple[datetime, UUID] | None:
    """Where a cursor points; raises an Invalid problem if it is of another list."""
    if after is None:
        return None
    try:
        moment, id = after
        found = datetime.fromisoformat(moment), UUID(id)
    except (TypeError, ValueError):
        found = None
    if found is None or found[0].tzinfo is None:
        raise Unpageable(
            "This is not a cursor of this list.", code="cursor_malformed", field="after", next_step="Leave it out."
        )
    return found
