"""graphql-transport-ws at the gateway, through the edge: close codes, what may be said, who may open a socket."""

from __future__ import annotations

from typing import Any

import pytest
import websockets

from tests.router.clients import connected, opened, results
from tests.router.conftest import Rig, token

TICKS = "subscription { ticks(count: 2) { seq } }"
SLOW = "subscription { ticks(count: 1, every: 60) { seq } }"


async def test_no_init_in_time_is_closed_with_4408(rig: Rig) -> None:
    async with connected(rig.url("edge")) as socket:
        assert (await socket.closed())[0] == 4408


async def test_a_subscription_before_init_is_closed_with_4401(rig: Rig) -> None:
    async with connected(rig.url("edge")) as socket:
        await socket.subscribe(TICKS)
        assert (await socket.closed())[0] == 4401


async def test_a_second_init_is_closed_with_4429(rig: Rig) -> None:
    async with opened(rig.url("edge"), token("ann")) as socket:
        await socket.init({"authorization": f"Bearer {token('bob')}"})
        assert (await socket.closed())[0] == 4429


async def test_an_id_in_use_is_closed_with_4409(rig: Rig) -> None:
    async with opened(rig.url("edge"), token("ann")) as socket:
        for _ in range(2):
            await socket.send("subscribe", id="same", payload={"query": SLOW})
        assert (await socket.closed())[0] == 4409


@pytest.mark.parametrize("said", ["no json", "[]", '{"type": "unheard"}', '{"type": "subscribe", "id": "1"}'])
async def test_what_is_no_message_is_closed_with_4400(rig: Rig, said: str) -> None:
    async with opened(rig.url("edge"), token("ann")) as socket:
        await socket.connection.send(said)
        assert (await socket.closed())[0] == 4400


@pytest.mark.parametrize("protocol", ["graphql-ws", "mqtt", None])
async def test_other_subprotocols_are_refused_with_4406(rig: Rig, protocol: str | None) -> None:
    async with connected(rig.url("gateway")) as _, _legacy(rig, protocol) as code:
        assert code == 4406


class _legacy:
    """Opens a socket with another subprotocol, which the client library itself would refuse; gives its close code."""

    def __init__(self, rig: Rig, protocol: str | None) -> None:
        self.url = rig.url("edge").replace("http", "ws", 1)
        self.headers = {"Sec-WebSocket-Protocol": protocol} if protocol else {}

    async def __aenter__(self) -> int | None:
        async with websockets.connect(self.url, additional_headers=self.headers, proxy=None) as connection:
            await connection.wait_closed()
            return connection.close_code

    async def __aexit__(self, *_: Any) -> None:
        return None


@pytest.mark.shows("RT-09")
@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (None, 4401),
        ({}, 4401),
        ({"authorization": ""}, 4401),
        ({"authorization": "Basic YTpi"}, 4401),
        ({"authorization": 7}, 4401),
        ({"authorization": "Bearer nobody"}, 4401),
        ({"authorization": "Bearer ann~1"}, 4401),
        ({"identity": "forged", "x-linkflow-identity": "forged"}, 4401),
        ({"authorization": f"Bearer {token('suspended-ann')}"}, 4403),
    ],
)
async def test_init_without_a_good_token_is_refused(rig: Rig, payload: Any, code: int) -> None:
    async with connected(rig.url("edge")) as socket:
        await socket.init(payload)
        assert (await socket.closed())[0] == code
    assert "sockets" not in rig.told()["counters"]


@pytest.mark.parametrize("query", ['mutation { rename(name: "x") { id } }', "{ caller }"])
async def test_only_subscriptions_pass(rig: Rig, query: str) -> None:
    async with opened(rig.url("edge"), token("ann")) as socket:
        found = await results(socket.stream(query))
        assert [error["extensions"]["code"] for error in found[0]["errors"]] == ["SUBSCRIPTION_ONLY"]
    assert "renamed" not in rig.told("users")["counters"]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("subscription { nothing }", "GRAPHQL_VALIDATION_FAILED"),
        ("subscription {", "GRAPHQL_PARSE_FAILED"),
        ("subscription { ticks { owner { id " + "name " * 25 + "} } }", "DOCUMENT_TOO_MANY_EQUAL_FIELDS"),
    ],
)
async def test_a_faulty_document_is_answered_by_error(rig: Rig, query: str, code: str) -> None:
    async with opened(rig.url("edge"), token("ann")) as socket:
        id = await socket.subscribe(query)
        message = await socket.receive()
        assert (message["type"], message["id"]) == ("error", id)
        assert message["payload"][0]["extensions"]["code"] == code
        assert message["payload"][0]["extensions"]["correlationId"]
        assert len(await results(socket.stream(TICKS))) == 2


async def test_streams_of_one_socket_are_limited(rig: Rig) -> None:
    async with opened(rig.url("edge"), token("ann")) as socket:
        for _ in range(200):
            await socket.subscribe(SLOW)
        await socket.subscribe(SLOW)
        message = await socket.receive()
        assert (message["type"], message["id"]) == ("error", "201")
        assert message["payload"][0]["extensions"]["code"] == "limited"


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [("https://evil.example", False), ("null", False), ("https://console.example", True), ("same", True)],
)
async def test_pages_of_other_origins_open_no_socket(rig: Rig, origin: str, allowed: bool) -> None:
    headers = {"Origin": rig.url("edge", "") if origin == "same" else origin}
    if allowed:
        async with connected(rig.url("edge"), additional_headers=headers) as socket:
            await socket.init({"authorization": f"Bearer {token('ann')}"})
            assert (await socket.receive())["type"] == "connection_ack"
        return
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with connected(rig.url("edge"), additional_headers=headers):
            pass
    assert refused.value.response.status_code == 403


async def test_a_large_frame_is_refused(rig: Rig) -> None:
    async with opened(rig.url("edge"), token("ann")) as socket:
        await socket.subscribe("subscription { ticks { seq } }" + " " * 2**20)
        assert (await socket.closed())[0] == 1009
