# ruff: noqa: E501 - a payload is easier to judge on one line
"""Attempts to take more than was granted: code, and the kinds of error that may answer it (None: a good result)."""

from __future__ import annotations

LIMIT, TIMEOUT, USER = "limit", "timeout", "user"

TIME: dict[str, str] = {
    "loop": "for (;;);",
    "catchall": "for (;;) { try { for (;;); } catch { } finally { continue } }",
    "promises": "const spin = () => Promise.resolve().then(spin); await spin()",
    "never": "await new Promise(() => {})",
    "sleep": "await new Promise((done) => setTimeout(done, 3600000))",
    "timers": "const again = () => setTimeout(again, 0); again(); await new Promise(() => {})",
    "regex": "return { r: /^(a+)+$/.test('a'.repeat(40) + '!') }",
    "regex2": "return { r: /(x+x+)+y/.test('x'.repeat(60)) }",
    "sort": "const a = [3, 2, 1]; a.sort(() => { for (;;); })",
    "getter": "return { get a() { for (;;); } }",
    "tojson": "return { toJSON() { for (;;); } }",
    "console": "console.log({ toJSON() { for (;;); } })",
    "generator": "function* g() { for (;;) yield 1 } for (const x of g());",
    "bigint": "let n = 3n; for (;;) n = (n * n) % (2n ** 2000n)",
}

SPACE: dict[str, tuple[str, frozenset[str]]] = {
    "array": ("const a = []; for (;;) a.push(new Array(1000).fill(1))", frozenset({LIMIT})),
    "string": ("let s = 'x'; for (;;) s += s", frozenset({LIMIT, USER})),
    "strings": ("const a = []; for (let i = 0; ; i++) a.push('x'.repeat(1e6) + i)", frozenset({LIMIT})),
    "buffer": ("const a = []; for (;;) a.push(new ArrayBuffer(1e6))", frozenset({LIMIT})),
    "gigabyte": ("return { n: new ArrayBuffer(2 ** 30).byteLength }", frozenset({LIMIT, USER})),
    "shared": ("return { n: new SharedArrayBuffer(2 ** 30).byteLength }", frozenset({LIMIT, USER})),
    "fill": ("return { n: Array(1e9).fill('x').join('').length }", frozenset({LIMIT, USER})),
    "repeat": ("return { s: 'x'.repeat(2 ** 30 - 1) }", frozenset({LIMIT, USER})),
    "map": ("const m = new Map(); for (let i = 0; ; i++) m.set(i, { i })", frozenset({LIMIT})),
    "bigint": ("let n = 2n; for (;;) n = n * n", frozenset({LIMIT, USER, TIMEOUT})),
    "caught": ("const a = []; for (;;) { try { a.push('x'.repeat(1e6) + a.length) } catch { break } } return { n: a.length > 10 }", frozenset()),
    "recursion": ("function f(n) { return f(n + 1) + 1 } return { n: f(0) }", frozenset({LIMIT})),
    "mutual": ("const o = { get a() { return this.b }, get b() { return this.a } }; return { n: o.a }", frozenset({LIMIT})),
    "proxies": ("let p = {}; for (let i = 0; i < 1e5; i++) p = new Proxy(p, {}); return { n: p.x }", frozenset({LIMIT, USER})),
    "parse": ("return { n: JSON.parse('['.repeat(1e6) + ']'.repeat(1e6)).length }", frozenset({LIMIT, USER})),
    "parens": ("return { n: eval('('.repeat(1e5) + '1' + ')'.repeat(1e5)) }", frozenset({LIMIT, USER})),
    "regexdepth": ("return { n: new RegExp('('.repeat(1e5) + ')'.repeat(1e5)).source.length }", frozenset({LIMIT, USER})),
    "tostring": ("let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return { n: String(a) }", frozenset({LIMIT, USER})),
    "stringify": ("let a = {}; for (let i = 0; i < 1e5; i++) a = { a }; return a", frozenset({LIMIT, USER})),
    "deepresult": ("let a = 1; for (let i = 0; i < 60; i++) a = [[[[a]]]]; return { a }", frozenset({LIMIT, USER})),
    "hugeresult": ("return { s: 'x'.repeat(6e6) }", frozenset({LIMIT})),
    "manyitems": ("return Array.from({ length: 1e6 }, () => ({ some: 'value' }))", frozenset({LIMIT})),
    "escapes": ("return { s: '\\u0000'.repeat(2e6) }", frozenset({LIMIT})),
    "rejections": ("for (let i = 0; i < 10000; i++) Promise.reject(new Error('nobody ' + i)); return {}", frozenset()),
    "awaitedrejections": (
        "for (let i = 0; i < 10000; i++) Promise.reject(i); await new Promise((go) => setTimeout(go, 1)); return {}",
        frozenset({USER}),
    ),
    "timerflood": ("for (let i = 0; i < 1e5; i++) setTimeout(() => {}, 1e6); return {}", frozenset({LIMIT, TIMEOUT})),
    "throwhuge": ("throw new Error('x'.repeat(2e7))", frozenset({USER, LIMIT})),
    "throwdeep": ("let e = new Error('x'); for (let i = 0; i < 1e4; i++) e = new Error('y', { cause: e }); throw e", frozenset({USER})),
    "loghuge": ("console.log('x'.repeat(2e7)); return {}", frozenset()),
    "logdeep": ("let a = {}; for (let i = 0; i < 1e4; i++) a = { a }; console.log(a); return {}", frozenset()),
}  # fmt: skip
