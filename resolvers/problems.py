"""Expected failures as data: one interface, a type per kind, and the extension that turns raised problems into them.

A mutation returns a union of its success and the kinds it can end in, and is written as if nothing failed:

    PublishResult = Annotated[Release | Invalid | Missing | Forbidden, strawberry.union("PublishResult")]

    @strawberry.mutation(extensions=[AsData()])
    async def publish(self, info: Info, input: PublishInput) -> PublishResult: ...

The domain raises; it knows nothing of GraphQL. What it raises only has to describe itself (see `Described`).
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, runtime_checkable

import strawberry
from graphql import GraphQLUnionType, get_named_type
from strawberry.extensions import FieldExtension


@runtime_checkable
class Described(Protocol):
    """An exception that the caller can act on. `kind` names one of the GraphQL types below."""

    kind: Any
    message: str
    code: str
    field: str | None
    next_step: str | None


@strawberry.interface(description="An expected failure: something the caller can change and try again.")
class Problem:
    code: str = strawberry.field(description="Stable, for programs: lower case words joined by underscores.")
    message: str = strawberry.field(description="For people: what is wrong, in one sentence.")
    field: str | None = strawberry.field(
        default=None, description="The part of the input at fault, as a dotted path; nothing if it is the whole."
    )
    next_step: str | None = strawberry.field(default=None, description="What to do about it.")


@strawberry.federation.type(shareable=True, description="What was sent cannot be accepted as it stands.")
class Invalid(Problem):
    pass


@strawberry.federation.type(
    shareable=True, description="Nothing of that id is visible to the caller; foreign and absent look the same."
)
class Missing(Problem):
    pass


@strawberry.federation.type(
    shareable=True, description="Somebody else was first, or the same key came with other content."
)
class Conflict(Problem):
    pass


@strawberry.federation.type(shareable=True, description="The caller is known, and their role does not allow this.")
class Forbidden(Problem):
    pass


@strawberry.federation.type(shareable=True, description="Nobody is logged in, or the credentials do not hold.")
class Unauthenticated(Problem):
    pass


@strawberry.federation.type(shareable=True, description="Too much or too often.")
class Limited(Problem):
    retry_after: float | None = strawberry.field(
        default=None, description="In how many seconds it is worth trying again, if that is known."
    )


KINDS: dict[str, type[Problem]] = {
    kind.__name__: kind for kind in (Invalid, Missing, Conflict, Forbidden, Unauthenticated, Limited)
}


def as_problem(raised: Described) -> Problem:
    """The GraphQL object for a described exception; an unknown kind shows as Invalid."""
    words: dict[str, Any] = {
        "code": raised.code,
        "message": raised.message,
        "field": raised.field,
        "next_step": raised.next_step,
    }
    kind = KINDS.get(raised.kind, Invalid)
    if kind is Limited:
        words["retry_after"] = getattr(raised, "retry_after", None)
    return kind(**words)


class AsData(FieldExtension):
    """Returns raised problems as members of the field's union; whatever the union does not hold passes on.

    A problem outside the union still reaches the client, as an error with its code (see `resolvers.extensions`).
    """

    async def resolve_async(
        self, next_: Callable[..., Awaitable[Any]], source: Any, info: strawberry.Info, **arguments: Any
    ) -> Any:
        try:
            return await next_(source, info, **arguments)
        except Exception as raised:  # noqa: BLE001 - raised again unless it describes itself
            return _member(raised, info)

    def resolve(self, next_: Callable[..., Any], source: Any, info: strawberry.Info, **arguments: Any) -> Any:
        try:
            return next_(source, info, **arguments)
        except Exception as raised:  # noqa: BLE001 - raised again unless it describes itself
            return _member(raised, info)


def _member(raised: Exception, info: strawberry.Info) -> Problem:
    returned = get_named_type(info._raw_info.return_type)
    if isinstance(raised, Described) and isinstance(returned, GraphQLUnionType):
        problem = as_problem(raised)
        if any(member.name == type(problem).__name__ for member in returned.types):
            return problem
    raise raised
