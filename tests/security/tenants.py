"""Two tenants side by side in one process that serves every subgraph: one with secrets, one that tries to get at them.

`house_of_two` makes them; what belongs to the first is read from the database's own catalogue, so that a table that
comes later brings its ids and its rows into these tests by itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import jwt
import orjson

from subgraphs.platform.cli import subgraph_names
from subgraphs.platform.settings import Settings
from tests.security.surface import Entity, Operation, operations
from tests.security.values import definition, variables_for
from tests.subgraphs.graph_client import Client
from tests.subgraphs.listening import listening
from tests.subgraphs.user.test_people import join

CANARY = "canary4711"
"""Stands in every text the first tenant wrote; nobody else may ever see it."""

PATIENCE = 30.0
TABLES = """
    select n.nspname as schema, c.relname as name,
           array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0
                 and not a.attisdropped and a.atttypid = 'uuid'::regtype order by a.attnum) as ids,
           exists(select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant') as tenanted
    from pg_class c join pg_namespace n on n.oid = relnamespace
    where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema') order by 1, 2
"""
CHANGE = """mutation ($input: {type}!) {{ {name}(input: $input) {{ __typename {selection}
  ... on Problem {{ code message field nextStep }} }} }}"""


@dataclass
class Victim:
    """The first tenant: its owner, one who may only read, and everything of it that has an id or a cursor."""

    owner: Client
    viewer: Client
    tenant: str
    ids: dict[str, str] = field(default_factory=dict)
    """What the id is of (`schema.table.column`, or a word) → id."""
    cursors: dict[str, list[str]] = field(default_factory=dict)
    """Root field → cursors of its list."""
    everything: frozenset[str] = frozenset()
    """Every id of every row."""


@dataclass
class Stage:
    door: Client
    victim: Victim
    stranger: Client
    own: Mapping[str, str]
    """The stranger's own things, by the names of arguments: workflowId, executionId, endpointId, userId, id."""
    watching: asyncpg.Connection

    identities: dict[str | None, str] = field(default_factory=dict)
    reading: str = ""

    async def say(self, who: Client, operation: Operation | Entity, variables: Mapping[str, Any]) -> httpx.Response:
        """One request by the router's door; identities are asked for once, as they hold for minutes."""
        body = orjson.dumps({"query": operation.document, "variables": variables})
        return await self.put(who, operation.subgraph, body)

    async def put(self, who: Client, subgraph: str, body: bytes) -> httpx.Response:
        """The same for a body that is written already."""
        if who.token not in self.identities:
            self.identities[who.token] = (await who.identity()).headers["x-linkflow-identity"]
        identity, path = self.identities[who.token], f"/{subgraph}/graphql"
        headers = {"content-type": "application/json", "x-linkflow-identity": identity}
        headers["x-linkflow-hop"] = who.ground.hop.proof("POST", path, body, identity)
        return await who.http.post(path, content=body, headers=headers)

    async def digest(self) -> Mapping[str, tuple[int, str]]:
        """Table → how many rows name the first tenant or its owner, and a digest of what they say."""
        if not self.reading:
            self.reading = " union all ".join(
                f"""select '{table["schema"]}.{table["name"]}' as name, count(*) as rows,
                    coalesce(md5(string_agg(t::text, '|' order by t::text)), '') as digest
                    from "{table["schema"]}"."{table["name"]}" t where t::text like any($1)"""
                for table in await self.watching.fetch(TABLES)
            )
        names = [f"%{self.victim.tenant}%", f"%{self.victim.owner.session['user']['id']}%"]
        rows = await self.watching.fetch(self.reading, names)
        return {row["name"]: (row["rows"], row["digest"]) for row in rows}

    async def at_rest(self) -> Mapping[str, tuple[int, str]]:
        """The digest once nothing moves any more."""
        async with asyncio.timeout(PATIENCE):
            before = await self.digest()
            while True:
                await asyncio.sleep(0.25)
                if (after := await self.digest()) == before:
                    return after
                before = after


async def change(client: Client, subgraph: str, name: str, selection: str, /, **input: Any) -> Any:
    type = name[0].upper() + name[1:] + "Input"
    document = CHANGE.format(name=name, type=type, selection=selection)
    return (await client.ask(subgraph, document, {"input": input}))[name]


async def furnished(client: Client, word: str) -> dict[str, str]:
    """A published workflow with a secret webhook, a call, runs that ended; their ids by name of argument."""
    name = f"{word} workflow"
    made = await change(
        client, "workflow", "createWorkflow", "... on Workflow { id }", name=name, definition=definition(), message=word
    )
    workflow = made["id"]
    release = await change(client, "workflow", "publishRelease", "... on Release { number }", workflowId=workflow)
    assert release["__typename"] == "Release", release
    selection = "... on Execution { id }"
    words = {"workflowId": workflow, "input": {"note": word}, "idempotencyKey": word}
    run = await eventually(lambda: started(client, selection, words))
    query = "query ($id: ID!) { endpoints(workflowId: $id) { id url } }"
    endpoint = await eventually(lambda: first(client, query, workflow))
    url = httpx.URL(endpoint["url"])
    called = await client.http.post(f"/webhook{url.path}", json={"note": word})
    assert called.status_code in {200, 202}, called.text
    await change(
        client, "webhook", "configureEndpoint", "... on Endpoint { id }", endpointId=endpoint["id"], auth="HMAC",
        preset=None, secret=word + word,
    )  # fmt: skip
    for id in (run, called.headers["x-linkflow-execution"]):
        await eventually(partial(ended, client, id))
    user = client.session["user"]["id"]
    return {"workflowId": workflow, "executionId": run, "endpointId": endpoint["id"], "userId": user, "id": workflow}


async def started(client: Client, selection: str, words: Mapping[str, Any]) -> str | None:
    found = await change(client, "execution", "startExecution", selection, **words)
    return str(found["id"]) if found["__typename"] == "Execution" else None


async def first(client: Client, query: str, id: str) -> Any:
    (found,) = (await client.ask("webhook", query, {"id": id})).values()
    return found[0] if found else None


async def ended(client: Client, id: str) -> bool:
    run = (await client.ask("execution", "query ($id: ID!) { execution(id: $id) { finishedAt } }", {"id": id}))[
        "execution"
    ]
    return bool(run and run["finishedAt"])


async def eventually(look: Any) -> Any:
    async with asyncio.timeout(PATIENCE):
        while not (found := await look()):
            await asyncio.sleep(0.05)
        return found


async def collected(watching: asyncpg.Connection, victim: Victim, kept: Mapping[str, str]) -> None:
    """Reads every id of the first tenant: one of each kind to try, all of them to look for."""
    seen: set[str] = set(kept.values())
    victim.ids.update(kept)
    for table in await watching.fetch(TABLES):
        if not table["tenanted"]:
            continue
        columns = ", ".join(f'"{name}"' for name in table["ids"])
        rows = await watching.fetch(
            f'select {columns} from "{table["schema"]}"."{table["name"]}" where tenant = $1', UUID(victim.tenant)
        )
        for row in rows:
            for name, value in row.items():
                if value is None or not value.int >> 64:
                    continue  # small numbers are no ids
                if str(value) not in victim.ids.values() and table["schema"] != "bus":
                    victim.ids.setdefault(f"{table['schema']}.{table['name']}.{name}", str(value))
                seen.add(str(value))
    for client in (victim.owner, victim.viewer):
        claims = jwt.decode(client.token or "", options={"verify_signature": False})
        victim.ids.setdefault("session", claims["sid"])
        seen |= {claims[name] for name in ("sub", "tid", "sid")}
    victim.everything = frozenset(seen)


async def cursors(victim: Victim, own: Mapping[str, str]) -> None:
    """Follows every list of the graph as its owner, and keeps the cursors."""
    for operation in lists():
        variables = variables_for(operation, lambda place: own.get(place.name) if place.required else None)
        answer = (await victim.owner.post(operation.subgraph, operation.document, variables)).json()
        found = sorted(set(_cursors(answer)))
        if found:
            victim.cursors[operation.name] = found


def lists() -> Sequence[Operation]:
    return [operation for operation in operations() if any(place.name == "after" for place in operation.places)]


def _cursors(value: Any) -> list[str]:
    if isinstance(value, list):
        return [found for each in value for found in _cursors(each)]
    if not isinstance(value, dict):
        return []
    here = [each for name, each in value.items() if name in {"cursor", "startCursor", "endCursor"} and each]
    return here + [found for each in value.values() for found in _cursors(each)]


@asynccontextmanager
async def house_of_two(settings: Settings) -> AsyncIterator[Stage]:
    """All subgraphs on a loopback port, the two tenants in them, and a connection that sees every row."""
    builds = [import_module(f"subgraphs.{name}.service").build for name in subgraph_names()]
    async with listening(settings, builds) as door:
        watching = await asyncpg.connect(settings.dsn("lf_admin"))
        try:
            owner = await door.sign_up(name=f"{CANARY} Ada", organisation=f"{CANARY} Engines")
            stranger = await door.sign_up(name="Eve", organisation="Eavesdroppers")
            (viewer,) = await join(door, owner, "viewer")
            kept = await furnished(owner, CANARY)
            own = await furnished(stranger, "eve")
            victim = Victim(owner, viewer, owner.session["tenant"]["id"])
            await collected(watching, victim, kept)
            await cursors(victim, kept)
            yield Stage(door, victim, stranger, own, watching)
        finally:
            await watching.close()


def without(text: str, id: str) -> str:
    """The answer, with the id that was sent and what differs between any two answers taken out."""
    answer = _uncorrelated(json.loads(text))
    return json.dumps(answer, sort_keys=True).replace(id, "<id>").replace(id.upper(), "<id>")


def _uncorrelated(value: Any) -> Any:
    if isinstance(value, list):
        return [_uncorrelated(each) for each in value]
    if isinstance(value, dict):
        return {name: _uncorrelated(each) for name, each in value.items() if name != "correlationId"}
    return value
