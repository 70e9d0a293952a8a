"""Who may call, and which calls came before."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from typing import Any
from uuid import uuid4

import pytest

from subgraphs.webhook.domain import Auth, Preset, State, Wish
from tests.subgraphs.webhook.conftest import SECRET, Hooks, signed

BODY = b'{"zen": "Keep it logically awesome.", "hook_id": 1}'


def github(body: bytes, secret: str = SECRET, delivery: str | None = None) -> dict[str, str]:
    return {
        "x-github-event": "push",
        "x-github-delivery": delivery or str(uuid4()),
        "x-hub-signature-256": signed(body, secret),
    }


def unique() -> bytes:
    return json.dumps({"id": str(uuid4())}).encode()


def test_the_documented_example_of_github_verifies() -> None:
    """From GitHub's documentation of webhook signatures."""
    from dataclasses import replace
    from datetime import UTC, datetime

    from subgraphs.webhook import intake
    from subgraphs.webhook.domain import Endpoint, Terms

    endpoint = Endpoint.declared(uuid4(), uuid4(), uuid4(), "hook", 1, Terms.of({"auth": "github"}), datetime.now(UTC))
    endpoint = replace(endpoint, secret=SECRET.encode())
    given = b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    intake.authenticate(endpoint, intake.Call("POST", "/", "", [(b"x-hub-signature-256", given)], b"Hello, World!"))


@pytest.mark.shows("WH-08", "WH-01")
async def test_what_github_signed_comes_in(hooks: Hooks) -> None:
    endpoint = await hooks.secured(auth="github")
    event = hooks.received(endpoint)
    body = unique()
    answer = await hooks.post(endpoint, body, headers=github(body))
    assert answer.status_code == 200
    assert (await event).data["item"]["headers"]["x-github-event"] == "push"


@pytest.mark.shows("WH-08")
async def test_a_real_github_payload_is_verified_over_its_raw_bytes(hooks: Hooks) -> None:
    """The bytes as they came, with their spaces and escapes, not what parsing and writing them again would give."""
    endpoint = await hooks.secured(auth="github")
    body = '{ "ref":"refs/heads/\\u00fcber",\r\n "pusher" : {"name":"Ünal"}, "n": 1.0 }'.encode()
    assert (await hooks.post(endpoint, body, headers=github(body))).status_code == 200
    again = json.dumps(json.loads(body)).encode()
    refused = await hooks.post(endpoint, again, headers=github(body))
    assert (refused.status_code, refused.json()["code"]) == (401, "signature_wrong")
    assert "HMAC-SHA256" in refused.json()["nextStep"]


def forgeries(body: bytes) -> dict[str, tuple[dict[str, Any] | list[tuple[str, Any]], str]]:
    good = signed(body)
    sha1 = "sha1=" + hmac.new(SECRET.encode(), body, hashlib.sha1).hexdigest()
    sha512 = "sha512=" + hmac.new(SECRET.encode(), body, hashlib.sha512).hexdigest()
    name = "x-hub-signature-256"
    return {
        "missing": ({}, "signature_missing"),
        "wrong": ({name: "sha256=" + "0" * 64}, "signature_wrong"),
        "empty": ({name: ""}, "signature_malformed"),
        "truncated": ({name: good[:-1]}, "signature_malformed"),
        "longer": ({name: good + "0"}, "signature_malformed"),
        "other secret": ({name: signed(body, "another secret")}, "signature_wrong"),
        "empty secret": ({name: signed(body, "")}, "signature_wrong"),
        "sha1": ({name: sha1}, "signature_malformed"),
        "sha512": ({name: sha512}, "signature_malformed"),
        "sha1 in the old header": ({"x-hub-signature": sha1}, "signature_missing"),
        "no prefix": ({name: good[7:]}, "signature_malformed"),
        "blank inside": ({name: good[:20] + " " + good[21:]}, "signature_malformed"),
        "of another body": ({name: signed(body + b" ")}, "signature_wrong"),
        "twice": ([(name, good), (name, "sha256=" + "0" * 64)], "signature_malformed"),
        "twice the same": ([(name, good), (name, good)], "signature_malformed"),
        "wide digits": ({name: ("sha256=" + "１" * 64).encode()}, "signature_malformed"),
        "other header": ({"x-signature-256": good}, "signature_missing"),
    }


@pytest.mark.shows("WH-08")
@pytest.mark.parametrize("forgery", forgeries(BODY))
async def test_a_forged_signature_is_401_with_a_row_that_says_why(hooks: Hooks, forgery: str) -> None:
    endpoint = await hooks.secured(auth="github")
    headers, code = forgeries(BODY)[forgery]
    given = list(headers.items()) if isinstance(headers, dict) else headers
    answer = await hooks.http.post(
        hooks.url(endpoint), content=BODY, headers=[("content-type", "application/json"), *given]
    )
    assert (answer.status_code, answer.json()["code"]) == (401, code)
    assert answer.headers["content-type"] == "application/problem+json"
    (row,) = await hooks.calls(endpoint)
    assert (row["outcome"], row["status"], row["reason"], row["execution"]) == ("refused", 401, code, None)
    logged = await hooks.ground.database.engine.fetchval(
        "select count(*) from bus.log where type = 'webhook.call.received.v1' and convert_from(data, 'utf8') like $1",
        f"%{endpoint.id}%",
    )
    assert logged == 0


@pytest.mark.shows("WH-01")
async def test_a_header_may_carry_the_secret(hooks: Hooks) -> None:
    endpoint = await hooks.secured(auth="header", headerName="X-Key")
    assert (await hooks.post(endpoint, headers={"x-key": SECRET})).status_code == 200
    for wrong in ({}, {"x-key": SECRET[:-1]}, {"x-key": SECRET.lower()}, {"x-webhook-secret": SECRET}):
        assert (await hooks.post(endpoint, headers=wrong)).status_code == 401


@pytest.mark.shows("WH-01")
async def test_any_sender_may_sign(hooks: Hooks) -> None:
    endpoint = await hooks.secured(auth="hmac", headerName="X-My-Signature")
    for prefix in ("", "sha256="):
        body = unique()
        answer = await hooks.post(endpoint, body, headers={"x-my-signature": signed(body, prefix=prefix)})
        assert answer.status_code == 200
    assert (await hooks.post(endpoint, BODY, headers={"x-my-signature": "x"})).status_code == 401


@pytest.mark.parametrize("auth", ["github", "hmac", "header"])
async def test_without_its_secret_an_endpoint_is_closed_and_says_so(hooks: Hooks, auth: str) -> None:
    endpoint = await hooks.one(auth=auth)
    assert endpoint.state is State.NEEDS_SECRET
    answer = await hooks.post(endpoint, BODY, headers=github(BODY, ""))
    assert (answer.status_code, answer.json()["code"]) == (503, "endpoint_needs_secret")
    assert [row["reason"] for row in await hooks.calls(endpoint)] == ["endpoint_needs_secret"]
    opened = await hooks.configure(endpoint, Wish(secret=SECRET))
    assert opened.state is State.ACTIVE


@pytest.mark.shows("WH-15", "WH-08")
async def test_githubs_redelivery_is_answered_with_the_first_run(hooks: Hooks) -> None:
    endpoint, body = await hooks.secured(auth="github"), unique()
    headers = github(body)
    first = await hooks.post(endpoint, body, headers=headers)
    again = await hooks.post(endpoint, body, headers=headers)
    assert again.status_code == 200
    assert again.json() == {"executionId": first.json()["executionId"], "duplicate": True}
    assert again.headers["x-linkflow-execution"] == first.json()["executionId"]
    rows = await hooks.calls(endpoint)
    assert [row["outcome"] for row in rows] == ["accepted", "duplicate"]
    assert rows[1]["duplicate_of"] == rows[1]["execution"] == rows[0]["id"]


@pytest.mark.shows("WH-08")
async def test_a_recorded_call_under_another_delivery_id_is_still_the_same_call(hooks: Hooks) -> None:
    """The delivery id is not signed, so a replay could carry any."""
    endpoint, body = await hooks.secured(auth="github"), unique()
    first = await hooks.post(endpoint, body, headers=github(body))
    replays = await asyncio.gather(
        *(hooks.post(endpoint, body, headers=github(body), params={"n": str(n)}) for n in range(5))
    )
    assert {answer.json().get("executionId") for answer in replays} == {first.json()["executionId"]}
    assert all(answer.json()["duplicate"] for answer in replays)


@pytest.mark.shows("WH-15")
async def test_of_many_at_once_one_starts_a_run(hooks: Hooks) -> None:
    endpoint, body = await hooks.secured(auth="github"), unique()
    headers = github(body)
    answers = await asyncio.gather(*(hooks.post(endpoint, body, headers=headers) for _ in range(12)))
    assert len({answer.json()["executionId"] for answer in answers}) == 1
    assert [("duplicate" in answer.json()) for answer in answers].count(False) == 1
    outcomes = sorted(row["outcome"] for row in await hooks.calls(endpoint))
    assert outcomes == ["accepted"] + ["duplicate"] * 11


@pytest.mark.shows("WH-15")
async def test_the_same_id_counts_until_its_window_ends(hooks: Hooks) -> None:
    endpoint = await hooks.one(dedupe="id", dedupeHeader="X-Event", dedupeWindow="PT0.2S")
    first = await hooks.post(endpoint, unique(), headers={"x-event": "e1"})
    other = await hooks.post(endpoint, unique(), headers={"x-event": "e2"})
    again = await hooks.post(endpoint, unique(), headers={"x-event": "e1"})
    assert again.json() == {"executionId": first.json()["executionId"], "duplicate": True}
    assert "duplicate" not in other.json()
    while "duplicate" in (later := await hooks.post(endpoint, unique(), headers={"x-event": "e1"})).json():
        await asyncio.sleep(0.05)
    assert later.json()["executionId"] != first.json()["executionId"]


@pytest.mark.shows("WH-15")
@pytest.mark.parametrize(
    ("parameters", "headers", "same"),
    [
        ({}, {}, False),
        ({}, {"webhook-id": "m1"}, True),
        ({}, {"idempotency-key": "k1"}, True),
        ({"dedupe": "none"}, {"webhook-id": "m1"}, False),
        ({"dedupe": "body"}, {}, True),
        ({"dedupe": "id"}, {}, False),
    ],
)
async def test_what_makes_two_calls_the_same(
    hooks: Hooks, parameters: dict[str, Any], headers: dict[str, str], same: bool
) -> None:
    endpoint = await hooks.one(**parameters)
    answers = [(await hooks.post(endpoint, BODY, headers=headers)).json() for _ in range(2)]
    assert ("duplicate" in answers[1]) is same
    assert (answers[0]["executionId"] == answers[1]["executionId"]) is same


async def test_a_signed_call_without_an_id_is_not_taken_twice_within_minutes(hooks: Hooks) -> None:
    endpoint, body = await hooks.secured(auth="hmac"), unique()
    answers = [await hooks.post(endpoint, body, headers={"x-signature-256": signed(body)}) for _ in range(2)]
    assert answers[1].json() == {"executionId": answers[0].json()["executionId"], "duplicate": True}


async def test_a_repetition_need_not_wait_for_the_first_ones_answer(hooks: Hooks) -> None:
    endpoint = await hooks.one(respond="done", dedupe="id")
    event = hooks.received(endpoint)
    waiting = asyncio.create_task(hooks.post(endpoint, headers={"webhook-id": "w1"}))
    told = await event
    again = await hooks.post(endpoint, headers={"webhook-id": "w1"})
    assert again.json() == {"executionId": str(told.id), "duplicate": True}
    await hooks.reply(str(told.id), body=1)
    assert (await waiting).json() == 1


async def test_endpoints_tell_repetitions_apart(hooks: Hooks) -> None:
    first, second = await hooks.secured(auth="github"), await hooks.secured(auth="github")
    body = unique()
    assert "duplicate" not in (await hooks.post(first, body, headers=github(body))).json()
    assert "duplicate" not in (await hooks.post(second, body, headers=github(body))).json()


async def test_secrets_and_urls_are_sealed_at_rest(hooks: Hooks) -> None:
    endpoint = await hooks.secured(auth="github")
    import asyncpg

    admin = await asyncpg.connect(hooks.ground.settings.dsn("lf_admin"))
    row = await admin.fetchrow("select * from webhook.endpoint where id = $1", endpoint.id)
    logged = await admin.fetch("select convert_from(data, 'utf8') as data from bus.log")
    await admin.close()
    assert row is not None
    assert not any(isinstance(value, str) and (SECRET in value or endpoint.token in value) for value in row.values())
    assert SECRET.encode() not in row["secret"]
    assert endpoint.token.encode() not in row["token"]
    assert not any(SECRET in entry["data"] or endpoint.token in entry["data"] for entry in logged)


def test_changing_the_way_without_a_secret_closes() -> None:
    from datetime import UTC, datetime

    from subgraphs.webhook.domain import Endpoint, Terms

    now = datetime.now(UTC)
    endpoint = Endpoint.declared(uuid4(), uuid4(), uuid4(), "hook", 1, Terms.of({"auth": "header"}), now)
    opened = endpoint.configured(Wish(secret=SECRET), now)
    assert opened.state is State.ACTIVE
    closed = opened.configured(Wish(preset=Preset.GITHUB, preset_given=True), now)
    assert (closed.auth, closed.header, closed.state) == (Auth.HMAC, "X-Hub-Signature-256", State.NEEDS_SECRET)
    assert opened.configured(Wish(auth=Auth.NONE), now).secret is None
