"""What code sees and how it answers."""

from __future__ import annotations

import pytest

from subgraphs.executor.sandbox import Sandbox
from tests.sandbox.jobs import job, jsons


async def test_code_sees_all_items_and_says_which_it_kept(box: Sandbox) -> None:
    answer = await box.run(job("return items.filter((i) => i.n > 1)", [{"n": 1}, {"n": 2}, {"n": 3}]))
    assert jsons(answer) == [{"n": 2}, {"n": 3}]
    assert [made.origin for made in answer.items] == [1, 2]


async def test_code_runs_once_per_item_and_may_return_none_or_many(box: Sandbox) -> None:
    code = "if (item.n === 2) return; return item.n === 3 ? [{ a: 1 }, { a: 2 }] : { n: item.n, of: items.length }"
    answer = await box.run(job(code, [{"n": 1}, {"n": 2}, {"n": 3}], mode="each"))
    assert [(made.json, made.origin) for made in answer.items] == [
        ({"n": 1, "of": 3}, 0),
        ({"a": 1}, 2),
        ({"a": 2}, 2),
    ]


async def test_code_sees_the_names_of_the_run(box: Sandbox) -> None:
    scope = {
        "trigger": {"body": {"who": "you"}},
        "execution": {"id": "e-1", "mode": "manual"},
        "vars": {"limit": 3},
        "nodes": {"hook": {"items": [{"k": "a"}, {"k": "b"}], "match": [1, 0]}},
    }
    code = """
      const { item, items } = nodes.hook;
      return { t: trigger.body.who, e: execution.id, v: vars.limit, k: item.k, n: items.length }"""
    answer = await box.run(job(code, [{}, {}], mode="each", scope=scope))
    assert jsons(answer) == [
        {"t": "you", "e": "e-1", "v": 3, "k": "b", "n": 2},
        {"t": "you", "e": "e-1", "v": 3, "k": "a", "n": 2},
    ]


async def test_clock_and_random_come_from_the_request(box: Sandbox) -> None:
    code = """
      const later = await new Promise((done) => setTimeout(() => done(Date.now()), 5));
      return { at: new Date(), now, called: later, via: new (new Date().constructor)(),
               text: Date() === new Date().toString(), fixed: new Date(0), r: [Math.random(), Math.random()] }"""
    first, second = await box.run(job(code, seed=1)), await box.run(job(code, seed=1))
    assert jsons(first) == jsons(second)
    (said,) = jsons(first)
    assert said["at"] == said["now"] == said["via"] == "2026-01-02T03:04:05.000Z"
    assert said["called"] == 1767323045000
    assert said["text"] is True
    assert said["fixed"] == "1970-01-01T00:00:00.000Z"
    assert jsons(await box.run(job(code, seed=2)))[0]["r"] != said["r"]
    assert jsons(await box.run(job("return { r: Math.random() }", seed=2**40 + 1)))[0]["r"] != said["r"][0]


async def test_random_is_spread_evenly(box: Sandbox) -> None:
    code = """
      const bins = Array(10).fill(0);
      for (let i = 0; i < 10000; i++) bins[Math.floor(Math.random() * 10)]++;
      return { bins }"""
    (said,) = jsons(await box.run(job(code)))
    assert sum(said["bins"]) == 10000
    assert all(850 < count < 1150 for count in said["bins"]), said


@pytest.mark.parametrize(
    ("code", "line", "column", "code_of_error"),
    [
        ("const a = 1;\nconst b = 2;\n  missing();", 3, None, "code.error"),
        ("const a = 1;\nconst b = ;", 2, 11, "code.syntax"),
        ("function f() {\n  throw new TypeError('no');\n}\n\nf();", 2, None, "code.error"),
        ("await null;\nawait Promise.reject(new Error('later'));", 2, None, "code.error"),
    ],
)
async def test_errors_carry_the_users_own_line(
    box: Sandbox, code: str, line: int, column: int | None, code_of_error: str
) -> None:
    answer = await box.run(job(code))
    assert answer.error is not None
    assert (answer.error.kind, answer.error.code, answer.error.retryable) == ("user", code_of_error, False)
    assert answer.error.detail["line"] == line, answer.error
    if column:
        assert answer.error.detail["column"] == column
    assert "harness" not in answer.error.detail.get("stack", "")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("return 5", "a number"),
        ("return [{}, 'x']", "a string at position 1"),
        ("return [[1]]", "an array at position 0"),
        ("return new Date()", "a Date"),
        ("return { big: 1n }", "no JSON form"),
        ("const a = {}; a.a = a; return a", "no JSON form"),
        ("return { get trap() { throw new Error('sprung') } }", "no JSON form"),
        ("return { toJSON() { throw 1 } }", "no JSON form"),
        ("return new Proxy({}, { ownKeys() { throw new Error('proxy') } })", "no JSON form"),
    ],
)
async def test_a_result_that_is_no_item_is_told(box: Sandbox, code: str, message: str) -> None:
    answer = await box.run(job(code))
    assert answer.error is not None
    assert (answer.error.kind, answer.error.code) == ("user", "code.result")
    assert message in answer.error.message


@pytest.mark.parametrize("code", ["return { toJSON() { return 5 } }", "Array.prototype.toJSON = () => ({}); return {}"])
async def test_a_result_that_turns_into_something_else_is_refused(box: Sandbox, code: str) -> None:
    answer = await box.run(job(code))
    assert answer.error is not None
    assert answer.error.code == "code.result"


async def test_text_without_a_utf8_form_is_replaced(box: Sandbox) -> None:
    (said,) = jsons(
        await box.run(job(r"return { ['k\ud800']: 'a\udfff', pair: '\ud83d\ude00', text: '\\ud800', n: NaN }"))
    )
    assert said == {"k\ufffd": "a\ufffd", "pair": "\U0001f600", "text": "\\ud800", "n": None}


async def test_console_lines_are_kept_with_level_and_capped(box: Sandbox) -> None:
    code = """
      const c = {}; c.c = c;
      console.log('a', { b: [1] }, 2n, undefined); console.warn('w'); console.error(new Error('e')); console.log(c);
      return {}"""
    answer = await box.run(job(code))
    assert [(line.level, line.text.split("\n")[0]) for line in answer.lines] == [
        ("info", 'a {"b":[1]} 2n undefined'),
        ("warn", "w"),
        ("error", "Error: e"),
        ("info", '{"c":"[circular]"}'),
    ]
    flood = await box.run(job("for (let i = 0; i < 100000; i++) console.log('line ' + i); return { done: true }"))
    assert jsons(flood) == [{"done": True}]
    assert len(flood.lines) == 1000
    assert flood.dropped == 99000
    wide = await box.run(job("for (let i = 0; i < 100; i++) console.log('x'.repeat(10000)); return {}"))
    assert sum(len(line.text) for line in wide.lines) == 64 * 1024


async def test_lines_printed_before_a_kill_are_kept(box: Sandbox) -> None:
    answer = await box.run(job("console.log('before'); for (;;);", wall=0.3))
    assert answer.error is not None
    assert answer.error.kind == "timeout"
    assert [line.text for line in answer.lines] == ["before"]


async def test_the_expected_small_libraries_are_there(box: Sandbox) -> None:
    code = r"""
      const text = 'a\u00e9\u20ac\ud83d\ude00';
      const bytes = new TextEncoder().encode(text);
      const clone = structuredClone({ d: new Date(5), m: new Map([[1, { a: 1 }]]), s: new Set([1]), l: [1, [2]] });
      return {
        bytes: Array.from(bytes), back: new TextDecoder().decode(bytes) === text,
        broken: new TextDecoder().decode(new Uint8Array([0x61, 0xff, 0xe2, 0x82, 0x62])),
        b64: btoa('hello'), from: atob('aGVsbG8='),
        clone: [clone.d.getTime(), clone.m.get(1).a, clone.s.has(1), clone.l],
      }"""
    (said,) = jsons(await box.run(job(code)))
    assert bytes(said["bytes"]) == "a\u00e9\u20ac\U0001f600".encode()
    assert said["back"] is True
    assert said["broken"] == "a\ufffd\ufffdb"
    assert (said["b64"], said["from"]) == ("aGVsbG8=", "hello")
    assert said["clone"] == [5, 1, True, [1, [2]]]


async def test_awkward_keys_are_plain_data(box: Sandbox) -> None:
    items = [{"__proto__": {"polluted": 1}, "constructor": 2, "toString": 3, "hasOwnProperty": None, "": 4, "a.b": 5}]
    code = "return [item, { keys: Object.keys(item), clean: ({}).polluted === undefined }]"
    first, second = jsons(await box.run(job(code, items)))
    assert first == items[0]
    assert second == {"keys": list(items[0]), "clean": True}
