"""Auth's tables, and the functions that answer before a tenant is known."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    LargeBinary,
    MetaData,
    RowMapping,
    Select,
    Table,
    Text,
    Uuid,
    bindparam,
    delete,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.exc import IntegrityError

from subgraphs.auth.domain import (
    ABSOLUTE_LIFE,
    FORGOTTEN,
    Account,
    Attempts,
    EmailTaken,
    Newcomer,
    SignUpState,
    Store,
    email_key,
)
from subgraphs.auth.tokens import StoredKey
from subgraphs.platform.database import Database, Reading, Transaction
from subgraphs.platform.domain import Event

metadata = MetaData(schema="auth")
MOMENT = DateTime(timezone=True)

sign_up = Table(
    "sign_up",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("account", Uuid),
    Column("organisation", Uuid),
    Column("state", Text),
    Column("reason", Text),
    Column("at", MOMENT),
    Column("ended", MOMENT),
)
account = Table(
    "account",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("email", Text),
    Column("email_key", Text),
    Column("password", Text),
    Column("name", Text),
    Column("role", Text),
    Column("active", Boolean),
    Column("at", MOMENT),
)
session = Table(
    "session",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("account", Uuid),
    Column("at", MOMENT),
    Column("used", MOMENT),
    Column("expires", MOMENT),
    Column("revoked", MOMENT),
    Column("reason", Text),
)
refresh_token = Table(
    "refresh_token",
    metadata,
    Column("tenant", Uuid, primary_key=True),
    Column("hash", LargeBinary, primary_key=True),
    Column("session", Uuid),
    Column("at", MOMENT),
    Column("used", MOMENT),
)


class TenantStore:
    """`domain.Store` on one transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self._tx = transaction

    def publish(self, *events: Event) -> None:
        self._tx.publish(*events)

    async def request_sign_up(
        self, id: UUID, account_id: UUID, organisation: UUID, newcomer: Newcomer, password: str, now: datetime
    ) -> None:
        row = {
            "tenant": self._tx.tenant,
            "id": account_id,
            "email": newcomer.email,
            "email_key": email_key(newcomer.email),
            "password": password,
            "name": newcomer.name,
            "active": False,
            "at": now,
        }
        try:
            await self._tx.execute(insert(account).values(row))
        except IntegrityError as error:
            if "account_email" in str(error.orig):
                raise EmailTaken from None
            raise
        asked = {"tenant": self._tx.tenant, "id": id, "account": account_id, "organisation": organisation}
        await self._tx.execute(insert(sign_up).values(asked | {"state": SignUpState.REQUESTED.value, "at": now}))

    async def complete_sign_up(self, id: UUID, role: str, now: datetime) -> UUID | None:
        found = await self._end(id, SignUpState.COMPLETED, None, now)
        if found is not None:
            await self._tx.execute(
                update(account)
                .where(self._tx.tenant_filter(account.c.tenant), account.c.id == found)
                .values(active=True, role=role)
            )
        return found

    async def fail_sign_up(self, id: UUID, reason: str, now: datetime) -> bool:
        found = await self._end(id, SignUpState.FAILED, reason, now)
        if found is not None:
            await self._tx.execute(
                delete(account).where(self._tx.tenant_filter(account.c.tenant), account.c.id == found)
            )
        return found is not None

    async def _end(self, id: UUID, state: SignUpState, reason: str | None, now: datetime) -> UUID | None:
        open_one = (
            self._tx.tenant_filter(sign_up.c.tenant),
            sign_up.c.id == id,
            sign_up.c.state == SignUpState.REQUESTED.value,
        )
        ended = update(sign_up).where(*open_one).values(state=state.value, reason=reason, ended=now)
        found: UUID | None = await self._tx.scalar(ended.returning(sign_up.c.account))
        return found

    async def change_account(self, id: UUID, *, role: str | None = None, name: str | None = None) -> bool:
        values = {key: value for key, value in (("role", role), ("name", name)) if value is not None}
        mine = (self._tx.tenant_filter(account.c.tenant), account.c.id == id)
        return bool((await self._tx.execute(update(account).where(*mine).values(values))).rowcount)

    async def replace_password(self, id: UUID, old: str, new: str) -> None:
        mine = (self._tx.tenant_filter(account.c.tenant), account.c.id == id, account.c.password == old)
        await self._tx.execute(update(account).where(*mine).values(password=new))

    async def start_session(self, id: UUID, account_id: UUID, refresh: bytes, now: datetime, expires: datetime) -> None:
        row = {"tenant": self._tx.tenant, "id": id, "account": account_id, "at": now, "used": now, "expires": expires}
        await self._tx.execute(insert(session).values(row))
        await self._add_refresh(id, refresh, now)

    async def _add_refresh(self, id: UUID, refresh: bytes, now: datetime) -> None:
        row = {"tenant": self._tx.tenant, "hash": refresh, "session": id, "at": now}
        await self._tx.execute(insert(refresh_token).values(row))

    async def use_refresh(self, hash: bytes, now: datetime) -> bool:
        unused = (
            self._tx.tenant_filter(refresh_token.c.tenant),
            refresh_token.c.hash == hash,
            refresh_token.c.used.is_(None),
        )
        return bool((await self._tx.execute(update(refresh_token).where(*unused).values(used=now))).rowcount)

    async def rotate(self, id: UUID, fresh: bytes, now: datetime, expires: datetime) -> UUID | None:
        alive = (
            self._tx.tenant_filter(session.c.tenant),
            session.c.id == id,
            session.c.revoked.is_(None),
            session.c.expires > now,
            session.c.at > now - ABSOLUTE_LIFE,
        )
        longer = update(session).where(*alive).values(used=now, expires=expires).returning(session.c.account)
        found: UUID | None = await self._tx.scalar(longer)
        if found is not None:
            await self._add_refresh(id, fresh, now)
        return found

    async def revoke(self, id: UUID, reason: str, now: datetime) -> UUID | None:
        alive = (self._tx.tenant_filter(session.c.tenant), session.c.id == id, session.c.revoked.is_(None))
        ended = update(session).where(*alive).values(revoked=now, reason=reason).returning(session.c.account)
        found: UUID | None = await self._tx.scalar(ended)
        return found


def standing(reading: Reading, session_id: UUID, account_id: UUID, now: datetime) -> Select[Any]:
    """Name and role behind a session that is not over."""
    return (
        select(account.c.name, account.c.role)
        .join(session, (session.c.tenant == account.c.tenant) & (session.c.account == account.c.id))
        .where(
            reading.tenant_filter(account.c.tenant),
            account.c.id == account_id,
            account.c.active,
            session.c.id == session_id,
            session.c.revoked.is_(None),
            session.c.at > now - ABSOLUTE_LIFE,
        )
    )


def stores(database: Database) -> Callable[[UUID], AbstractAsyncContextManager[Store]]:
    """`domain.Stores` on this database."""

    @asynccontextmanager
    async def opened(tenant: UUID) -> AsyncIterator[Store]:
        async with database.write(tenant) as transaction:
            yield TenantStore(transaction)

    return opened


class Functions:
    """`domain.Lookups`: the SECURITY DEFINER functions of the auth schema."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def _rows(self, sql: str, **words: Any) -> list[RowMapping]:
        async with self._database.read(None) as reading:
            return await reading.rows(text(sql), words)

    async def account_by_email(self, key: str) -> Account | None:
        found = await self._rows("select * from auth.account_by_email(:key)", key=key)
        return Account(**found[0]) if found else None

    async def session_by_refresh(self, hash: bytes) -> tuple[UUID, UUID] | None:
        found = await self._rows("select * from auth.session_by_refresh_hash(:hash)", hash=hash)
        return (found[0]["tenant"], found[0]["session"]) if found else None

    async def sign_up(self, id: UUID) -> tuple[UUID, SignUpState, str | None, datetime] | None:
        found = await self._rows("select * from auth.sign_up_state(:id)", id=id)
        if not found:
            return None
        return found[0]["tenant"], SignUpState(found[0]["state"]), found[0]["reason"], found[0]["at"]

    async def overdue(self, before: datetime) -> Sequence[tuple[UUID, UUID]]:
        found = await self._rows("select * from auth.sign_ups_overdue(:before)", before=before)
        return [(row["tenant"], row["id"]) for row in found]

    async def attempts(self, keys: Iterable[bytes]) -> dict[bytes, Attempts]:
        async with self._database.read(None) as reading:
            rows = await reading.rows(_ATTEMPTS, {"keys": list(keys)})
        return {bytes(row["key"]): Attempts(row["failures"], row["at"]) for row in rows}

    async def note_failure(self, keys: Iterable[bytes], now: datetime) -> None:
        async with self._database.write(None) as transaction:
            await transaction.execute(_NOTE, {"keys": list(keys), "now": now, "forgotten": FORGOTTEN})

    async def forget_failures(self, keys: Iterable[bytes]) -> None:
        async with self._database.write(None) as transaction:
            await transaction.execute(_FORGET, {"keys": list(keys)})

    async def signing_keys(self) -> list[StoredKey]:
        """The keys to publish, oldest first."""
        found = await self._rows("select * from auth.signing_keys()")
        return [StoredKey(row["kid"], row["sealed"], row["public"]) for row in found if row["retired"] is None]

    async def add_first_key(self, key: StoredKey) -> None:
        """Stores the key unless there is one; of many processes that start together one adds its key."""
        async with self._database.write(None) as transaction:
            words = {"kid": key.kid, "sealed": key.sealed, "public": dict(key.public)}
            await transaction.execute(_FIRST_KEY, words)


_KEYS = bindparam("keys", type_=ARRAY(LargeBinary))
_ATTEMPTS = text("select * from auth.attempts(:keys)").bindparams(_KEYS)
_NOTE = text("select auth.note_failure(:keys, :now, :forgotten)").bindparams(_KEYS)
_FORGET = text("select auth.forget_failures(:keys)").bindparams(_KEYS)
_FIRST_KEY = text("select auth.first_signing_key(:kid, :sealed, :public)").bindparams(bindparam("public", type_=JSONB))
