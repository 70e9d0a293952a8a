"""Tenant, as its clients see it."""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Self
from uuid import UUID

import strawberry
from strawberry.dataloader import DataLoader

from resolvers.ids import MalformedId, parse_id
from resolvers.problems import AsData, Forbidden, Invalid, Missing, Unauthenticated
from resolvers.scalars import DateTime
from resolvers.schema import federated
from subgraphs.platform.domain import Caller
from subgraphs.tenant import commands, domain
from subgraphs.tenant.events import Events


@dataclass(frozen=True)
class Context:
    """What a resolver here may lean on, for one operation."""

    caller: Caller
    tenants: DataLoader[UUID, domain.Tenant | None]
    stores: domain.Stores
    events: Events


Info = strawberry.Info[Context, None]


@strawberry.enum(description="Whether a tenant may work.")
class TenantState(Enum):
    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"


@strawberry.federation.type(keys=["id"], description="A customer: everything in LinkFlow belongs to exactly one.")
class Tenant:
    id: strawberry.ID = strawberry.field(description="Stays the same for ever.")
    name: str = strawberry.field(description="What people call it.")
    slug: str = strawberry.field(description="Its name in addresses; stays the same when it is renamed.")
    state: TenantState = strawberry.field(description="Whether it may work.")
    created_at: DateTime = strawberry.field(description="When it signed up.")

    @classmethod
    def of(cls, tenant: domain.Tenant) -> Self:
        return cls(
            id=strawberry.ID(str(tenant.id)),
            name=tenant.name,
            slug=tenant.slug,
            state=TenantState(tenant.state.value),
            created_at=tenant.at,
        )

    @classmethod
    async def resolve_reference(cls, info: Info, id: strawberry.ID, **_rest: Any) -> Self | None:
        try:
            found = await info.context.tenants.load(parse_id(id))
        except MalformedId:
            return None
        return cls.of(found) if found else None


@strawberry.input(description="The tenant's new name.")
class RenameTenantInput:
    name: str = strawberry.field(description="1 to 100 characters.")


RenameTenantResult = Annotated[
    Tenant | Invalid | Missing | Forbidden | Unauthenticated,
    strawberry.union("RenameTenantResult", description="The renamed tenant, or why not."),
]


@strawberry.type
class Query:
    @strawberry.field(description="The caller's tenant; nothing for the anonymous.")
    async def tenant(self, info: Info) -> Tenant | None:
        if info.context.caller.tenant is None:
            return None
        found = await info.context.tenants.load(info.context.caller.tenant)
        return Tenant.of(found) if found else None


@strawberry.type
class Mutation:
    @strawberry.mutation(
        extensions=[AsData()], description="Renames the caller's tenant. Needs the scope tenant:write."
    )
    async def rename_tenant(self, info: Info, input: RenameTenantInput) -> RenameTenantResult | None:
        context = info.context
        return Tenant.of(
            await commands.rename(input.name, caller=context.caller, stores=context.stores, events=context.events)
        )


schema = federated(query=Query, mutation=Mutation)
