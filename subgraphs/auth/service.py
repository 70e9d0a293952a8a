"""Auth's process: keys made at first start, the saga's listeners, the identity endpoint."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

from starlette.routing import Route

from subgraphs.auth import commands, events, queries
from subgraphs.auth.consumers import Consumers
from subgraphs.auth.domain import SIGN_UP_LIFE, Newcomer, SignUpState, Standing, Turns
from subgraphs.auth.identity import Identity
from subgraphs.auth.passwords import Argon2Passwords
from subgraphs.auth.schema import Context, schema
from subgraphs.auth.storage import Functions, TenantStore, stores
from subgraphs.auth.tokens import Access, Tokens, make_key, refresh_token
from subgraphs.platform.domain import Caller, uuid7
from subgraphs.platform.server import Ground, Incoming, Subgraph
from subgraphs.platform.waiting import Waiting

ANSWER_SECONDS = 2.0
"""How long signUp waits for the saga before it gives an id instead."""

LOOK_SECONDS = 30.0

log = logging.getLogger("linkflow.auth")


def _now() -> datetime:
    return datetime.now(UTC)


class Auth:
    """The parts of Auth, wired."""

    def __init__(self, ground: Ground) -> None:
        settings = ground.settings
        self.ground = ground
        self.passwords = Argon2Passwords()
        self.functions = Functions(ground.database)
        self.tokens = Tokens(issuer=settings.public_url, access_life=timedelta(minutes=settings.access_token_minutes))
        self.means = commands.Means(
            lookups=self.functions,
            stores=stores(ground.database),
            passwords=self.passwords,
            turns=Turns(),
            tokens=self.tokens,
            events=events.Events(ground.leases.partition_of),
            now=_now,
            new_id=uuid7,
            new_refresh=refresh_token,
            idle_life=timedelta(days=settings.refresh_token_days),
        )
        self.identity = Identity(self.tokens, self.standing, settings.cors_origins)
        self.completed = Waiting(
            ground.bus,
            {events.SIGN_UP_COMPLETED, events.SIGN_UP_ABANDONED},
            key=lambda event: event.data["signUpId"],
        )
        Consumers(TenantStore, self.means.events, _now).register(ground.bus)
        ground.bus.listen({events.SESSION_REVOKED, events.ACCOUNT_CHANGED}, self.identity.heard)
        self.looking: asyncio.Task[None] | None = None

    async def standing(self, access: Access) -> Standing | None:
        return await queries.standing(access, _now(), database=self.ground.database)

    async def sign_up(self, newcomer: Newcomer, password: str) -> commands.Started | UUID:
        """A session if the saga completes within ANSWER_SECONDS, else the sign-up's id."""
        hashed = await commands.new_password(newcomer, password, self.means)
        id = uuid7()
        with self.completed.expect(str(id)) as answer:
            requested = await commands.sign_up(newcomer, hashed, self.means, id=id)
            heard = await answer(ANSWER_SECONDS)
        if heard is None:  # it may have completed in another process, unheard
            found = await self.functions.sign_up(id)
            if found is None or found[1] is not SignUpState.COMPLETED:
                return id
        elif heard.type == events.SIGN_UP_ABANDONED:
            return id
        return await commands.start_session(requested.account, requested.tenant, self.means)

    async def start(self) -> None:
        """Takes the signing keys, making the first; begins to look for sign-ups that never end."""
        await self.passwords.open()
        keys = await self.functions.signing_keys()
        if not keys:
            key = await asyncio.to_thread(make_key, self.ground.secrets)
            await self.functions.add_first_key(key)
            keys = await self.functions.signing_keys()
        self.tokens.take(keys, self.ground.secrets)
        self.looking = asyncio.create_task(self.look())

    async def stop(self) -> None:
        if self.looking is not None:
            self.looking.cancel()
            with suppress(asyncio.CancelledError):
                await self.looking
        await self.passwords.close()

    async def look(self) -> None:
        """Abandons sign-ups that are open for too long, for as long as the process runs."""
        while True:
            try:
                if ended := await commands.abandon_overdue(_now() - SIGN_UP_LIFE, self.means):
                    log.warning("sign-ups abandoned", extra={"count": ended})
            except Exception:  # the boundary of a tick: the next one tries again
                log.exception("looking for overdue sign-ups failed")
            await asyncio.sleep(LOOK_SECONDS)

    async def has_keys(self) -> None:
        """Readiness: raises until there is a signing key."""
        self.tokens.access(UUID(int=0), UUID(int=0), UUID(int=0), 0)

    def context(self, caller: Caller, incoming: Incoming) -> Context:
        return Context(caller, self.means, self.sign_up)


def build(ground: Ground) -> Subgraph:
    """Auth on this ground."""
    auth = Auth(ground)

    async def jwks() -> dict[str, object]:
        return auth.tokens.jwks

    ground.identities.use(jwks)
    ground.telemetry.metrics.watch_cache("auth.identity", lambda: (auth.identity.hits, auth.identity.misses))
    return Subgraph(
        name="auth",
        schema=schema,
        context=auth.context,
        routes=[
            Route("/identity", auth.identity.answer, methods=["GET"]),
            Route("/jwks", auth.identity.keys, methods=["GET"]),
        ],
        start=auth.start,
        stop=auth.stop,
        ready=[("signing key", auth.has_keys)],
    )
