"""Auth, as its clients see it: sign up, log in, refresh, log out."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Self
from uuid import UUID

import strawberry
from strawberry.federation.schema_directives import Cost, Key
from strawberry.federation.types import FieldSet

from resolvers.ids import parse_id
from resolvers.problems import AsData, Conflict, Invalid, Limited, Unauthenticated
from resolvers.scalars import DateTime
from resolvers.schema import federated
from subgraphs.auth import commands, domain
from subgraphs.platform.domain import Caller

ARGON = [Cost(weight=100)]  # a password is hashed: a tenth of a second of a core


@dataclass(frozen=True)
class Context:
    """What a resolver here may lean on, for one operation."""

    caller: Caller
    means: commands.Means
    sign_up: Callable[[domain.Newcomer, str], Awaitable[commands.Started | UUID]]


Info = strawberry.Info[Context, None]
STUB = [Key(fields=FieldSet("id"), resolvable=False)]


@strawberry.federation.type(keys=STUB)
class User:
    id: strawberry.ID


@strawberry.federation.type(keys=STUB)
class Tenant:
    id: strawberry.ID


@strawberry.type(description="A logged-in session: an access token for some minutes, a refresh token for the next one.")
class Session:
    access_token: str = strawberry.field(description="Send it as `Authorization: Bearer …`.")
    refresh_token: str = strawberry.field(description="Good for one refreshSession; keep it where scripts cannot read.")
    expires_at: DateTime = strawberry.field(description="When the access token ends.")
    refresh_expires_at: DateTime = strawberry.field(description="When the session ends if it is not refreshed.")
    user: User | None = strawberry.field(
        description="Who is logged in. Ask for the id only: this request is not theirs yet, `me` with the token is."
    )
    tenant: Tenant | None = strawberry.field(
        description="The tenant they work in. Ask for the id only, as with `user`."
    )

    @classmethod
    def of(cls, started: commands.Started) -> Self:
        return cls(
            access_token=started.access,
            refresh_token=started.refresh,
            expires_at=started.access_expires,
            refresh_expires_at=started.refresh_expires,
            user=User(id=strawberry.ID(str(started.account))),
            tenant=Tenant(id=strawberry.ID(str(started.tenant))),
        )


@strawberry.type(description="The sign-up goes on; ask `signUp` with this id, and log in once it is completed.")
class SignUpPending:
    id: strawberry.ID = strawberry.field(description="The sign-up's id.")


@strawberry.enum(description="Where a sign-up stands.")
class SignUpState(Enum):
    REQUESTED = "REQUESTED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


@strawberry.type(description="A sign-up on its way.")
class SignUp:
    id: strawberry.ID = strawberry.field(description="The sign-up's id.")
    state: SignUpState = strawberry.field(description="Log in once it is COMPLETED; after FAILED sign up again.")
    requested_at: DateTime = strawberry.field(description="When it was asked for.")


@strawberry.type(description="The session has ended.")
class LoggedOut:
    ended: bool = strawberry.field(description="Whether there was a session to end.")


@strawberry.input(description="Who signs up, and for which new organisation.")
class SignUpInput:
    email: str = strawberry.field(description="The address to log in with.")
    password: str = strawberry.field(description="8 to 1,000 characters; no rules about which.")
    name: str = strawberry.field(description="What to call you.")
    organisation: str = strawberry.field(description="The name of the organisation to make.")
    locale: str | None = strawberry.field(default=None, description="Language tag, `en` if left out.")
    time_zone: str | None = strawberry.field(default=None, description="IANA zone, `UTC` if left out.")


@strawberry.input(description="Who logs in.")
class LogInInput:
    email: str = strawberry.field(description="The address of the account.")
    password: str = strawberry.field(description="Its password.")


@strawberry.input(description="Which session goes on.")
class RefreshSessionInput:
    refresh_token: str = strawberry.field(description="The newest refresh token of the session.")


@strawberry.input(description="Which session ends.")
class LogOutInput:
    refresh_token: str = strawberry.field(description="Any refresh token of the session.")


SignUpResult = Annotated[
    Session | SignUpPending | Invalid | Conflict | Limited,
    strawberry.union("SignUpResult", description="A session, or an id to ask with if it takes over two seconds."),
]
LogInResult = Annotated[
    Session | Unauthenticated | Limited, strawberry.union("LogInResult", description="A session, or why not.")
]
RefreshSessionResult = Annotated[
    Session | Unauthenticated, strawberry.union("RefreshSessionResult", description="The next tokens, or why not.")
]


@strawberry.type
class Query:
    @strawberry.field(description="A sign-up by the id that signUp gave; nothing for any other id.")
    async def sign_up(self, info: Info, id: strawberry.ID) -> SignUp | None:
        found = await info.context.means.lookups.sign_up(parse_id(id))
        if found is None:
            return None
        _, state, _, at = found
        return SignUp(id=id, state=SignUpState(state.value), requested_at=at)


@strawberry.type
class Mutation:
    @strawberry.federation.mutation(
        extensions=[AsData()],
        directives=ARGON,
        description="Makes a person, an organisation and a tenant, and logs in.",
    )
    async def sign_up(self, info: Info, input: SignUpInput) -> SignUpResult | None:
        newcomer = domain.Newcomer.of(
            email=input.email,
            name=input.name,
            organisation=input.organisation,
            locale=input.locale,
            time_zone=input.time_zone,
        )
        outcome = await info.context.sign_up(newcomer, input.password)
        return SignUpPending(id=strawberry.ID(str(outcome))) if isinstance(outcome, UUID) else Session.of(outcome)

    @strawberry.federation.mutation(
        extensions=[AsData()],
        directives=ARGON,
        description="Starts a session. An unknown address and a wrong password get the same answer.",
    )
    async def log_in(self, info: Info, input: LogInInput) -> LogInResult | None:
        context = info.context
        return Session.of(await commands.log_in(input.email, input.password, context.caller.address, context.means))

    @strawberry.mutation(
        extensions=[AsData()],
        description="Trades a refresh token for the next two tokens. Used twice, it ends the whole session.",
    )
    async def refresh_session(self, info: Info, input: RefreshSessionInput) -> RefreshSessionResult | None:
        return Session.of(await commands.refresh(input.refresh_token, info.context.means))

    @strawberry.mutation(description="Ends a session: its tokens are refused from the next request on.")
    async def log_out(self, info: Info, input: LogOutInput) -> LoggedOut | None:
        return LoggedOut(ended=await commands.log_out(input.refresh_token, info.context.means))


schema = federated(query=Query, mutation=Mutation)
