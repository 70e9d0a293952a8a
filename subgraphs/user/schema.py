"""User, as its clients see it: me, my organisation, its members and their roles."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Self
from uuid import UUID

import strawberry
from graphql import FieldNode
from strawberry.dataloader import DataLoader

from resolvers.connections import Connection, Page, connection, sized
from resolvers.ids import MalformedId, parse_id
from resolvers.problems import AsData, Conflict, Forbidden, Invalid, Missing, Unauthenticated
from resolvers.schema import federated
from subgraphs.platform.database import Database
from subgraphs.platform.domain import ROLES, Caller
from subgraphs.user import domain, queries


@dataclass(frozen=True)
class Context:
    """What a resolver here may lean on, for one operation. The two commands return once identities say the same."""

    caller: Caller
    people: DataLoader[UUID, domain.Person | None]
    database: Database
    update_profile: Callable[[domain.Profile, Caller], Awaitable[domain.Person]]
    change_role: Callable[[UUID, str, Caller], Awaitable[domain.Person]]


Info = strawberry.Info[Context, None]


@strawberry.enum(description="What a member may do.")
class RoleName(Enum):
    OWNER = "owner"
    ADMIN = "admin"
    EDITOR = "editor"
    OPERATOR = "operator"
    VIEWER = "viewer"


@strawberry.type(description="A built-in role.")
class Role:
    name: RoleName = strawberry.field(description="Its name.")
    description: str = strawberry.field(description="Who should have it.")
    scopes: list[str] = sized(description="The permissions it carries.", at_most=30)


@strawberry.type(description="Where people work together.")
class Organisation:
    id: strawberry.ID = strawberry.field(description="Stays the same for ever.")
    name: str = strawberry.field(description="What people call it.")

    @classmethod
    def of(cls, organisation: domain.Organisation) -> Self:
        return cls(id=strawberry.ID(str(organisation.id)), name=organisation.name)

    @connection(description="Its members, the longest there first.")
    async def members(self, info: Info, first: int = 20, after: str | None = None) -> Connection["User"] | None:
        context = info.context
        page = Page.of(first, after)
        tenant = context.caller.must("user:read")
        rows = await queries.members(UUID(self.id), page, tenant=tenant, database=context.database)
        return Connection.of(page, rows, node=User.of, key=queries.key)


@strawberry.federation.type(keys=["id"], description="A person who can log in.")
class User:
    id: strawberry.ID = strawberry.field(description="Stays the same for ever.")
    name: str = strawberry.field(description="What to call them.")
    email: str = strawberry.field(description="The address they log in with.")
    avatar_url: str | None = strawberry.field(description="Where their picture is, if they have one.")
    locale: str = strawberry.field(description="The language they read, as a tag such as en.")
    time_zone: str = strawberry.field(description="The IANA zone they live in.")
    role: RoleName = strawberry.field(description="What they may do in their organisation.")
    organisation: Organisation = strawberry.field(description="Where they work.")

    @classmethod
    def of(cls, person: domain.Person) -> Self:
        return cls(
            id=strawberry.ID(str(person.id)),
            name=person.name,
            email=person.email,
            avatar_url=person.avatar_url,
            locale=person.locale,
            time_zone=person.time_zone,
            role=RoleName(person.role),
            organisation=Organisation.of(person.organisation),
        )

    @classmethod
    def known_by_id(cls, id: UUID) -> Self:
        """A user of whom nothing but the id is asked."""
        user = cls.__new__(cls)
        user.id = strawberry.ID(str(id))
        return user

    @classmethod
    async def resolve_reference(cls, info: Info, id: strawberry.ID, **_rest: Any) -> Self | None:
        try:
            found = await info.context.people.load(parse_id(id))
        except MalformedId:
            return None
        return cls.of(found) if found else None


def only_id(info: Info) -> bool:
    """Whether nothing but the id is selected: then nothing needs to be read."""
    return all(
        isinstance(chosen, FieldNode) and chosen.name.value in ("id", "__typename")
        for node in info._raw_info.field_nodes
        for chosen in (node.selection_set.selections if node.selection_set else ())
    )


@strawberry.input(description="What to change of the caller's profile; what is left out stays as it is.")
class UpdateProfileInput:
    name: str | None = strawberry.field(default=None, description="1 to 100 characters.")
    avatar_url: str | None = strawberry.field(default=None, description="An https address; empty text removes it.")
    locale: str | None = strawberry.field(default=None, description="A language tag such as en or de-CH.")
    time_zone: str | None = strawberry.field(default=None, description="An IANA zone such as Europe/Zurich.")


@strawberry.input(description="Who gets which role.")
class ChangeMemberRoleInput:
    user_id: strawberry.ID = strawberry.field(description="A member of the caller's organisation.")
    role: RoleName = strawberry.field(description="The role from now on.")


UpdateProfileResult = Annotated[
    User | Invalid | Missing | Unauthenticated,
    strawberry.union("UpdateProfileResult", description="The changed user, or why not."),
]
ChangeMemberRoleResult = Annotated[
    User | Invalid | Missing | Conflict | Forbidden | Unauthenticated,
    strawberry.union("ChangeMemberRoleResult", description="The changed member, or why not."),
]


@strawberry.type
class Query:
    @strawberry.field(description="Who is logged in; nothing for the anonymous.")
    async def me(self, info: Info) -> User | None:
        subject = info.context.caller.subject
        if subject is None:
            return None
        if only_id(info):
            return User.known_by_id(subject)
        found = await info.context.people.load(subject)
        return User.of(found) if found else None

    @strawberry.field(description="The caller's organisation; nothing for the anonymous.")
    async def organisation(self, info: Info) -> Organisation | None:
        context = info.context
        if context.caller.anonymous:
            return None
        subject, tenant = context.caller.signed_in()
        found = await queries.organisation_of(subject, tenant=tenant, database=context.database)
        return Organisation.of(found) if found else None

    @sized(description="The built-in roles, the most powerful first.", at_most=5)
    async def roles(self) -> list[Role] | None:
        return [
            Role(name=RoleName(name), description=domain.ROLE_WORDS[name], scopes=sorted(scopes))
            for name, scopes in ROLES.items()
        ]


@strawberry.type
class Mutation:
    @strawberry.mutation(extensions=[AsData()], description="Changes the caller's own profile.")
    async def update_profile(self, info: Info, input: UpdateProfileInput) -> UpdateProfileResult | None:
        wanted = domain.Profile(input.name, input.avatar_url, input.locale, input.time_zone)
        return User.of(await info.context.update_profile(wanted, info.context.caller))

    @strawberry.mutation(
        extensions=[AsData()],
        description="Gives a member another role, from their next request on. Needs the scope user:write; only owners "
        "make and unmake owners, and one always remains.",
    )
    async def change_member_role(self, info: Info, input: ChangeMemberRoleInput) -> ChangeMemberRoleResult | None:
        id = parse_id(input.user_id, "userId")
        return User.of(await info.context.change_role(id, input.role.value, info.context.caller))


schema = federated(query=Query, mutation=Mutation)
