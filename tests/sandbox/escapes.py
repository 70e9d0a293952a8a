# ruff: noqa: E501 - a payload is easier to judge on one line
"""Attempts to get out, by the trick they use. Each runs as user code; what it returns is searched for the canary.

They re-tell, in our own words and for our own guest, the kinds of published escapes of JavaScript sandboxes: constructor
walks, getters, proxies, async and generator constructors, error stacks, `with`, tagged templates, unicode escapes,
species, dynamic import, guessed host objects.
"""

from __future__ import annotations

HOST = (
    "globalThis.process ?? globalThis.require ?? globalThis.Deno ?? globalThis.Bun ?? globalThis.std ?? globalThis.os"
)

VIA_FUNCTION = {
    "this": "return { r: String(this.constructor.constructor('return process')()) }",
    "function": "return { r: String(Function('return this.process.env')()) }",
    "array": "return { r: String([].filter.constructor('return process.mainModule.require(\"fs\")')()) }",
    "number": "return { r: String((5).constructor.constructor('return require')()('fs')) }",
    "regexp": "return { r: String(/a/.constructor.constructor('return std')()) }",
    "async": "const A = (async () => {}).constructor; return { r: String(await new A('return process.env')()) }",
    "generator": "const G = (function* () {}).constructor; return { r: String(new G('yield process')().next().value) }",
    "asyncgen": "const G = (async function* () {}).constructor; return { r: String((await new G('yield std')().next()).value) }",
    "unicode": "return { r: String(this['\\u0063onstructor']['const' + 'ructor']('return proc\\u0065ss')()) }",
    "reflect": "return { r: String(Reflect.construct(Function, ['return os'])()) }",
    "bound": "return { r: String(Function.prototype.bind.call(Function, null, 'return execArgv')()()) }",
    "template": "const t = Function; return { r: String(t`return process```) }",
    "with": "return { r: String(Function('with (globalThis) { return process }')()) }",
    "eval": "return { r: String((0, eval)('typeof process + typeof require + std')) }",
    "body": "return { r: String(Function('}), (globalThis.leaked = typeof std), (function () {')()) + globalThis.leaked }",
    "console": "return { r: String(console.log.constructor('return this')().process.env.PATH) }",
    "timer": "return { r: String(setTimeout.constructor.constructor('return std.loadFile')()) }",
    "date": "return { r: String(Date.now.constructor('return os')()) }",
    "item": "return { r: String(items[0].constructor.constructor('return std')()) }",
}

VIA_OBJECTS = {
    "getter": "const o = {}; Object.defineProperty(o, 'x', { get: Function('return process') }); return { r: String(o.x) }",
    "proxy": "const p = new Proxy(function () {}, { apply: (t, self) => self.constructor('return std')() }); return { r: String(p.call(Function)) }",
    "species": (
        "class P extends Promise { static get [Symbol.species]() { return function (run) { run((x) => (globalThis.x = x), () => {}); } } }"
        "const p = P.resolve(1).then((v) => v); return { r: String(p) + Object.getOwnPropertyNames(p) }"
    ),
    "stack": (
        "Error.prepareStackTrace = (e, frames) => frames.map((f) => String(f.getThis && f.getThis()) + String(f.getFunction && f.getFunction()));"
        "let r; try { null.x } catch (e) { r = e.stack } return { r: String(r) }"
    ),
    "stackgetter": "const e = new Error('x'); Object.defineProperty(e, 'stack', { get() { return std.loadFile('/etc/passwd') } }); throw e",
    "thrown": "throw new Proxy({}, { get(t, k) { return globalThis.std ?? k.toString() }, getPrototypeOf() { throw 1 } })",
    "hostlimit": "function f() { try { f() } catch (e) { globalThis.e = e } } f(); return { r: String(e.constructor.constructor('return process')()) }",
    "callee": "return { r: String((function () { return arguments.callee.caller })()) }",
    "caller": "const f = function () { return f.caller }; return { r: String(f()) }",
    "proto": "({}).__proto__.then = function (go) { go(5) }; return { r: String(await {}) }",
    "thenable": "return { then(go) { go([{ r: String(globalThis.std) }]) } }",
    "toprimitive": "return { r: String({ [Symbol.toPrimitive]: Function('return std.getenviron()') }) }",
    "symbols": "return { r: Object.getOwnPropertySymbols(globalThis).map(String).concat(Reflect.ownKeys(globalThis).map(String)).join() }",
    "weakref": "const w = new WeakRef(items); gc(); return { r: String(w.deref()) }",
    "iterator": "Array.prototype[Symbol.iterator] = function* () { yield globalThis.std; yield* [] }; return { r: String([...items]) }",
    "hasinstance": "Object.defineProperty(Error, Symbol.hasInstance, { value: () => true }); throw { code: 'sandbox.fake', message: 'fake', kind: 'infrastructure' }",
    "stringify": "JSON.stringify = () => 'not json'; Object.prototype.toJSON = () => 'gone'; return { r: 1 }",
    "define": "Object.defineProperty(Object.prototype, 'kind', { value: 'infrastructure', writable: false }); throw new Error('x')",
}

VIA_IMPORT = {
    "std": "const m = await import('qjs:std'); return { r: m.loadFile('/etc/passwd') }",
    "os": "const m = await import('qjs:os'); return { r: m.readdir('/').join() }",
    "bjson": "const m = await import('qjs:bjson'); return { r: Object.keys(m).join() }",
    "oldnames": "const m = await import('std'); return { r: m.getenviron() }",
    "node": "const m = await import('node:fs'); return { r: m.readFileSync('/etc/passwd') }",
    "harness": "const m = await import('/workspace/harness.js', { with: { type: 'text' } }); return { r: m.default }",
    "harnesscode": "const m = await import('/workspace/harness.js'); return { r: Object.keys(m).join() }",
    "stdin": "const m = await import('/dev/stdin', { with: { type: 'text' } }); return { r: m.default }",
    "passwd": "const m = await import('/etc/passwd', { with: { type: 'text' } }); return { r: m.default }",
    "shadow": "const m = await import('../../../../../../etc/shadow', { with: { type: 'text' } }); return { r: m.default }",
    "environ": "const m = await import('/proc/self/environ', { with: { type: 'text' } }); return { r: m.default }",
    "maps": "const m = await import('/proc/self/maps', { with: { type: 'bytes' } }); return { r: String(m.default) }",
    "canary": "const m = await import('CANARY_FILE', { with: { type: 'text' } }); return { r: m.default }",
    "canaryjson": "const m = await import('file://CANARY_FILE', { with: { type: 'json' } }); return { r: m.default }",
    "url": "const m = await import('http://127.0.0.1:CANARY_PORT/x.js'); return { r: Object.keys(m).join() }",
    "data": "const m = await import('data:text/javascript,export default typeof process'); return { r: m.default }",
}

VIA_NAMES = {
    "fetch": "return { r: String(await fetch('http://127.0.0.1:CANARY_PORT/')) }",
    "xhr": "const x = new XMLHttpRequest(); x.open('GET', 'http://127.0.0.1:CANARY_PORT/'); x.send(); return { r: x.responseText }",
    "websocket": "return { r: String(new WebSocket('ws://127.0.0.1:CANARY_PORT/')) }",
    "worker": "return { r: String(new Worker('/workspace/harness.js')) }",
    "wasm": "return { r: String(new WebAssembly.Module(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]))) }",
    "require": "return { r: String(require('child_process').execSync('id')) }",
    "env": "return { r: String(process.env.LINKFLOW_CANARY) }",
    "exec": "return { r: String(os.exec(['id'])) }",
    "popen": "return { r: String(std.popen('id', 'r')) }",
    "host": f"return {{ r: String({HOST}) }}",
    "print": "print('RESULT'); return {}",
    "atomics": "return { r: String(Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10)) }",
    "scriptargs": "return { r: String([globalThis.scriptArgs, globalThis.execArgv, globalThis.argv0, globalThis.navigator]) }",
    "uninitialised": (
        "let r = ''; for (let i = 0; i < 50; i++) { const a = new Uint8Array(65536); if (a.some((b) => b)) r += String.fromCharCode(...a.slice(0, 999)) }"
        "return { r: r || 'all zero' }"
    ),
}

ALL = {
    f"{kind}.{name}": code
    for kind, group in (
        ("function", VIA_FUNCTION),
        ("objects", VIA_OBJECTS),
        ("import", VIA_IMPORT),
        ("names", VIA_NAMES),
    )
    for name, code in group.items()
}
