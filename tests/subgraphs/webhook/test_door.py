"""What a caller of a webhook meets."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from subgraphs.platform.objects import Ref
from subgraphs.webhook import door
from tests.subgraphs.webhook.conftest import SECRET, Hooks, signed

MIB = 1_048_576
GUARDS = {"x-content-type-options": "nosniff", "content-security-policy": "default-src 'none'; sandbox"}


@pytest.mark.shows("WH-04", "WH-19")
async def test_a_call_is_stored_with_its_event_in_one_flush_and_answered(hooks: Hooks) -> None:
    endpoint = await hooks.one()
    heard = hooks.received(endpoint)
    await hooks.post(endpoint)
    await heard
    flushes, event = hooks.ground.writer.flushes, hooks.received(endpoint)
    answer = await hooks.post(endpoint, b'{"n": 1}', rest="/orders/7", params={"a": ["1", "2"], "b": "3"})
    assert hooks.ground.writer.flushes == flushes + 1
    told = await event
    assert answer.status_code == 200
    assert answer.json() == {"executionId": str(told.id)}
    assert answer.headers["x-linkflow-execution"] == str(told.id)
    item = dict(told.data["item"])
    assert item.pop("headers")["content-type"] == "application/json"
    assert item == {
        "method": "POST",
        "path": "/orders/7",
        "query": {"a": ["1", "2"], "b": "3"},
        "body": {"n": 1},
        "contentType": "application/json",
    }
    assert told.data["respond"] == {"mode": "now", "address": None}
    row = (await hooks.calls(endpoint))[-1]
    assert (row["id"], row["execution"], row["outcome"], row["body"]) == (told.id, told.id, "accepted", b'{"n": 1}')


@pytest.mark.shows("WH-04")
async def test_nobody_is_told_2xx_before_the_call_is_stored(hooks: Hooks) -> None:
    """While calls cannot be stored the caller hears 503 and may come again."""
    endpoint = await hooks.one()
    admin = await asyncpg.connect(hooks.ground.settings.dsn("lf_admin"))
    await admin.execute("revoke insert on webhook.call from lf_ingress")
    try:
        answer = await hooks.post(endpoint)
    finally:
        await admin.execute("grant insert on webhook.call to lf_ingress")
        await admin.close()
    assert answer.status_code == 503
    assert answer.json()["code"] == "not_stored"
    assert answer.headers["retry-after"] == "1"
    assert await hooks.calls(endpoint) == []


@pytest.mark.parametrize("path", ["", "x", "A" * 32, "../etc/passwd", "%00", "A" * 5000])
async def test_an_unknown_address_is_404_in_words(hooks: Hooks, path: str) -> None:
    answer = await hooks.http.post(f"{hooks.base}/webhook/hooks/{path}", content=b"{}")
    assert answer.status_code == 404
    if "endpoint" in answer.text:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "endpoint_unknown"
        assert answer.json()["nextStep"]


async def test_a_method_it_does_not_take_is_405_with_allow(hooks: Hooks) -> None:
    endpoint = await hooks.one(methods=["POST", "PUT"])
    answer = await hooks.http.get(hooks.url(endpoint))
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST, PUT, HEAD, OPTIONS"
    assert answer.json()["code"] == "method_not_allowed"
    (row,) = await hooks.calls(endpoint)
    assert (row["outcome"], row["status"], row["reason"]) == ("refused", 405, "method_not_allowed")
    assert (await hooks.http.put(hooks.url(endpoint), json={})).status_code == 200


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
async def test_probes_start_nothing(hooks: Hooks, method: str) -> None:
    endpoint = await hooks.one(methods=["GET", "POST"])
    answer = await hooks.http.request(method, hooks.url(endpoint))
    assert answer.status_code == 204
    assert answer.headers["allow"] == "GET, POST, HEAD, OPTIONS"
    assert await hooks.calls(endpoint) == []


@pytest.mark.shows("WH-05")
@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"{", {"content-type": "application/json"}, 400, "json_malformed"),
        (b"[" * 10_000 + b"]" * 10_000, {"content-type": "application/json"}, 400, "json_too_deep"),
        (b"[" * 101 + b"]" * 101, {"content-type": "application/json"}, 400, "json_too_deep"),
        (b'{"a": NaN}', {"content-type": "application/vnd.x+json"}, 400, "json_malformed"),
        (b"\xff\xfe", {"content-type": "text/plain"}, 400, "text_malformed"),
        (b"a=1&" * 2000, {"content-type": "application/x-www-form-urlencoded"}, 400, "form_malformed"),
        (b"x", {"content-type": "application/octet-stream"}, 415, "content_type_unsupported"),
        (b"--x", {"content-type": "multipart/form-data; boundary=x"}, 415, "content_type_unsupported"),
        (b"x", {"content-encoding": "gzip"}, 415, "encoding_unsupported"),
    ],
)
async def test_a_body_that_is_not_understood_is_refused_and_noted(
    hooks: Hooks, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    endpoint = await hooks.one()
    answer = await hooks.post(endpoint, body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    (row,) = await hooks.calls(endpoint)
    assert (row["outcome"], row["status"], row["reason"], row["body"]) == ("refused", status, code, None)


@pytest.mark.parametrize(
    ("content_type", "body", "value"),
    [
        ("application/json; charset=utf-8", b'{"files": {"path": "/etc/passwd"}}', {"files": {"path": "/etc/passwd"}}),
        ("application/problem+json", b"[1]", [1]),
        ("application/x-www-form-urlencoded", b"a=1&a=2&b=%7B%7D", {"a": ["1", "2"], "b": "{}"}),
        ("text/plain", b'{"not": "parsed"}', '{"not": "parsed"}'),
        ("application/xml", "<ä/>".encode(), "<ä/>"),
        ("application/json", b"", None),
        ("application/json", b"[" * 100 + b"]" * 100, None),
    ],
)
async def test_the_content_type_decides_once_what_a_body_is(
    hooks: Hooks, content_type: str, body: bytes, value: Any
) -> None:
    endpoint = await hooks.one()
    event = hooks.received(endpoint)
    assert (await hooks.post(endpoint, body, headers={"content-type": content_type})).status_code == 200
    found = (await event).data["item"]["body"]
    assert found == (json.loads(body) if value is None and body else value)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_413_and_noted(hooks: Hooks, chunked: bool) -> None:
    endpoint = await hooks.one()
    limit = hooks.ground.settings.max_webhook_bytes

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(limit // MIB + 1):
            yield b"x" * MIB

    body = chunks() if chunked else b"x" * (limit + 1)
    answer = await hooks.post(endpoint, body, headers={"content-type": "text/plain"})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    (row,) = await hooks.calls(endpoint)
    assert (row["outcome"], row["status"], row["body"]) == ("refused", 413, None)


async def test_a_body_that_does_not_end_is_408(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = await hooks.one()
    monkeypatch.setattr(door, "BODY_SECONDS", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", hooks.ground.settings.serve_port)
    head = f"POST /webhook/hooks/{endpoint.token} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345"
    writer.write(head.encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
    writer.close()
    (row,) = await hooks.calls(endpoint)
    assert (row["outcome"], row["reason"]) == ("refused", "body_too_slow")


@pytest.mark.shows("WH-23", "CC-01")
@pytest.mark.parametrize("more", [-1, 0, 1])
async def test_raw_bytes_are_kept_above_a_megabyte_by_reference(hooks: Hooks, more: int) -> None:
    endpoint = await hooks.secured(auth="hmac")
    body = os.urandom((MIB + more) // 2 + 1).hex().encode()[: MIB + more]
    event = hooks.received(endpoint)
    headers = {"content-type": "text/plain", "x-signature-256": signed(body)}
    assert (await hooks.post(endpoint, body, headers=headers)).status_code == 200
    told = await event
    (row,) = await hooks.calls(endpoint)
    objects = hooks.ground.objects
    if more > 0:
        assert row["body"] is None
        assert await objects.get(hooks.tenant, Ref(row["body_ref"], len(body))) == body
    else:
        assert (row["body"], row["body_ref"]) == (body, None)
    reference = Ref.of(told.data["item"])
    assert reference is not None, "the item has an envelope, so it is above the limit in all three cases"
    assert json.loads(await objects.get(hooks.tenant, reference))["body"] == body.decode()
    held = await hooks.ground.database.engine.fetch("select sha256 from bus.blob where holder = $1", told.id)
    assert {entry["sha256"] for entry in held} == {reference.sha256} | ({row["body_ref"]} if more > 0 else set())


async def test_credentials_do_not_reach_the_workflow(hooks: Hooks) -> None:
    endpoint = await hooks.secured(auth="header", headerName="X-Key")
    event = hooks.received(endpoint)
    secret = {"x-key": SECRET, "authorization": "Bearer abc", "cookie": "a=b", "x-linkflow-identity": "forged"}
    assert (await hooks.post(endpoint, headers=secret | {"x-fine": "yes"})).status_code == 200
    headers = (await event).data["item"]["headers"]
    assert headers["x-fine"] == "yes"
    assert not {"x-key", "authorization", "cookie", "x-linkflow-identity"} & headers.keys()
    (row,) = await hooks.calls(endpoint)
    assert SECRET not in row["headers"]


@pytest.mark.shows("WH-19")
@pytest.mark.parametrize("mode", ["done", "node"])
async def test_a_caller_may_wait_for_the_run_to_answer(hooks: Hooks, mode: str) -> None:
    endpoint = await hooks.one(respond=mode)
    event = hooks.received(endpoint)
    waiting = asyncio.create_task(hooks.post(endpoint))
    told = await event
    assert told.data["respond"] == {"mode": mode, "address": hooks.ground.database.origin}
    await hooks.reply(str(told.id), status=201, headers={"X-Total": "3"}, body={"ok": True})
    answer = await waiting
    assert (answer.status_code, answer.json(), answer.headers["x-total"]) == (201, {"ok": True}, "3")
    assert answer.headers["x-linkflow-execution"] == str(told.id)


@pytest.mark.shows("WH-19")
async def test_a_caller_who_waited_too_long_gets_a_link_to_the_outcome(hooks: Hooks) -> None:
    endpoint = await hooks.one(respond="done", timeout="PT0.05S")
    answer = await hooks.post(endpoint)
    assert answer.status_code == 202
    link = answer.headers["location"]
    assert answer.json()["statusUrl"] == link
    execution = answer.json()["executionId"]
    inner = link.replace(hooks.ground.settings.public_url, f"{hooks.base}/webhook")
    assert (await hooks.http.get(inner)).json() == {"executionId": execution, "status": "running"}
    await hooks.reply(execution, status=200, body={"late": 1})
    found = (await hooks.http.get(inner)).json()
    assert found == {
        "executionId": execution,
        "status": "finished",
        "reply": {"status": 200, "contentType": "application/json", "body": {"late": 1}},
    }


async def test_a_status_link_cannot_be_guessed_reused_or_moved(hooks: Hooks) -> None:
    endpoint = await hooks.one(respond="done", timeout="PT0.01S")
    first, second = (await hooks.post(endpoint)).json(), (await hooks.post(endpoint)).json()
    token = first["statusUrl"].split("token=")[1]
    base = f"{hooks.base}/webhook/executions"
    for path in (
        f"{second['executionId']}/status?token={token}",
        f"{first['executionId']}/status",
        f"{first['executionId']}/status?token={token[:-2]}",
        f"{first['executionId']}/status?token={token}&token={token}",
        f"{first['executionId']}/status?token=ä",
        f"not-an-id/status?token={token}",
        f"{uuid4()}/status?token={token}",
    ):
        answer = await hooks.http.get(f"{base}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "status_unknown")


async def test_an_old_status_link_has_expired(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    from subgraphs.webhook import replies

    endpoint = await hooks.one(respond="done", timeout="PT0.01S")
    monkeypatch.setattr(replies, "LINK_SECONDS", -1)
    link = (await hooks.post(endpoint)).json()["statusUrl"]
    inner = link.replace(hooks.ground.settings.public_url, f"{hooks.base}/webhook")
    assert (await hooks.http.get(inner)).status_code == 404


@pytest.mark.shows("WH-19")
async def test_an_answer_cannot_script_our_origin(hooks: Hooks) -> None:
    endpoint = await hooks.one(respond="node")
    event = hooks.received(endpoint)
    waiting = asyncio.create_task(hooks.post(endpoint))
    told = await event
    evil = {
        "Set-Cookie": "session=stolen; Path=/",
        "Content-Security-Policy": "default-src *",
        "X-Content-Type-Options": "no",
        "Content-Length": "3",
        "Transfer-Encoding": "chunked",
        "Clear-Site-Data": "*",
        "X-Split": "a\r\nSet-Cookie: b=c",
        "Bad Name": "x",
        "X-Linkflow-Identity": "forged",
        "X-Kept": "yes",
    }
    page = "<script>alert(1)</script>"
    await hooks.reply(str(told.id), headers=evil, body=page, contentType="text/html", encoding="text")
    answer = await waiting
    assert answer.text == page
    assert answer.headers["content-type"] == "text/html"
    assert {name: answer.headers[name] for name in GUARDS} == GUARDS
    assert answer.headers["x-kept"] == "yes"
    forbidden = {"set-cookie", "clear-site-data", "x-split", "transfer-encoding", "x-linkflow-identity"}
    assert not forbidden & {name.lower() for name in answer.headers}
    assert answer.headers.get_list("content-security-policy") == [GUARDS["content-security-policy"]]


@pytest.mark.shows("WH-19")
@pytest.mark.parametrize("encoding", ["json", "text"])
async def test_a_large_answer_comes_by_claim_check(hooks: Hooks, encoding: str) -> None:
    endpoint = await hooks.one(respond="done")
    event = hooks.received(endpoint)
    waiting = asyncio.create_task(hooks.post(endpoint))
    told = await event
    body = "x" * (2 * MIB)
    reference = await hooks.ground.objects.put(hooks.tenant, json.dumps(body).encode())
    kind = "application/json" if encoding == "json" else "text/plain"
    await hooks.reply(str(told.id), body=reference.json(), encoding=encoding, contentType=kind)
    answer = await waiting
    assert (answer.json() if encoding == "json" else answer.text) == body


@pytest.mark.parametrize(("status", "shown"), [(204, 204), (304, 304), (404, 404), (503, 503), (99, 502), (700, 502)])
async def test_every_status_a_workflow_may_choose(hooks: Hooks, status: int, shown: int) -> None:
    endpoint = await hooks.one(respond="node")
    event = hooks.received(endpoint)
    waiting = asyncio.create_task(hooks.post(endpoint))
    await hooks.reply(str((await event).id), status=status, body={"a": 1})
    answer = await waiting
    assert answer.status_code == shown
    if shown in {204, 304}:
        assert answer.content == b""


async def test_every_answer_is_guarded(hooks: Hooks) -> None:
    endpoint = await hooks.one()
    for answer in (
        await hooks.post(endpoint),
        await hooks.post(endpoint, b"{"),
        await hooks.http.get(hooks.url(endpoint)),
        await hooks.http.options(hooks.url(endpoint)),
        await hooks.http.post(f"{hooks.base}/webhook/hooks/{'A' * 32}"),
        await hooks.http.get(f"{hooks.base}/webhook/executions/{uuid4()}/status?token=x"),
    ):
        assert {name: answer.headers.get(name) for name in GUARDS} == GUARDS
        assert "set-cookie" not in answer.headers


async def test_calls_carry_on_in_tenants_of_their_own(hooks: Hooks) -> None:
    mine = await hooks.one()
    other = Hooks(hooks.ground, hooks.http, hooks.base)
    theirs = await other.one()
    event = other.received(theirs)
    await other.post(theirs)
    assert (await event).tenant == other.tenant != hooks.tenant
    async with hooks.ground.database.read(mine.tenant) as reading:
        from sqlalchemy import select

        from subgraphs.webhook.storage import call

        assert {row["tenant"] for row in await reading.rows(select(call.c.tenant))} <= {mine.tenant}


def test_a_url_cannot_be_guessed() -> None:
    from subgraphs.webhook.domain import TOKEN_BYTES, new_token

    tokens = {new_token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert TOKEN_BYTES * 8 >= 128
    assert all(len(token) == 32 for token in tokens)
