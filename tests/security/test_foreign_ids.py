"""No operation tells a stranger anything of another tenant: whatever id of theirs is sent, the answer is that for an
id nobody has, and nothing of theirs changes. Once with both walls, once with row-level security alone.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
import websockets
from websockets.typing import Subprotocol

from subgraphs.platform.domain import uuid7
from tests.security.surface import Entity, Operation, Place, entities, operations
from tests.security.tenants import CANARY, Stage, house_of_two, lists, without
from tests.security.values import unknown, variables_for
from tests.subgraphs.graph_client import Client

TOLD_TO_WHOEVER_KNOWS_IT = {"Query.signUp.id"}
"""Ids that are keys: who has just signed up holds nothing else yet. 74 random bits, and only the state is told."""


@pytest.fixture(scope="module", params=[True, False], ids=["both walls", "row-level security alone"])
async def stage(request: pytest.FixtureRequest, fresh_settings: Callable[..., Any]) -> AsyncIterator[Stage]:
    async with house_of_two(await fresh_settings(tenant_filter=request.param)) as found:
        yield found


def nobody_s() -> list[str]:
    """Ids that no row has: one of now, one of some years ago, one that is random all over."""
    old = uuid7()
    return [str(uuid7()), str(UUID(int=old.int - (10**11 << 80))), str(uuid4())]


def by_kind(kind: str) -> list[tuple[Operation, Place]]:
    return [(operation, place) for operation in operations() if operation.kind == kind for place in operation.ids()]


async def answered(stage: Stage, who: Client, operation: Operation, place: Place, id: str) -> str:
    """What `who` hears when this id stands at this place and their own ids stand elsewhere."""

    def id_for(at: Place) -> str | None:
        return id if at == place else stage.own.get(at.name) if at.required else None

    variables = variables_for(operation, id_for)
    if operation.kind == "subscription":
        return without(json.dumps(await streamed(stage, who, operation, variables)), id)
    answer = await stage.say(who, operation, variables)
    assert answer.status_code < 500, (operation, place, id, answer.text)
    assert "VALIDATION" not in answer.text, (operation, answer.text)
    return without(answer.text, id)


@asynccontextmanager
async def socket(who: Client, subgraph: str) -> AsyncIterator[websockets.ClientConnection]:
    identity = (await who.identity()).headers["x-linkflow-identity"]
    hop = who.ground.hop.proof("WS", f"/{subgraph}/graphql", b"", identity)
    url = f"ws://127.0.0.1:{who.ground.settings.serve_port}/{subgraph}/graphql"
    async with websockets.connect(url, subprotocols=[Subprotocol("graphql-transport-ws")], proxy=None) as opened:
        await opened.send(json.dumps({"type": "connection_init", "payload": {"identity": identity, "hop": hop}}))
        assert json.loads(await opened.recv())["type"] == "connection_ack"
        yield opened


async def streamed(stage: Stage, who: Client, operation: Operation, variables: Any) -> Any:
    """The messages of a subscription until it ends."""
    async with socket(who, operation.subgraph) as opened, asyncio.timeout(20):
        payload = {"query": operation.document, "variables": variables}
        await opened.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
        heard = []
        while True:
            message = json.loads(await opened.recv())
            if message["type"] in {"next", "error", "complete"}:
                found = message.get("payload")
                heard.append({"errors": found} if isinstance(found, list) else found)
            if message["type"] in {"error", "complete"}:
                return {"type": message["type"], "heard": heard}


def nothing_of(stage: Stage, text: str, what: object) -> None:
    """Fails if the answer names anything of the first tenant."""
    assert CANARY not in text, (what, text)
    told = [id for id in stage.victim.everything if id in text]
    assert not told, (what, told, text)


async def tried(stage: Stage, who: Client, operation: Operation, place: Place) -> int:
    """Sends every kind of id of the first tenant, and compares with ids of nobody."""
    ids = [*nobody_s(), *dict.fromkeys(stage.victim.ids.values())]
    at_once = asyncio.Semaphore(16 if operation.kind == "subscription" else 6)

    async def one(id: str) -> str:
        async with at_once:
            return await answered(stage, who, operation, place, id)

    expected, *others = await asyncio.gather(*(one(id) for id in ids))
    nothing_of(stage, expected, operation)
    for id, answer in zip(ids[1:], others, strict=True):
        kind = [name for name, value in stage.victim.ids.items() if value == id]
        assert answer == expected, f"{operation} at {place.coordinate} knows {kind or 'a random id'}: {answer}"
    return len(ids)


async def unharmed(stage: Stage, before: Any, what: object) -> None:
    after = await stage.digest()
    changed = {name: (before.get(name), after[name]) for name in after if after[name] != before.get(name)}
    assert not changed, f"{what} changed rows of another tenant: {changed}"


def test_every_argument_has_a_value() -> None:
    """A new argument of a new name says here what to add."""
    assert not unknown(), "\n".join(unknown())


@pytest.mark.shows("T01", "T08")
@pytest.mark.parametrize("kind", ["query", "mutation", "subscription"])
@pytest.mark.parametrize("who", ["the owner of another tenant", "nobody"])
async def test_ids_of_others_are_ids_of_nobody(stage: Stage, who: str, kind: str) -> None:
    client = stage.stranger if who != "nobody" else Client(stage.door.ground, stage.door.http)
    before = await stage.at_rest()
    places = [pair for pair in by_kind(kind) if pair[1].coordinate not in TOLD_TO_WHOEVER_KNOWS_IT]
    count = 0
    for operation, place in places:
        count += await tried(stage, client, operation, place)
        await unharmed(stage, before, operation)
    print(f"\n{who}, {kind}: {len(places)} places x {len(set(stage.victim.ids.values()))} ids, {count} requests")
    print(", ".join(stage.victim.ids))
    assert {"workflowId", "executionId", "endpointId", "userId", "session", "auth.sign_up.id"} <= set(stage.victim.ids)


@pytest.mark.shows("US-03")
async def test_who_may_only_read_hears_the_same_of_every_id(stage: Stage) -> None:
    """Inside the tenant: a role without the scope is told so before anything is looked up, and nothing happens."""
    before, count = await stage.at_rest(), 0
    for operation, place in by_kind("mutation"):
        for id in (*nobody_s(), *dict.fromkeys(stage.victim.ids.values())):
            answer = await answered(stage, stage.victim.viewer, operation, place, id)
            found = json.loads(answer)["data"][operation.name]
            assert (found["__typename"], found["code"]) == ("Forbidden", "scope_missing"), (operation, answer)
            count += 1
        await unharmed(stage, before, operation)
    print(f"\na viewer: {count} requests refused")


@pytest.mark.shows("T01", "T08")
async def test_the_owner_is_told(stage: Stage) -> None:
    """What makes the other tests mean something: by the same questions, the owner hears of every kind of thing."""
    owner, opened = stage.victim.owner, 0
    ids = list(dict.fromkeys(stage.victim.ids.values()))
    for operation, place in [*by_kind("query"), *by_kind("subscription")]:
        if place.coordinate in TOLD_TO_WHOEVER_KNOWS_IT:
            continue
        told = await asyncio.gather(*(answered(stage, owner, operation, place, id) for id in (nobody_s()[2], *ids[:5])))
        assert len(set(told)) > 1, f"{operation}: no id of its own tells the owner anything"
        opened += 1
    for entity in entities():
        answers = [json.loads((await stage.say(owner, entity, {"r": [reference(entity, id)]})).text) for id in ids]
        found = [answer for answer in answers if (answer.get("data") or {}).get("_entities", [None])[0]]
        opened += bool(found)
    print(f"\nthe owner opens {opened} places")
    assert opened >= 12


def reference(entity: Entity, id: str) -> dict[str, str]:
    return {"__typename": entity.type, entity.key: id}


@pytest.mark.shows("T01", "T08", "G17")
@pytest.mark.parametrize("who", ["the owner of another tenant", "nobody"])
async def test_entities_of_others_are_entities_of_nobody(stage: Stage, who: str) -> None:
    """Straight at each subgraph, for every type with a key, with every kind of id: as the router would ask."""
    client = stage.stranger if who != "nobody" else Client(stage.door.ground, stage.door.http)
    before, count = await stage.at_rest(), 0
    ids = list(dict.fromkeys(stage.victim.ids.values()))
    for entity in entities():

        async def one(id: str, entity: Entity = entity) -> str:
            answer = await stage.say(client, entity, {"r": [reference(entity, id)]})
            assert answer.status_code < 500, (entity, answer.text)
            return without(answer.text, id)

        answers = await asyncio.gather(*(one(id) for id in (*nobody_s(), *ids)))
        nothing_of(stage, answers[0], entity)
        assert set(answers) == {answers[0]}, (entity, answers)
        whole = await stage.say(client, entity, {"r": [reference(entity, id) for id in ids]})
        assert CANARY not in whole.text, entity
        count += len(answers) + 1
        await unharmed(stage, before, entity)
    print(f"\n{who}: {len(entities())} entities x {len(ids)} ids, {count} requests")


@pytest.mark.shows("T01", "T08")
async def test_a_cursor_of_others_opens_no_list(stage: Stage) -> None:
    before, count = await stage.at_rest(), 0
    for operation in lists():
        for cursor in stage.victim.cursors.get(operation.name, []):
            variables = variables_for(operation, lambda place: stage.own.get(place.name) if place.required else None)
            answers = []
            for after in (cursor, made_up(stage, cursor)):
                answer = await stage.say(stage.stranger, operation, variables | {"after": after})
                answers.append(without(answer.text.replace(after, "<cursor>"), "<none>"))
            assert answers[0] == answers[1], (operation, cursor)
            nothing_of(stage, answers[0], operation)
            count += 1
    await unharmed(stage, before, "a cursor")
    assert {"workflows", "executions"} <= set(stage.victim.cursors)
    print(f"\n{count} cursors of {len(stage.victim.cursors)} lists")


def made_up(stage: Stage, cursor: str) -> str:
    """The same cursor with ids of nobody inside."""
    text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    for id in stage.victim.everything:
        text = text.replace(id, str(UUID(int=UUID(id).int ^ 0xFFFF)))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


@pytest.mark.shows("T01", "T08")
@pytest.mark.parametrize("who", ["the owner of another tenant", "nobody"])
async def test_what_takes_no_id_tells_nothing_of_others(stage: Stage, who: str) -> None:
    """Lists, searches, checks and everything else, called as it is meant to be called; also with the other's words."""
    client = stage.stranger if who != "nobody" else Client(stage.door.ground, stage.door.http)
    before, count = await stage.at_rest(), 0
    for operation in operations():
        if operation.ids() and any(place.required for place in operation.ids()):
            continue
        plain = variables_for(operation, lambda place: None)
        searched = [plain | {"search": CANARY}] if "search" in plain else []
        for variables in (plain, *searched):
            answer = await stage.say(client, operation, variables)
            assert answer.status_code < 500, (operation, answer.text)
            nothing_of(stage, answer.text, operation)
            count += 1
    await unharmed(stage, before, "an operation without ids")
    print(f"\n{who}: {count} operations without ids")


SESSIONS = {"mutation logIn", "mutation logOut", "mutation refreshSession", "mutation signUp", "query signUp"}
OF_ONES_OWN = {"query me", "query organisation", "query tenant", "query roles"}
"""Nothing for nobody, but not refused either; roles are the same for all."""
READING = {
    "query endpoint", "query endpoints", "query execution", "query executionLag",
    "query executions", "query nodeCategories",
    "query nodeType", "query nodeTypes", "query validateDefinition", "query workers", "query workflow",
    "query workflows", "subscription executionEvents", "query executionWaits", "query executionPauses",
}  # fmt: skip
MAY = {
    "nobody": SESSIONS | OF_ONES_OWN,
    "viewer": SESSIONS | OF_ONES_OWN | READING | {"mutation updateProfile"},
    "owner": {str(operation) for operation in operations()},
}
"""What each role may ask and do, reviewed. An operation that is new, or open to more than before, shows up here."""


@pytest.mark.shows("US-03")
@pytest.mark.parametrize("role", MAY)
async def test_each_role_may_do_just_what_is_listed(stage: Stage, role: str) -> None:
    known = {"viewer": stage.victim.viewer, "owner": stage.victim.owner}
    client = known.get(role) or Client(stage.door.ground, stage.door.http)
    allowed = set()
    for operation in operations():
        variables = variables_for(operation, lambda place: nobody_s()[1] if place.required else None)
        if operation.kind == "subscription":
            text = json.dumps(await streamed(stage, client, operation, variables))
        else:
            text = (await stage.say(client, operation, variables)).text
        if not any(f'"{word}"' in text for word in ("unauthenticated", "scope_missing")):
            allowed.add(str(operation))
    assert allowed == MAY[role]


@pytest.mark.shows("T01", "T08")
async def test_keys_of_others_are_free(stage: Stage) -> None:
    """The idempotency key that the other tenant used starts a run of one's own; nothing collides across the border."""
    document = """mutation ($input: StartExecutionInput!) { startExecution(input: $input) {
        __typename ... on Execution { id workflow { id } } } }"""
    before = await stage.at_rest()
    given = {"workflowId": stage.own["workflowId"], "idempotencyKey": CANARY, "input": {"note": "mine"}}
    found = (await stage.stranger.ask("execution", document, {"input": given}))["startExecution"]
    assert found["__typename"] == "Execution"
    assert found["workflow"]["id"] == stage.own["workflowId"]
    assert found["id"] not in stage.victim.everything
    await unharmed(stage, before, "a key")
