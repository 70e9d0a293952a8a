"""Hostile code: whatever it tries, the next job is right, the canary is unread and the server answers meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from subgraphs.executor.sandbox import Answer, Sandbox
from tests.sandbox import bombs, escapes
from tests.sandbox.conftest import Canary, Running
from tests.sandbox.jobs import job, jsons, serves

HOST_WORDS = ("root:x:", "/usr/local", "PATH=", "libwasmer", "[native code]\n}host")


@pytest.fixture(autouse=True)
def untouched(canary: Canary) -> Iterator[None]:
    yield
    assert canary.visits == []


def said(answer: Answer) -> str:
    return repr(answer)


@pytest.mark.parametrize("name", list(escapes.ALL))
async def test_nothing_of_the_host_is_reached(box: Sandbox, canary: Canary, name: str) -> None:
    code = escapes.ALL[name].replace("CANARY_FILE", str(canary.file)).replace("CANARY_PORT", str(canary.port))
    answer = await box.run(job(code, [{"n": 1}], wall=2))
    told = said(answer)
    assert canary.secret not in told
    assert not [word for word in HOST_WORDS if word in told]
    if answer.error is not None:
        assert answer.error.kind in {"user", "limit", "timeout"}, answer.error
    for made in answer.items:
        reached = str(made.json.get("r", ""))
        assert reached in {"undefined", "undefinedundefined", "not-equal", "timed-out"} or not reached.startswith(
            "[object P"
        )
    await serves(box)


async def test_only_guest_globals_exist(box: Sandbox) -> None:
    code = """
      const language = new Set(Object.getOwnPropertyNames(globalThis));
      return { host: ['process', 'require', 'std', 'os', 'bjson', 'print', 'scriptArgs', 'execArgv', 'argv0',
                      'gc', 'fetch', 'navigator', 'performance', 'WebAssembly', 'Worker', 'Deno', 'Bun']
                .filter((name) => language.has(name)) }"""
    assert jsons(await box.run(job(code))) == [{"host": []}]


@pytest.mark.parametrize("name", ["std", "os", "bjson", "harness", "oldnames", "node"])
async def test_the_guests_own_library_cannot_be_imported(box: Sandbox, name: str) -> None:
    answer = await box.run(job(escapes.VIA_IMPORT[name]))
    assert answer.error is not None
    assert "could not load module" in answer.error.message


@pytest.mark.shows("XR-05")
@pytest.mark.parametrize("name", list(bombs.TIME))
async def test_what_does_not_end_is_killed(box: Sandbox, name: str) -> None:
    answer = await box.run(job(bombs.TIME[name], wall=0.25))
    assert answer.error is not None
    assert (answer.error.kind, answer.error.code, answer.error.retryable) == ("timeout", "timeout.wall", False)
    await serves(box)


@pytest.mark.shows("XR-22")
@pytest.mark.parametrize("name", list(bombs.SPACE))
async def test_what_takes_too_much_is_stopped(box: Sandbox, name: str) -> None:
    code, kinds = bombs.SPACE[name]
    answer = await box.run(job(code, wall=8))
    if kinds:
        assert answer.error is not None
        assert answer.error.kind in kinds, answer.error
        assert not answer.error.retryable
        assert len(answer.error.message) <= 4200
    else:
        assert answer.error is None, answer.error
    await serves(box)


async def test_the_server_answers_others_while_one_burns(box: Sandbox, server: Running) -> None:
    burning = asyncio.create_task(box.run(job("for (;;);", wall=1.5)))
    served = 0
    while not burning.done():
        await serves(box)
        await box.state()
        served += 1
    assert (await burning).error is not None
    assert served > 10


@pytest.mark.shows("X04")
async def test_nothing_stays_for_the_next_run(box: Sandbox) -> None:
    dirt = """
      globalThis.stain = 'seen'; Object.prototype.stain = 'seen'; Array.prototype.push = () => 'seen';
      JSON.parse = () => 'seen'; Promise.prototype.then = 'seen'; Date.now = () => 'seen'; return {}"""
    look = """
      return { global: String(globalThis.stain), proto: String(({}).stain), push: [].push(1), date: Date.now(),
               parse: JSON.parse('{"a":1}').a }"""
    for _ in range(12):
        await box.run(job(dirt))
        assert jsons(await box.run(job(look))) == [
            {"global": "undefined", "proto": "undefined", "push": 1, "date": 1767323045000, "parse": 1}
        ]


@pytest.mark.shows("X04")
async def test_a_secret_of_one_run_is_in_no_memory_of_the_next(box: Sandbox) -> None:
    await box.run(job("return items.map(() => ({ n: 1 }))", [{"token": "tok-9f31-" + str(n)} for n in range(2000)]))
    code = """
      let found = 0;
      for (let i = 0; i < 40; i++) {
        const bytes = new Uint8Array(2 ** 20);
        for (let k = 0; k < bytes.length; k += 997) if (bytes[k]) found++;
      }
      return { found }"""
    assert jsons(await box.run(job(code))) == [{"found": 0}]


@pytest.mark.shows("X09")
@pytest.mark.parametrize(
    "key", ["__proto__", "constructor", "prototype", "toJSON", "then", "nonce", "kind", "R", "json"]
)
async def test_dangerous_keys_change_nothing(box: Sandbox, key: str) -> None:
    items = [{key: {"polluted": "yes", "kind": "infrastructure"}}]
    answer = await box.run(job("return [...items, { p: ({}).polluted ?? null }]", items))
    assert jsons(answer) == [*items, {"p": None}]
    scoped = await box.run(job("return { p: ({}).polluted ?? null, v: vars }", scope={"vars": items[0]}))
    assert jsons(scoped) == [{"p": None, "v": items[0]}]


@pytest.mark.shows("XR-22")
async def test_a_guest_cannot_claim_our_errors(box: Sandbox) -> None:
    for claim in ("kind: 'infrastructure', code: 'sandbox.worker_lost'", "kind: 'timeout', code: 'timeout.wall'"):
        answer = await box.run(job(f"throw Object.assign(new Error('mine'), {{ {claim}, retryable: true }})"))
        assert answer.error is not None
        assert (answer.error.kind, answer.error.code, answer.error.retryable) == ("user", "code.error", False)


async def test_forged_lines_are_only_text(box: Sandbox) -> None:
    code = r"""
      const forged = ['R[{"json":{"forged":1}}]', '\nR[{"json":{"forged":2}}]\n', '{"op":"ready"}',
                      '\u0000\u0000\u0000\u0010{"op":"end"}'];
      for (const line of forged) console.log(line);
      return { honest: true }"""
    answer = await box.run(job(code))
    assert jsons(answer) == [{"honest": True}]
    assert len(answer.lines) == 4
