"""Lists as Relay connections: pages forward by cursor, sizes capped, `hasNextPage` exact.

    @connection(description="Newest first.")
    async def workflows(self, info: Info, first: int = 20, after: str | None = None) -> Connection[Workflow] | None:
        page = Page.of(first, after)
        rows = await queries.workflows(..., limit=page.limit, after=page.after)     # reads first + 1
        return Connection.of(page, rows, node=Workflow.of, key=lambda row: [row.created_at.isoformat(), str(row.id)])

Source of the shape: the Relay GraphQL Cursor Connections Specification.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

import orjson
import strawberry
from strawberry.federation.schema_directives import Cost, ListSize
from strawberry.types.unset import UNSET

Node = TypeVar("Node")
Row = TypeVar("Row")

MAXIMUM = 100
"""Rows a page holds at most, unless the field says otherwise."""


class Unpageable(ValueError):
    """`first` or `after` cannot be used. Describes itself as Invalid."""

    kind = "Invalid"

    def __init__(self, message: str, *, code: str, field: str, next_step: str) -> None:
        super().__init__(message)
        self.message, self.code = message, code
        self.field: str | None = field
        self.next_step: str | None = next_step


@dataclass(frozen=True, slots=True)
class Page:
    """What to read: `limit` rows (one more than shown, to know whether there is a next page) after the key `after`."""

    first: int
    after: list[Any] | None

    @property
    def limit(self) -> int:
        return self.first + 1

    @classmethod
    def of(cls, first: int, after: str | None = None, *, maximum: int = MAXIMUM) -> Self:
        """Checks both arguments; raises an Invalid problem that names the one at fault."""
        if not 1 <= first <= maximum:
            raise Unpageable(
                f"A page holds 1 to {maximum} rows.",
                code="page_size",
                field="first",
                next_step=f"Ask for at most {maximum} and follow endCursor.",
            )
        return cls(first, None if after is None else read_cursor(after))


def write_cursor(key: Sequence[Any]) -> str:
    """An opaque cursor for a row whose sort key is `key` (JSON values)."""
    return base64.urlsafe_b64encode(orjson.dumps(list(key))).rstrip(b"=").decode()


def read_cursor(cursor: str) -> list[Any]:
    """The sort key inside a cursor. The content is the client's to forge: bind it as a parameter, never trust it."""
    try:
        key = orjson.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        key = None
    if not isinstance(key, list) or not key or len(cursor) > 1024:
        raise Unpageable(
            "This is not a cursor of this list.",
            code="cursor_malformed",
            field="after",
            next_step="Send endCursor of the page before, or leave it out to start at the beginning.",
        )
    return key


@strawberry.federation.type(shareable=True, description="Where a page stands in its list.")
class PageInfo:
    has_next_page: bool = strawberry.field(description="Whether more rows follow this page.")
    has_previous_page: bool = strawberry.field(description="Whether this page was asked for with a cursor.")
    start_cursor: str | None = strawberry.field(description="Cursor of the first row; nothing on an empty page.")
    end_cursor: str | None = strawberry.field(description="Send it as `after` to get the next page.")


@strawberry.type(description="A row of a page.")
class Edge(Generic[Node]):
    node: Node = strawberry.field(description="The row itself.")
    cursor: str = strawberry.field(description="Send it as `after` to get what follows this row.")


@strawberry.type(description="A page of a list.")
class Connection(Generic[Node]):
    edges: list[Edge[Node]] = strawberry.field(description="The rows of this page, in order.")
    page_info: PageInfo = strawberry.field(description="Where this page stands in the list.")

    @classmethod
    def of(
        cls,
        page: Page,
        rows: Sequence[Row],
        *,
        node: Callable[[Row], Node],
        key: Callable[[Row], Sequence[Any]],
    ) -> Self:
        """Cuts the extra row off, and gives every other row its cursor from `key`."""
        edges = [Edge(node=node(row), cursor=write_cursor(key(row))) for row in rows[: page.first]]
        info = PageInfo(
            has_next_page=len(rows) > page.first,
            has_previous_page=page.after is not None,
            start_cursor=edges[0].cursor if edges else None,
            end_cursor=edges[-1].cursor if edges else None,
        )
        return cls(edges=edges, page_info=info)


def connection(*, description: str, weight: int | None = None, **words: Any) -> Any:
    """The field decorator for a connection: it is sized by `first`, and costs `weight` itself (default 1)."""
    sizes = ListSize(
        assumed_size=UNSET,
        slicing_arguments=["first"],
        sized_fields=["edges"],
        require_one_slicing_argument=False,  # `first` has a default
    )
    directives: list[object] = [sizes] if weight is None else [sizes, Cost(weight=weight)]
    return strawberry.federation.field(description=description, directives=directives, **words)


def sized(*, description: str, at_most: int, weight: int | None = None, **words: Any) -> Any:
    """The field decorator for a plain list of at most about `at_most` rows."""
    sizes = ListSize(
        assumed_size=at_most, slicing_arguments=UNSET, sized_fields=UNSET, require_one_slicing_argument=UNSET
    )
    directives: list[object] = [sizes] if weight is None else [sizes, Cost(weight=weight)]
    return strawberry.federation.field(description=description, directives=directives, **words)
