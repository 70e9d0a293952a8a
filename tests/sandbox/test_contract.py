"""The wire, from both sides: what is written in sandbox/protocol/ is what the server does and what the client says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from sandbox.frames import frame, read_frame
from subgraphs.executor.sandbox import Sandbox
from tests.sandbox.conftest import ROOT, Running
from tests.sandbox.jobs import job

SCHEMAS = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "sandbox" / "protocol").glob("*.json"))}
EXAMPLES = [(name, example) for name, schema in SCHEMAS.items() for example in schema["examples"]]


def check(name: str, value: Any) -> None:
    Draft202012Validator(SCHEMAS[name]).validate(value)


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_every_example_fits_its_schema(name: str, example: Any) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])
    check(name, example)


async def asked(server: Running, head: dict[str, Any], body: bytes = b"") -> tuple[dict[str, Any], bytes]:
    reader, writer = await asyncio.open_unix_connection(server.socket)
    try:
        writer.write(frame(head, body))
        said = await read_frame(reader, 2**24)
        assert said is not None
        return said
    finally:
        writer.close()


@pytest.mark.parametrize("example", SCHEMAS["job"]["examples"])
async def test_the_server_takes_every_example_job(server: Running, example: dict[str, Any]) -> None:
    head, body = await asked(server, SCHEMAS["request"]["examples"][0], json.dumps(example, indent=1).encode())
    check("answer", head)
    assert head["ok"] == ("nothing" not in example["code"])
    if head["ok"]:
        check("result", json.loads(body))
    else:
        assert body == b""
        assert head["error"]["line"] == 1
        assert head["lines"][0]["text"] == "careful"


async def test_the_server_tells_its_state(server: Running) -> None:
    head, _ = await asked(server, {"op": "state", "id": "s"})
    check("answer", head)
    assert head["state"]["size"] == 2


@pytest.mark.parametrize(
    ("size", "code"),
    [("large", "limit.job"), ("deep", "limit.job_depth")],
)
async def test_the_server_refuses_oversized_jobs(server: Running, size: str, code: str) -> None:
    text = '"' + "x" * (5 * 2**20) + '"' if size == "large" else "[" * 300 + "]" * 300
    head, _ = await asked(server, {"op": "run", "id": "1"}, text.encode())
    check("answer", head)
    assert head["error"]["code"] == code


@pytest.mark.parametrize(
    "body", [b"", b"null", b"{", b"[]", b'{"code":5}', b'{"code":"return {}"}', b"\xff\xfe", b'{"a":1}\n{"b":2}']
)
async def test_a_job_that_is_none_is_a_users_error(server: Running, body: bytes) -> None:
    head, _ = await asked(server, {"op": "run", "id": "1"}, body)
    check("answer", head)
    assert head["ok"] is False
    assert head["error"]["kind"] == "user"


@pytest.fixture
def recorded(scratch: Path) -> Iterator[Path]:
    path = scratch / "replay.sock"
    yield path
    path.unlink(missing_ok=True)


@pytest.mark.parametrize("answer", [one for one in SCHEMAS["answer"]["examples"] if "state" not in one])
async def test_the_client_speaks_and_hears_the_protocol(recorded: Path, answer: dict[str, Any]) -> None:
    heard: list[tuple[dict[str, Any], bytes]] = []
    result = SCHEMAS["result"]["examples"][0] if answer["ok"] else None

    async def replay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = await read_frame(reader, 2**24)
        assert said is not None
        heard.append(said)
        writer.write(frame({**answer, "id": said[0]["id"]}, orjson.dumps(result) if result else b""))
        await writer.drain()
        writer.close()

    listening = await asyncio.start_unix_server(replay, recorded)
    client = Sandbox(recorded)
    try:
        got = await client.run(job("return items", [{"stars": 12}], scope={"vars": {"a": 1}}))
    finally:
        await client.close()
        listening.close()
    head, body = heard[0]
    check("request", head)
    check("job", json.loads(body))
    assert (got.error is None) == answer["ok"]
    if got.error is None:
        assert [made.json for made in got.items] == [{"stars": 12}]
        assert got.lines[0].text == "hello"
    else:
        assert (got.error.kind, got.error.code) == (answer["error"]["kind"], answer["error"]["code"])
        assert got.error.retryable == (got.error.kind == "infrastructure")


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 64,
        b"\x00\x00\x00\x03\x00\x00\x00\x00[1]",
        frame({"op": "run"}),
        frame({"op": "nothing", "id": "1"}),
        frame({"op": "run", "id": 5}),
    ],
)
async def test_the_server_hangs_up_on_nonsense_and_serves_on(server: Running, box: Sandbox, garbage: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(server.socket)
    writer.write(garbage)
    assert await reader.read() == b""
    writer.close()
    assert (await box.run(job("return {}"))).error is None
