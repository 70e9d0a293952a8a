"""The HTTP node against a real server: what it sends, what comes back, and what it does when that fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
import pytest

from subgraphs.engine.effects import effect_of
from subgraphs.engine.expression import compiled
from subgraphs.engine.parameters import Checker
from subgraphs.engine.step import StepOutcome
from subgraphs.executor.domain import Example
from subgraphs.executor.nodes.http import NODE
from subgraphs.executor.runner import Runner, Tools
from subgraphs.platform.egress import Egress
from tests.subgraphs.executor.steps import request
from tests.subgraphs.platform.egress.evil import Server, response, serving


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as running:
        yield running


@pytest.fixture
async def runner(server: Server) -> AsyncIterator[Runner]:
    egress = Egress([server.host])
    yield Runner(Tools(egress=egress))
    await egress.close()


async def call(runner: Runner, parameters: dict[str, Any], *items: Mapping[str, Any], **changes: Any) -> StepOutcome:
    return await runner.run(request("core.http", parameters, *(items or ({},)), **changes))


def only(outcome: StepOutcome) -> dict[str, Any]:
    assert outcome.error is None
    return outcome.outputs["main"][0].json


@pytest.mark.shows("NO-07")
@pytest.mark.parametrize("example", NODE.manifest.examples, ids=lambda example: example.title)
async def test_example(server: Server, runner: Runner, example: Example) -> None:
    """The service of the examples stands in for api.example.org."""
    body = b"no json" if example.service is None else orjson.dumps(example.service)
    server.answer = lambda seen: response("200 OK", body)
    url = example.parameters["url"].replace("https://api.example.org", server.url().rstrip("/"))
    outcome = await call(runner, {**example.parameters, "url": url}, *example.input)
    assert (outcome.error.code if outcome.error else None) == example.error
    assert {port: [item.json for item in items] for port, items in outcome.outputs.items()} == example.output


def test_credentials_cannot_be_written_out() -> None:
    checker = Checker(NODE.manifest.parameters, literal=lambda text: not compiled(text).uses)
    for value, allowed in (("Bearer abc", False), ("{{ 'Bearer abc' }}", False), ("Bearer {{ vars.token }}", True)):
        found = checker.findings({"url": "https://a.example", "headers": {"Authorization": value}})
        assert (not found) is allowed, value


async def test_hidden_parameters_do_not_count(server: Server, runner: Runner) -> None:
    only(await call(runner, {"url": server.url(), "method": "POST", "json": "{{ item.nope }}", "text": "{{ 1 / 0 }}"}))
    assert server.seen[0].body == b""


async def test_a_get_reads(server: Server, runner: Runner) -> None:
    server.answer = lambda seen: response(
        "200 OK", b'{"a":[1,2.5]}', "content-type: application/json", "x-a: 1", "x-a: 2"
    )
    got = only(
        await call(runner, {"url": server.url("/x?b=1"), "query": {"q": "{{ item.q }}", "l": [1, "ä"]}}, {"q": "a b"})
    )
    assert got["status"] == 200
    assert got["body"] == {"a": [1, 2.5]}
    assert got["headers"]["x-a"] == "1, 2"
    assert server.seen[0].line == "GET /x?b=1&q=a%20b&l=1&l=%C3%A4 HTTP/1.1"
    assert "idempotency-key" not in server.seen[0].headers


@pytest.mark.parametrize(
    ("parameters", "body", "kind"),
    [
        (
            {"body": "json", "json": {"id": "{{ item.id }}", "n": [1, None]}},
            b'{"id":7,"n":[1,null]}',
            "application/json",
        ),
        ({"body": "form", "form": {"a": "x y", "b": 1}}, b"a=x+y&b=1", "application/x-www-form-urlencoded"),
        ({"body": "text", "text": "Hi {{ item.id }}"}, b"Hi 7", "text/plain; charset=utf-8"),
        ({"body": "raw", "text": "<a/>", "contentType": "application/xml"}, b"<a/>", "application/xml"),
        ({"body": "none"}, b"", None),
    ],
)
async def test_bodies(
    server: Server, runner: Runner, parameters: dict[str, Any], body: bytes, kind: str | None
) -> None:
    only(await call(runner, {"url": server.url(), "method": "POST", **parameters}, {"id": 7}))
    assert server.seen[0].body == body
    assert server.seen[0].headers.get("content-type") == kind
    assert server.seen[0].headers["idempotency-key"] == '"key-1"'


@pytest.mark.parametrize(
    ("form", "body", "expected"),
    [
        ("json", b'{"a":1}', {"a": 1}),
        ("json", b"[1]", {"body": [1]}),
        ("text", b"\xc3\xa9", {"body": "é"}),
    ],
)
async def test_responses(server: Server, runner: Runner, form: str, body: bytes, expected: Any) -> None:
    server.answer = lambda seen: response("200 OK", body)
    assert only(await call(runner, {"url": server.url(), "response": form})) == expected


@pytest.mark.shows("EX-04", "XR-22")
@pytest.mark.parametrize(
    ("status", "kind", "retryable", "header", "after"),
    [
        ("404 Not Found", "user", False, None, None),
        ("422 No", "user", False, None, None),
        ("429 Slow Down", "limit", True, "retry-after: 7", 7.0),
        ("503 Busy", "infrastructure", True, "retry-after: 99999999", 86400.0),
        ("500 Oops", "infrastructure", True, "retry-after: soon", None),
        ("501 Never", "infrastructure", False, None, None),
    ],
)
async def test_a_status_is_a_typed_error(
    server: Server, runner: Runner, status: str, kind: str, retryable: bool, header: str | None, after: float | None
) -> None:
    server.answer = lambda seen: response(status, b"why", *([header] if header else []))
    error = (await call(runner, {"url": server.url()})).error
    assert error is not None
    assert error.code == f"http.status.{status[:3]}"
    assert (error.kind, error.retryable, error.retry_after) == (kind, retryable, after)
    assert error.detail["body"] == "why"
    assert only(await call(runner, {"url": server.url(), "failOnStatus": False}))["status"] == int(status[:3])


@pytest.mark.parametrize(
    ("path", "parameters", "code", "kind", "retryable"),
    [
        ("/hang-up", {"method": "GET"}, "http.disconnected", "infrastructure", True),
        ("/hang-up", {"method": "PUT"}, "http.disconnected", "infrastructure", True),
        ("/hang-up", {"method": "POST"}, "http.outcome_unknown", "user", False),
        ("/hang-up", {"method": "POST", "effect": "keyed"}, "http.disconnected", "infrastructure", True),
        ("/slow/60", {"timeout": 0.1}, "http.timeout", "timeout", True),
        ("/slow/60", {"timeout": 0.1, "method": "PATCH"}, "http.outcome_unknown", "user", False),
        ("/endless", {"maxBytes": 1000}, "http.too_large", "limit", False),
        ("/", {"response": "json"}, "http.not_json", "user", False),
        ("/", {"headers": {"x-a": "1\r\nx-b: 2"}}, "http.header", "user", False),
        ("/", {"headers": {"Host": "evil"}}, "http.header", "user", False),
        ("/", {"query": [1]}, "parameter.invalid", "user", False),
        ("/", {"timeout": "{{ 'x' }}"}, "parameter.invalid", "user", False),
        ("/", {"method": "{{ 'BREW' }}"}, "parameter.invalid", "user", False),
    ],
)
async def test_failures(
    server: Server, runner: Runner, path: str, parameters: dict[str, Any], code: str, kind: str, retryable: bool
) -> None:
    error = (await call(runner, {"url": server.url(path), **parameters})).error
    assert error is not None
    assert (error.code, error.kind, error.retryable) == (code, kind, retryable)


@pytest.mark.shows("S01", "S04")
@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:{0}/", "http://[::ffff:127.0.0.1]:{0}/", "http://169.254.169.254/", "file:///etc/passwd"]
)
async def test_the_guard_stands_before_it(server: Server, url: str) -> None:
    egress = Egress()
    error = (await call(Runner(Tools(egress=egress)), {"url": "{{ item.u }}"}, {"u": url.format(server.port)})).error
    assert error is not None
    assert error.code in ("http.address", "http.scheme")
    assert server.connections == 0
    await egress.close()


async def test_items_are_called_side_by_side_and_leave_in_order(server: Server, runner: Runner) -> None:
    def answer(seen: Any) -> bytes | None:
        return None if "/slow" in seen.line else response("200 OK", seen.line.encode())

    server.answer = answer
    started = time.perf_counter()
    paths = [f"/slow/{0.3 if n % 2 else 0.1}?{n}".split("?")[0] for n in range(20)]
    outcome = await call(
        runner, {"url": server.url("{{ item.p }}"), "response": "text"}, *({"p": path} for path in paths)
    )
    assert time.perf_counter() - started < 3, "one after the other takes four seconds"
    assert [item.source[0].index for item in outcome.outputs["main"]] == list(range(20))


async def test_keys_differ_by_item_and_stay_by_attempt(server: Server, runner: Runner) -> None:
    for attempt in (1, 2):
        await call(runner, {"url": server.url(), "method": "POST", "parallel": 1}, {}, {}, attempt=attempt)
    keys = [seen.headers["idempotency-key"] for seen in server.seen]
    assert keys[:2] == keys[2:]
    assert len(set(keys)) == 2


@pytest.mark.shows("EX-05")
@pytest.mark.parametrize(("on_error", "port"), [("continue", "main"), ("output", "error")])
async def test_one_bad_item_does_not_spoil_the_others(server: Server, runner: Runner, on_error: str, port: str) -> None:
    server.answer = lambda seen: response("404 Not Found" if "/bad" in seen.line else "200 OK")
    items = ({"p": "/a"}, {"p": "/bad"}, {"n": 1})
    outcome = await call(runner, {"url": server.url("{{ item.p }}")}, *items, on_error=on_error)
    assert outcome.error is None
    failed = [item.json for item in outcome.outputs[port] if "error" in item.json]
    assert [one["error"]["code"] for one in failed] == ["http.status.404", "expression.no_such_key"]
    assert failed[0]["p"] == "/bad"


@pytest.mark.shows("EX-08")
async def test_cancelling_ends_the_calls(server: Server, runner: Runner) -> None:
    task = asyncio.create_task(call(runner, {"url": server.url("/slow/60")}, {}, {}, {}))
    while len(server.seen) < 3:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert runner.busy == 0


async def test_a_step_that_takes_too_long_is_a_timeout(server: Server, runner: Runner) -> None:
    outcome = await call(runner, {"url": server.url("/slow/60"), "effect": "keyed"}, timeout=0.2)
    assert outcome.error is not None
    assert outcome.error.kind == "timeout"


async def test_what_was_sent_is_what_the_author_wrote(server: Server, runner: Runner) -> None:
    await call(
        runner,
        {"url": server.url(), "method": "POST", "body": "json", "json": "{{ item }}"},
        {"__proto__": 1, "é": None},
    )
    assert orjson.loads(server.seen[0].body) == {"__proto__": 1, "é": None}


@pytest.mark.shows("NO-11")
@pytest.mark.parametrize(
    ("parameters", "effect"),
    [
        ({}, "read"),
        ({"method": "HEAD"}, "read"),
        ({"method": "PUT"}, "repeatable"),
        ({"method": "DELETE"}, "repeatable"),
        ({"method": "POST"}, "unsafe"),
        ({"method": "PATCH", "effect": "keyed"}, "keyed"),
        ({"method": "POST", "effect": "read"}, "read"),
        ({"method": "{{ item.method }}"}, "unsafe"),
        ({"method": "{{ item.method }}", "effect": "keyed"}, "keyed"),
    ],
)
def test_the_effect_follows_from_method_and_receiver(parameters: dict[str, Any], effect: str) -> None:
    assert effect_of(NODE.manifest.json(), parameters) == effect


def test_of_an_unknown_type_the_worst_is_assumed() -> None:
    assert effect_of({}, {}) == "unsafe"


async def test_a_key_of_the_authors_stays(server: Server, runner: Runner) -> None:
    only(await call(runner, {"url": server.url(), "method": "POST", "headers": {"Idempotency-Key": "mine"}}))
    assert server.seen[0].headers["idempotency-key"] == "mine"


PROBES = [
    ("200 OK", b"", None, True),
    ("404 Not Found", b"", None, False),
    ("410 Gone", b"", None, False),
    ("403 Forbidden", b"", None, None),
    ("503 Busy", b"[1]", "size(body) > 0", None),
    ("200 OK", b"[1]", "size(body) > 0", True),
    ("200 OK", b"[]", "size(body) > 0", False),
    ("200 OK", b"[]", "body.nothing", None),
    ("200 OK", b"[]", "7", None),
    ("404 Not Found", b"", "status == 404", True),
    ("200 OK", b"paid", "body == 'paid'", True),
]


@pytest.mark.shows("NO-11", "EX-23")
@pytest.mark.parametrize(("status", "body", "rule", "expected"), PROBES)
async def test_a_probe_finds_out_whether_an_interrupted_call_happened(
    server: Server, runner: Runner, status: str, body: bytes, rule: str | None, expected: bool | None
) -> None:
    server.answer = lambda seen: response(status, body)
    parameters = {
        "url": server.url("/pay"),
        "method": "POST",
        "body": "json",
        "headers": {"x-tenant": "{{ item.t }}"},
        "probeUrl": server.url("/payments/{{ item.id }}"),
    }
    if rule is not None:
        parameters["probeHappened"] = rule
    asked = request("core.http", parameters, {"id": 7, "t": "a"})
    assert await runner.probe(asked) is expected
    (seen,) = server.seen
    assert seen.line == "GET /payments/7 HTTP/1.1"
    assert (seen.headers["x-tenant"], seen.headers["idempotency-key"]) == ("a", '"key-1"')
    assert "content-type" not in seen.headers


@pytest.mark.shows("EX-23")
async def test_of_several_items_a_probe_says_what_holds_for_all(server: Server, runner: Runner) -> None:
    server.answer = lambda seen: response("404 Not Found" if "/0" in seen.line else "200 OK", b"")
    parameters = {"url": server.url(), "method": "POST", "probeUrl": server.url("/{{ item.id }}")}
    for ids, expected in (((1, 2), True), ((0, 0), False), ((0, 1), None)):
        items = ({"id": each} for each in ids)
        assert await runner.probe(request("core.http", parameters, *items)) is expected


async def test_without_an_answer_or_a_probe_nobody_knows(server: Server, runner: Runner) -> None:
    parameters = {"url": server.url(), "method": "POST"}
    assert await runner.probe(request("core.http", parameters, {})) is None
    assert await runner.probe(request("core.http", {**parameters, "probeUrl": server.url("/hang-up")}, {})) is None
    assert await runner.probe(request("core.http", {**parameters, "probeUrl": "http://169.254.169.254/"}, {})) is None
    assert await runner.probe(request("core.http", {**parameters, "probeUrl": "{{ item.no }}"}, {})) is None
    assert await runner.probe(request("core.set", {"fields": []}, {})) is None


@pytest.mark.shows("EX-23")
@pytest.mark.parametrize(
    ("status", "code", "retryable", "told"),
    [
        ("404 Not Found", "http.disconnected", True, None),
        ("200 OK", "http.outcome_unknown", False, True),
        ("500 Oops", "http.outcome_unknown", False, None),
    ],
)
async def test_a_lost_answer_is_asked_about_and_only_what_did_not_happen_is_tried_again(
    server: Server, runner: Runner, status: str, code: str, retryable: bool, told: bool | None
) -> None:
    server.answer = lambda seen: response(status, b"") if seen.line.startswith("GET") else None
    parameters = {"url": server.url("/hang-up"), "method": "POST", "probeUrl": server.url("/did")}
    error = (await call(runner, parameters)).error
    assert error is not None
    assert (error.code, error.retryable, error.detail.get("happened")) == (code, retryable, told)
