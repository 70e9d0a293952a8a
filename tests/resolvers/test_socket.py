"""graphql-transport-ws, message by message."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resolvers import socket as conversation
from resolvers.http import Endpoint
from tests.resolvers.library import CANARY, ENDED, STARTED, OpenDoor, Socket, graph

INIT = {"type": "connection_init"}


def endpoint(max_bytes: int = 100_000) -> Endpoint:
    return Endpoint(graph(), OpenDoor(), max_bytes=max_bytes)


def subscribe(query: str, id: str = "1", **variables: Any) -> dict[str, Any]:
    return {"id": id, "type": "subscribe", "payload": {"query": query, "variables": variables}}


COUNT = "subscription($n: Int!) { count(to: $n) }"


async def opened(payload: Any = None, **words: Any) -> Socket:
    socket = Socket(endpoint(**words))
    assert await socket.accepted() == "graphql-transport-ws"
    socket.say(INIT if payload is None else INIT | {"payload": payload})
    assert await socket.said() == {"type": "connection_ack"}
    return socket


async def test_events_come_in_order_and_end() -> None:
    socket = await opened()
    socket.say(subscribe(COUNT, n=3))
    said = [await socket.said() for _ in range(4)]
    assert [message["payload"]["data"]["count"] for message in said[:3]] == [0, 1, 2]
    assert said[3] == {"id": "1", "type": "complete"}
    socket.say(subscribe(COUNT, n=1))  # the id is free again
    assert (await socket.said())["type"] == "next"
    await socket.leave()


async def test_answers_are_frames_of_text() -> None:
    """A fast encoder makes bytes; sent as they are, clients of the router cannot read a message's type."""
    socket = await opened()
    socket.say(subscribe(COUNT, n=1))
    frame = await socket.next()
    assert isinstance(frame["text"], str)
    assert frame.get("bytes") is None
    assert '"type":"next"' in frame["text"]
    await socket.leave()


CLOSES: dict[str, tuple[list[Any], int]] = {
    "subscribe before init": ([subscribe(COUNT, n=1)], 4401),
    "not let in": ([INIT | {"payload": {"no": 1}}], 4401),
    "init twice": ([INIT, INIT], 4429),
    "id in use": ([INIT, subscribe("subscription { silence }"), subscribe("subscription { silence }")], 4409),
    "unknown type": ([INIT, {"type": "start", "id": "1", "payload": {}}], 4400),
    "no type": ([INIT, {"id": "1"}], 4400),
    "no id": ([INIT, {"type": "subscribe", "payload": {"query": COUNT}}], 4400),
    "empty id": ([INIT, subscribe(COUNT, id="")], 4400),
    "no payload": ([INIT, {"type": "subscribe", "id": "1"}], 4400),
    "array": ([INIT, [1]], 4400),
    "init with text": ([INIT | {"payload": "x"}], 4400),
}


@pytest.mark.parametrize("name", CLOSES)
async def test_close_codes(name: str) -> None:
    messages, code = CLOSES[name]
    socket = Socket(endpoint())
    await socket.accepted()
    for message in messages:
        socket.say(message)
    said = await socket.said()
    while "close" not in said:
        said = await socket.said()
    assert said["close"] == code
    await asyncio.wait_for(socket.task, 10)


@pytest.mark.parametrize("words", [{"text": "{"}, {"bytes": b"{}"}, {"text": '"' + "x" * 100_001 + '"'}])
async def test_what_is_not_short_json_text_is_4400(words: dict[str, Any]) -> None:
    socket = await opened()
    socket.raw(**words)
    assert (await socket.said())["close"] == 4400


@pytest.mark.parametrize("subprotocol", ["graphql-ws", "mqtt", ""])
async def test_other_subprotocols_are_4406(subprotocol: str) -> None:
    socket = Socket(endpoint(), subprotocol=subprotocol)
    assert await socket.accepted() is None
    assert (await socket.said())["close"] == 4406


async def test_no_init_in_time_is_4408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "INIT_SECONDS", 0.01)
    socket = Socket(endpoint())
    await socket.accepted()
    assert (await socket.said())["close"] == 4408


async def test_ping_is_answered_with_its_payload() -> None:
    socket = await opened()
    socket.say({"type": "ping", "payload": {"a": 1}})
    assert await socket.said() == {"type": "pong", "payload": {"a": 1}}
    await socket.leave()


async def test_queries_and_mutations_need_a_door_that_allows_them() -> None:
    query, mutation = "{ book { id } }", 'mutation { fail(input: {kind: ""}) { __typename } }'
    closed, open_ = await opened(), await opened({"kinds": ["query", "mutation", "subscription"]})
    for text in (query, mutation):
        closed.say(subscribe(text))
        open_.say(subscribe(text))
        assert (await closed.said())["type"] == "error"
        assert (await open_.said())["type"] == "next"
        assert (await open_.said())["type"] == "complete"
    await closed.leave()
    await open_.leave()


async def test_faulty_operations_are_errors_of_that_operation_only() -> None:
    socket = await opened()
    for text in ("{", "subscription { nothing }", "subscription { count }"):
        socket.say(subscribe(text))
        said = await socket.said()
        assert (said["id"], said["type"]) == ("1", "error")
        assert said["payload"][0]["extensions"]["correlationId"]
    socket.say({"id": "2", "type": "subscribe", "payload": {"query": 1}})
    assert (await socket.said())["payload"][0]["extensions"]["code"] == "BAD_REQUEST"
    socket.say(subscribe("subscription { count(to: 5, failAt: 2) }", id="3"))
    said = [await socket.said() for _ in range(4)]
    assert CANARY not in str(said)
    assert said[2]["payload"]["errors"][0]["extensions"]["code"] == "INTERNAL_SERVER_ERROR"
    assert said[3]["type"] == "complete"
    await socket.leave()


async def test_whoever_leaves_or_completes_ends_what_runs() -> None:
    for end in ("complete", "leave"):
        STARTED.clear()
        ENDED.clear()
        socket = await opened()
        socket.say(subscribe("subscription { silence }"))
        await asyncio.wait_for(STARTED.wait(), 10)
        if end == "complete":
            socket.say({"type": "complete", "id": "1"})
            await asyncio.wait_for(ENDED.wait(), 10)
        await socket.leave()
        assert ENDED.is_set()


async def test_hundreds_of_operations_share_a_connection_with_contexts_of_their_own() -> None:
    socket = await opened()
    for number in range(300):
        socket.say(subscribe("subscription { silence }", id=str(number)))
    socket.say(subscribe(COUNT, id="last", n=1))
    assert (await socket.said())["id"] == "last"
    await socket.leave()
