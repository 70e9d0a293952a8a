"""A small graph that uses everything of the toolkit, a door that lets all in, and a socket without a network."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self

import httpx
import orjson
import strawberry
from strawberry.dataloader import DataLoader

from resolvers.connections import Connection, Page, connection, sized
from resolvers.entities import loader
from resolvers.http import Endpoint
from resolvers.ids import parse_id
from resolvers.problems import AsData, Conflict, Forbidden, Invalid, Limited, Missing, Unauthenticated
from resolvers.requests import Asked, Refusal
from resolvers.scalars import JSON, DateTime, Duration
from resolvers.schema import Graph, federated
from subgraphs.platform import domain

CANARY = "canary /srv/secret.key select * from password"
PUBLISHED = datetime(2026, 1, 31, 12, 0, 0, 123_456, tzinfo=UTC)
BOOKS = 250


@dataclass
class Shelf:
    """What a context of this graph holds; counts what is done."""

    books: DataLoader[int, int | None] = None  # type: ignore[assignment]
    batches: list[list[int]] = field(default_factory=list)
    made: int = 0

    def __post_init__(self) -> None:
        self.books = loader(self.read)

    async def read(self, ids: Any) -> Mapping[int, int]:
        self.batches.append(list(ids))
        return {id: id for id in ids if 0 <= id < BOOKS}


Info = strawberry.Info[Shelf, None]


@strawberry.type(description="A person who writes.")
class Author:
    name: str

    @connection(description="What they wrote.")
    async def books(self, info: Info, first: int = 20, after: str | None = None) -> Connection["Book"] | None:
        return page_of_books(info, first, after)


@strawberry.federation.type(keys=["id"], description="A book.")
class Book:
    id: strawberry.ID
    title: str
    pages: int | None
    published: DateTime
    length: Duration
    extra: JSON

    @classmethod
    def of(cls, number: int) -> Self:
        return cls(
            id=strawberry.ID(str(number)),
            title=f"Book {number}",
            pages=None if number == 3 else number,
            published=PUBLISHED,
            length=timedelta(hours=1, milliseconds=500),
            extra=JSON({"n": [number, None, 1.5]}),
        )

    @strawberry.field(description="Who wrote it.")
    async def author(self, info: Info) -> Author:
        info.context.made += 1
        return Author(name="Ada")

    @sized(description="Its tags.", at_most=3)
    async def tags(self, info: Info) -> list["Tag"]:
        info.context.made += 3
        return [Tag(word=word) for word in "abc"]

    @strawberry.field(description="Fails.")
    async def broken(self) -> str | None:
        raise RuntimeError(CANARY)

    @classmethod
    async def resolve_reference(cls, info: Info, id: strawberry.ID, **_rest: Any) -> Self | None:
        found = await info.context.books.load(int(id))
        return None if found is None else cls.of(found)


@strawberry.type(description="A word.")
class Tag:
    word: str


def page_of_books(info: Info, first: int, after: str | None) -> Connection[Book]:
    page = Page.of(first, after)
    start = page.after[0] + 1 if page.after else 0
    rows = list(range(start, min(start + page.limit, BOOKS)))
    info.context.made += 1 + 2 * min(len(rows), page.first)  # the connection, its edges and their nodes
    return Connection.of(page, rows, node=Book.of, key=lambda row: [row])


@strawberry.input(description="What to fail with.")
class FailInput:
    kind: str
    id: str = ""


Outcome = Annotated[Book | Invalid | Missing | Conflict | Limited, strawberry.union("Outcome")]

KINDS: dict[str, Callable[[], Exception]] = {
    "invalid": lambda: domain.Invalid("Too short.", code="too_short", field="name", next_step="Make it longer."),
    "missing": lambda: domain.Missing("Not here."),
    "conflict": lambda: domain.Conflict("Somebody was first."),
    "limited": lambda: domain.Limited("Slow down.", retry_after=2.5),
    "forbidden": lambda: domain.Forbidden("Not you.", code="scope_missing"),
    "bug": lambda: RuntimeError(CANARY),
}


@strawberry.type
class Query:
    @strawberry.field(description="The first book.")
    async def book(self, info: Info) -> Book | None:
        info.context.made += 1
        return Book.of(1)

    @strawberry.field(description="A book that lost what every book has.")
    async def untitled(self) -> Book | None:
        lost = Book.of(1)
        lost.title = None  # type: ignore[assignment]
        return lost

    @connection(description="All books.")
    async def books(self, info: Info, first: int = 20, after: str | None = None) -> Connection[Book] | None:
        return page_of_books(info, first, after)

    @strawberry.field(description="Says what it is told.")
    async def echo(self, value: JSON | None = None, at: DateTime | None = None, lasts: Duration | None = None) -> JSON:
        return JSON([value, at.isoformat() if at else None, lasts.total_seconds() if lasts else None])

    @strawberry.field(description="Takes an id.")
    async def by_id(self, id: strawberry.ID) -> str | None:
        return str(parse_id(id))

    @strawberry.field(description="Raises whatever is named.")
    async def fail(self, kind: str) -> str | None:
        raise KINDS[kind]()


@strawberry.type
class Mutation:
    @strawberry.mutation(extensions=[AsData()], description="Fails, or does not.")
    async def fail(self, input: FailInput) -> Outcome:
        if input.kind in KINDS:
            raise KINDS[input.kind]()
        return Book.of(1)


@strawberry.type
class Subscription:
    @strawberry.subscription(description="Counts, and fails at a number.")
    async def count(self, info: Info, to: int, fail_at: int = -1) -> AsyncIterator[int]:
        for number in range(to):
            if number == fail_at:
                raise RuntimeError(CANARY)
            await asyncio.sleep(0)
            yield number

    @strawberry.subscription(description="Books, one after the other.")
    async def shelf(self, to: int) -> AsyncIterator[Book]:
        for number in range(to):
            yield Book.of(number)

    @strawberry.subscription(description="Never says anything.")
    async def silence(self) -> AsyncIterator[int]:
        STARTED.set()
        try:
            await asyncio.Event().wait()
            yield 0
        finally:
            ENDED.set()


STARTED, ENDED = asyncio.Event(), asyncio.Event()
MEMBERS = (Forbidden, Unauthenticated)


def graph(**words: Any) -> Graph:
    return federated(query=Query, mutation=Mutation, subscription=Subscription, **words)


class OpenDoor:
    """Lets in whoever does not say `no`."""

    def __init__(self) -> None:
        self.shelves: list[Shelf] = []

    def shelf(self) -> Shelf:
        self.shelves.append(Shelf())
        return self.shelves[-1]

    async def admit(self, asked: Asked) -> Shelf:
        if "x-no" in asked.headers:
            raise Refusal(401, "identity_missing", "Nobody.", close=4401)
        return self.shelf()

    async def admit_socket(self, path: str, payload: Mapping[str, Any]) -> tuple[Callable[[], Shelf], frozenset[str]]:
        if "no" in payload:
            raise Refusal(401, "identity_missing", "Nobody.", close=4401)
        return self.shelf, frozenset(payload.get("kinds", ["subscription"]))


@asynccontextmanager
async def asking(max_bytes: int = 1_000_000, **words: Any) -> AsyncIterator[httpx.AsyncClient]:
    """HTTP to an endpoint of the small graph."""
    endpoint = Endpoint(graph(**words), OpenDoor(), max_bytes=max_bytes)
    transport = httpx.ASGITransport(app=endpoint)
    async with httpx.AsyncClient(transport=transport, base_url="http://graph") as client:
        yield client


class Socket:
    """One websocket to an endpoint, spoken in ASGI messages."""

    def __init__(self, endpoint: Endpoint, path: str = "/graphql", subprotocol: str = "graphql-transport-ws") -> None:
        self._in: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._out: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        scope = {
            "type": "websocket",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [],
            "subprotocols": [subprotocol],
        }
        self._in.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.create_task(endpoint(scope, self._in.get, self._put))

    async def _put(self, message: Any) -> None:
        self._out.put_nowait(message)

    async def next(self) -> dict[str, Any]:
        return await asyncio.wait_for(self._out.get(), 10)

    async def said(self) -> Any:
        """The next JSON message; a close comes as {"close": code, "reason": …}."""
        message = await self.next()
        if message["type"] == "websocket.close":
            return {"close": message["code"], "reason": message.get("reason", "")}
        return orjson.loads(message["text"])

    def say(self, message: Any) -> None:
        self.raw(text=orjson.dumps(message).decode())

    def raw(self, **words: Any) -> None:
        self._in.put_nowait({"type": "websocket.receive", **words})

    async def accepted(self) -> str | None:
        subprotocol: str | None = (await self.next())["subprotocol"]
        return subprotocol

    async def leave(self) -> None:
        self._in.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait_for(self.task, 10)
