"""Webhook, as its clients see it: endpoints, their calls, and what their owner may change."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Self
from uuid import UUID

import strawberry
from strawberry.federation.schema_directives import Key
from strawberry.federation.types import FieldSet
from strawberry.types.unset import UNSET

from resolvers.connections import Connection, Page, connection, sized
from resolvers.ids import parse_id
from resolvers.problems import AsData, Forbidden, Invalid, Missing, Unauthenticated
from resolvers.scalars import DateTime
from resolvers.schema import federated
from subgraphs.platform.database import Database
from subgraphs.platform.domain import Caller
from subgraphs.webhook import domain, queries
from subgraphs.webhook.queries import Received


@dataclass(frozen=True)
class Context:
    """What a resolver here may lean on, for one operation."""

    caller: Caller
    database: Database
    rows: queries.Rows
    url: Callable[[str], str]
    configure: Callable[[UUID, domain.Wish, Caller], Awaitable[domain.Endpoint]]
    rotate: Callable[[UUID, Caller], Awaitable[domain.Endpoint]]


Info = strawberry.Info[Context, None]
STUB = [Key(fields=FieldSet("id"), resolvable=False)]


@strawberry.federation.type(keys=STUB)
class Workflow:
    id: strawberry.ID


@strawberry.federation.type(keys=STUB)
class Execution:
    id: strawberry.ID


@strawberry.enum(description="How a caller proves that they may call.")
class EndpointAuth(Enum):
    NONE = strawberry.enum_value("none", description="Who knows the URL may call.")
    HEADER = strawberry.enum_value("header", description="A header carries the secret.")
    HMAC = strawberry.enum_value("hmac", description="A header carries the HMAC-SHA256 of the raw body, in hex.")


@strawberry.enum(description="A provider whose way of signing is known.")
class EndpointPreset(Enum):
    GITHUB = strawberry.enum_value("github", description="X-Hub-Signature-256, as GitHub signs.")


@strawberry.enum(description="When a caller gets an answer.")
class ResponseMode(Enum):
    NOW = strawberry.enum_value("now", description="At once, when the call is stored.")
    DONE = strawberry.enum_value("done", description="When the run ends, with its result.")
    NODE = strawberry.enum_value("node", description="When a respond node runs, with what it says.")


@strawberry.enum(description="Whether a URL answers.")
class EndpointState(Enum):
    ACTIVE = strawberry.enum_value("active", description="Calls start runs.")
    NEEDS_SECRET = strawberry.enum_value("needs_secret", description="Closed until configureEndpoint gives a secret.")
    RETIRED = strawberry.enum_value("retired", description="The current release has no such node.")


@strawberry.enum(description="What became of a call.")
class CallOutcome(Enum):
    ACCEPTED = strawberry.enum_value("accepted", description="It started a run.")
    DUPLICATE = strawberry.enum_value("duplicate", description="It repeats a call that started a run.")
    REFUSED = strawberry.enum_value("refused", description="It was not let in; the reason says why.")


@strawberry.type(description="A request that came to an endpoint.")
class Call:
    id: strawberry.ID = strawberry.field(description="Stable and opaque; ordered by time.")
    received_at: DateTime = strawberry.field(description="When it came.")
    method: str = strawberry.field(description="Its HTTP method.")
    path: str = strawberry.field(description="What followed the secret part of the URL.")
    size: int = strawberry.field(description="Bytes of its body.")
    content_type: str | None = strawberry.field(description="What it said its body is.")
    status: int = strawberry.field(
        description="The HTTP status it was answered with; 202 where the workflow itself answers."
    )
    outcome: CallOutcome = strawberry.field(description="What became of it.")
    reason: str | None = strawberry.field(description="Why it was refused, as a code.")
    execution: Execution | None = strawberry.field(description="The run it started or repeats.")
    duplicate_of: strawberry.ID | None = strawberry.field(description="The call it repeats.")

    @classmethod
    def of(cls, call: Received) -> Self:
        first = strawberry.ID(str(call.duplicate_of)) if call.duplicate_of else None
        return cls(
            id=strawberry.ID(str(call.id)),
            received_at=call.at,
            method=call.method,
            path=call.path,
            size=call.size,
            content_type=call.content_type,
            status=call.status,
            outcome=CallOutcome(call.outcome),
            reason=call.reason,
            execution=Execution(id=strawberry.ID(str(call.execution))) if call.execution else None,
            duplicate_of=first,
        )


@strawberry.type(description="A secret URL that starts a workflow: a webhook trigger of its current release.")
class Endpoint:
    id: strawberry.ID = strawberry.field(description="Stable and opaque; the same over releases.")
    url: str = strawberry.field(description="Where to send calls. Who knows it may call, so treat it as a secret.")
    node: str = strawberry.field(description="The trigger node's id.")
    workflow: Workflow | None = strawberry.field(description="The workflow it starts.")
    release: int = strawberry.field(description="The release it starts.")
    methods: list[str] = sized(description="The HTTP methods it takes.", at_most=5)
    auth: EndpointAuth = strawberry.field(description="How callers prove that they may call.")
    header_name: str | None = strawberry.field(description="The header that carries the secret or the signature.")
    preset: EndpointPreset | None = strawberry.field(description="The provider whose way of signing it checks.")
    response_mode: ResponseMode = strawberry.field(description="When callers get an answer.")
    state: EndpointState = strawberry.field(description="Whether it answers.")
    secret_set: bool = strawberry.field(description="Whether it has a secret; the secret itself cannot be read.")
    created_at: DateTime = strawberry.field(description="When its URL came to be.")

    @classmethod
    def of(cls, endpoint: domain.Endpoint, url: Callable[[str], str]) -> Self:
        return cls(
            id=strawberry.ID(str(endpoint.id)),
            url=url(endpoint.token),
            node=endpoint.node,
            workflow=Workflow(id=strawberry.ID(str(endpoint.workflow))),
            release=endpoint.release,
            methods=list(endpoint.terms.methods),
            auth=EndpointAuth(endpoint.auth.value),
            header_name=None if endpoint.auth is domain.Auth.NONE else endpoint.header,
            preset=EndpointPreset(endpoint.preset.value) if endpoint.preset else None,
            response_mode=ResponseMode(endpoint.terms.respond.value),
            state=EndpointState(endpoint.state.value),
            secret_set=endpoint.secret is not None,
            created_at=endpoint.at,
        )

    @connection(description="Calls that came, newest first; refused ones and repetitions among them.")
    async def calls(self, info: Info, first: int = 20, after: str | None = None) -> Connection[Call] | None:
        tenant = info.context.caller.must("webhook:read")
        page = Page.of(first, after)
        rows = await queries.calls(UUID(self.id), page, tenant=tenant, database=info.context.database)
        return Connection.of(page, rows, node=Call.of, key=lambda row: [str(row.id)])


@strawberry.input(description="How callers of an endpoint are to prove themselves; what is left out stays.")
class ConfigureEndpointInput:
    endpoint_id: strawberry.ID = strawberry.field(description="The endpoint.")
    auth: EndpointAuth | None = strawberry.field(default=None, description="Another way; it needs its own secret.")
    header_name: str | None = strawberry.field(
        default=None, description="The header that carries the secret or the signature."
    )
    secret: str | None = strawberry.field(
        default=None, description="8 to 1,024 bytes, better 32 random characters. It can be replaced, never read."
    )
    preset: EndpointPreset | None = strawberry.field(
        default=UNSET, description="A provider whose way of signing is known; implies HMAC. Null: none."
    )


@strawberry.input(description="Which URL to replace.")
class RotateEndpointUrlInput:
    endpoint_id: strawberry.ID = strawberry.field(description="The endpoint.")


EndpointResult = Annotated[
    Endpoint | Invalid | Missing | Forbidden | Unauthenticated, strawberry.union("ConfigureEndpointResult")
]
RotateResult = Annotated[
    Endpoint | Invalid | Missing | Forbidden | Unauthenticated, strawberry.union("RotateEndpointUrlResult")
]


@strawberry.type
class Query:
    @sized(description="The endpoints of a workflow's current release.", at_most=50)
    async def endpoints(self, info: Info, workflow_id: strawberry.ID) -> list[Endpoint] | None:
        context = info.context
        tenant = context.caller.must("webhook:read")
        workflow = parse_id(workflow_id, "workflowId")
        found = await queries.of_workflow(workflow, tenant=tenant, database=context.database, rows=context.rows)
        return [Endpoint.of(endpoint, context.url) for endpoint in found]

    @strawberry.field(description="Nothing, if your organisation has no such endpoint.")
    async def endpoint(self, info: Info, id: strawberry.ID) -> Endpoint | None:
        context = info.context
        tenant = context.caller.must("webhook:read")
        found = await queries.by_id(parse_id(id), tenant=tenant, database=context.database, rows=context.rows)
        return Endpoint.of(found, context.url) if found else None


@strawberry.type
class Mutation:
    @strawberry.mutation(
        extensions=[AsData()],
        description="Changes how callers prove themselves. Another way without its own secret closes the endpoint "
        "until it has one.",
    )
    async def configure_endpoint(self, info: Info, input: ConfigureEndpointInput) -> EndpointResult | None:
        given = input.preset is not UNSET
        preset = domain.Preset(input.preset.value) if given and input.preset else None
        wish = domain.Wish(
            auth=domain.Auth(input.auth.value) if input.auth else None,
            header=input.header_name,
            secret=input.secret,
            preset=preset,
            preset_given=given,
        )
        id = parse_id(input.endpoint_id, "input.endpointId")
        return Endpoint.of(await info.context.configure(id, wish, info.context.caller), info.context.url)

    @strawberry.mutation(
        extensions=[AsData()], description="A new URL for an endpoint. The old one is unknown from then on."
    )
    async def rotate_endpoint_url(self, info: Info, input: RotateEndpointUrlInput) -> RotateResult | None:
        id = parse_id(input.endpoint_id, "input.endpointId")
        return Endpoint.of(await info.context.rotate(id, info.context.caller), info.context.url)


schema = federated(query=Query, mutation=Mutation)
