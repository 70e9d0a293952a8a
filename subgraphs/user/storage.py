"""User's tables."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Column,
    DateTime,
    MetaData,
    RowMapping,
    Select,
    Table,
    Text,
    Uuid,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from subgraphs.platform.database import Database, Reading, Transaction
from subgraphs.platform.domain import Event
from subgraphs.user.domain import Organisation, Person, Profile, SignUpAbandoned, Store

metadata = MetaData(schema="user")
MOMENT = DateTime(timezone=True)

person = Table(
    "person",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("email", Text),
    Column("name", Text),
    Column("avatar_url", Text),
    Column("locale", Text),
    Column("time_zone", Text),
    Column("at", MOMENT),
)
organisation = Table(
    "organisation",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("name", Text),
    Column("at", MOMENT),
)
member = Table(
    "member",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("organisation", Uuid, primary_key=True),
    Column("person", Uuid, primary_key=True),
    Column("role", Text),
    Column("at", MOMENT),
)
abandoned = Table(
    "abandoned",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("sign_up", Uuid),
    Column("at", MOMENT),
)


def people(reading: Reading) -> Select[Any]:
    """People with their role and organisation, as far as the reader may see."""
    return (
        select(
            person,
            member.c.role,
            member.c.at.label("member_since"),
            organisation.c.id.label("organisation_id"),
            organisation.c.name.label("organisation_name"),
        )
        .join(member, (member.c.tenant == person.c.tenant) & (member.c.person == person.c.id))
        .join(
            organisation,
            (organisation.c.tenant == member.c.tenant) & (organisation.c.id == member.c.organisation),
        )
        .where(reading.tenant_filter(person.c.tenant))
    )


def person_of(row: RowMapping) -> Person:
    return Person(
        id=row["id"],
        email=row["email"],
        name=row["name"],
        avatar_url=row["avatar_url"],
        locale=row["locale"],
        time_zone=row["time_zone"],
        role=row["role"],
        organisation=Organisation(row["organisation_id"], row["organisation_name"]),
        member_since=row["member_since"],
    )


class TenantStore:
    """`domain.Store` on one transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self._tx = transaction

    def publish(self, *events: Event) -> None:
        self._tx.publish(*events)

    async def found(self, first: Person, sign_up: UUID) -> bool:
        await self._alone()
        gone = select(abandoned.c.sign_up).where(self._tx.tenant_filter(abandoned.c.tenant))
        if await self._tx.scalar(gone.where(abandoned.c.sign_up == sign_up)):
            raise SignUpAbandoned("This sign-up was abandoned.")
        tenant, at = self._tx.tenant, first.member_since
        added = await self._tx.execute(
            insert(organisation)
            .values(tenant=tenant, id=first.organisation.id, name=first.organisation.name, at=at)
            .on_conflict_do_nothing()
        )
        if not added.rowcount:
            return False
        row = {
            "tenant": tenant,
            "id": first.id,
            "email": first.email,
            "name": first.name,
            "locale": first.locale,
            "time_zone": first.time_zone,
            "at": at,
        }
        await self._tx.execute(insert(person).values(row))
        joined = {"tenant": tenant, "organisation": first.organisation.id, "person": first.id}
        await self._tx.execute(insert(member).values(joined | {"role": first.role, "at": at}))
        return True

    async def withdraw(self, sign_up: UUID, now: datetime) -> None:
        await self._alone()
        row = {"tenant": self._tx.tenant, "sign_up": sign_up, "at": now}
        await self._tx.execute(insert(abandoned).values(row).on_conflict_do_nothing())
        for table in (member, organisation, person):
            await self._tx.execute(delete(table).where(self._tx.tenant_filter(table.c.tenant)))

    async def _alone(self) -> None:
        # Founding and withdrawing may run at once, and neither would see what the other has not committed.
        await self._tx.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(str(self._tx.tenant), 0))))

    async def change_profile(self, id: UUID, profile: Profile) -> Person | None:
        values: dict[str, Any] = {
            key: value
            for key, value in (
                ("name", profile.name),
                ("avatar_url", profile.avatar_url),
                ("locale", profile.locale),
                ("time_zone", profile.time_zone),
            )
            if value is not None
        }
        if values.get("avatar_url") == "":
            values["avatar_url"] = None
        if values:
            mine = (self._tx.tenant_filter(person.c.tenant), person.c.id == id)
            await self._tx.execute(update(person).where(*mine).values(values))
        return await self._one(id)

    async def roles_locked(self, id: UUID) -> tuple[str, int] | None:
        # The organisation's row stands for all its roles: who changes one waits for whoever changes another.
        member_of = select(member.c.organisation).where(self._tx.tenant_filter(member.c.tenant), member.c.person == id)
        await self._tx.execute(
            select(organisation.c.id)
            .where(self._tx.tenant_filter(organisation.c.tenant), organisation.c.id.in_(member_of))
            .with_for_update()
        )
        role = select(member.c.role).where(self._tx.tenant_filter(member.c.tenant), member.c.person == id)
        found = await self._tx.scalar(role)
        if found is None:
            return None
        owners = select(func.count()).select_from(member)
        mine = (self._tx.tenant_filter(member.c.tenant), member.c.organisation.in_(member_of))
        return found, int(await self._tx.scalar(owners.where(*mine, member.c.role == "owner")))

    async def change_role(self, id: UUID, role: str) -> Person | None:
        mine = (self._tx.tenant_filter(member.c.tenant), member.c.person == id)
        await self._tx.execute(update(member).where(*mine).values(role=role))
        return await self._one(id)

    async def _one(self, id: UUID) -> Person | None:
        row = await self._tx.row(people(self._tx).where(person.c.id == id))
        return person_of(row) if row else None


def stores(database: Database) -> Callable[[UUID], AbstractAsyncContextManager[Store]]:
    """`domain.Stores` on this database."""

    @asynccontextmanager
    async def opened(tenant: UUID) -> AsyncIterator[Store]:
        async with database.write(tenant) as transaction:
            yield TenantStore(transaction)

    return opened
