// Runs one job inside the guest: reads it from stdin, gives user code its names, writes framed lines to stdout.
// Nothing here is a boundary. The boundary is the engine and the process around it; what this file sends is checked
// by the server like anything else a guest says. `__STD__` and `__OS__` are replaced when the artifact is built.
import * as std from "__STD__";
import * as os from "__OS__";

const { stringify, parse } = JSON;
const { floor } = Math;
const { now: clock, setTimeout: timer, clearTimeout: untimer } = os;
const leave = std.exit;
const out = std.out;
const puts = out.puts.bind(out);
const flush = out.flush.bind(out);
const RealDate = Date;
const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;
const isArray = Array.isArray;
const SHIFT = 2; // lines the Function constructor puts before the body

// Code could import this file as text and read from it how the guest's library is called here.
if (os.remove("/workspace/harness.js") !== 0) leave(2);
for (const name of ["gc", "execArgv", "argv0", "navigator", "print", "scriptArgs", "performance", "console"]) {
  delete globalThis[name];
}

const grant = parse(std.in.getline());
const source = std.in.getline();
const began = clock();
const mark = grant.nonce;

// --- what leaves the guest ---------------------------------------------------------------------------------------

function send(kind, text) {
  puts(mark + kind + text + "\n");
  flush();
}

function text(read, fallback = "") {
  try {
    const value = read();
    return typeof value === "string" ? value : value === undefined || value === null ? fallback : String(value);
  } catch {
    return fallback;
  }
}

function place(stack) {
  const found = /<input>:(\d+)(?::(\d+))?/.exec(stack);
  if (!found) return {};
  return { line: Math.max(1, Number(found[1]) - SHIFT), column: found[2] ? Number(found[2]) : null };
}

function ownFrames(stack) {
  const lines = [];
  for (const line of stack.split("\n")) {
    if (!line.includes("<input>")) continue;
    lines.push(line.trim().replace(/<input>:(\d+)/, (_, n) => "code:" + Math.max(1, Number(n) - SHIFT)));
    if (lines.length === 20) break;
  }
  return lines.join("\n").slice(0, 8192);
}

// An allocation that fails while the engine builds its own "out of memory" error surfaces as a thrown null.
function described(thrown) {
  if (thrown === null) {
    return { kind: "limit", code: "limit.memory", message: "The code ran out of memory, or threw null." };
  }
  if (typeof thrown !== "object" && typeof thrown !== "function") {
    return { kind: "user", code: "code.thrown", message: text(() => String(thrown), "A value was thrown.").slice(0, 4096) };
  }
  const name = text(() => thrown.name, "Error").slice(0, 200);
  const message = text(() => thrown.message).slice(0, 4096);
  const stack = text(() => thrown.stack).slice(0, 65536);
  const error = { kind: "user", code: "code.error", name, message: message ? name + ": " + message : name };
  if (thrown instanceof SyntaxError && stack.startsWith("    at <input>")) error.code = "code.syntax";
  if (/out of memory/.test(message)) Object.assign(error, { kind: "limit", code: "limit.memory", message: "The code ran out of memory." });
  if (/stack (size exceeded|overflow)/.test(message)) Object.assign(error, { kind: "limit", code: "limit.stack" });
  return Object.assign(error, place(stack), { stack: ownFrames(stack) });
}

function finish(kind, json) {
  if (logDropped) send("D", String(logDropped));
  send(kind, json);
  leave(0);
}

function fail(error) {
  finish("E", stringify(error));
}

class Refusal extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

// --- console -----------------------------------------------------------------------------------------------------

let logBytes = 0;
let logLines = 0;
let logDropped = 0;

function shown(value) {
  if (typeof value === "string") return value;
  if (value instanceof Error) return text(() => value.name + ": " + value.message + "\n" + ownFrames(value.stack), "Error");
  if (typeof value === "function") return "[function " + text(() => value.name) + "]";
  if (typeof value === "object" && value !== null) {
    const json = text(() => stringify(value, seenOnce()), "");
    return json || text(() => Object.prototype.toString.call(value), "[object]");
  }
  return text(() => (typeof value === "bigint" ? value + "n" : String(value)), "[value]");
}

function seenOnce() {
  const above = [];
  return function (key, value) {
    if (typeof value === "bigint") return value + "n";
    if (typeof value !== "object" || value === null) return value;
    while (above.length && above[above.length - 1] !== this) above.pop();
    if (above.includes(value)) return "[circular]";
    if (above.length > 16) return "[deep]";
    above.push(value);
    return value;
  };
}

function log(level, values) {
  if (logLines >= grant.logLines || logBytes >= grant.logBytes) {
    logDropped += 1;
    return;
  }
  let line = "";
  for (const value of values) {
    line += (line ? " " : "") + shown(value);
    if (line.length > grant.logBytes) break;
  }
  line = line.slice(0, Math.max(0, grant.logBytes - logBytes));
  logLines += 1;
  logBytes += line.length;
  send("L", stringify({ level, text: line.toWellFormed(), at: floor((clock() - began) / 1000) }));
}

// --- what user code sees -----------------------------------------------------------------------------------------

function hide(name, value) {
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
}

function seededRandom(seed) {
  // xoshiro128** by Blackman and Vigna, its state filled by splitmix32.
  let z = (seed % 4294967296) | 0;
  let high = floor(seed / 4294967296) | 0;
  const fill = () => {
    z = (z + 0x9e3779b9) | 0;
    let t = z ^ (z >>> 16);
    t = Math.imul(t, 0x21f0aaad);
    t ^= t >>> 15;
    t = Math.imul(t, 0x735a2d97);
    return (t ^ (t >>> 15) ^ high) >>> 0;
  };
  let [a, b, c, d] = [fill(), fill(), fill(), fill() | 1];
  const next = () => {
    const t = Math.imul(b, 5);
    const result = Math.imul((t << 7) | (t >>> 25), 9) >>> 0;
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = (d << 11) | (d >>> 21);
    return result;
  };
  return function random() {
    return ((next() >>> 5) * 67108864 + (next() >>> 6)) / 9007199254740992;
  };
}

function fixedDate(at) {
  function Date(...parts) {
    if (!new.target) return new RealDate(at).toString();
    return Reflect.construct(RealDate, parts.length ? parts : [at], new.target);
  }
  Object.defineProperty(Date, "length", { value: 7 });
  Date.prototype = RealDate.prototype;
  Object.defineProperty(RealDate.prototype, "constructor", { value: Date, writable: true, configurable: true });
  Date.UTC = RealDate.UTC;
  Date.parse = RealDate.parse;
  Date.now = function now() {
    return at;
  };
  return Date;
}

class TextEncoder {
  get encoding() {
    return "utf-8";
  }
  encode(value = "") {
    const bytes = [];
    for (const character of String(value).toWellFormed()) {
      const point = character.codePointAt(0);
      if (point < 0x80) bytes.push(point);
      else if (point < 0x800) bytes.push(0xc0 | (point >> 6), 0x80 | (point & 63));
      else if (point < 0x10000) bytes.push(0xe0 | (point >> 12), 0x80 | ((point >> 6) & 63), 0x80 | (point & 63));
      else
        bytes.push(0xf0 | (point >> 18), 0x80 | ((point >> 12) & 63), 0x80 | ((point >> 6) & 63), 0x80 | (point & 63));
    }
    return new Uint8Array(bytes);
  }
}

class TextDecoder {
  constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
    if (!/^utf-?8$/i.test(label)) throw new RangeError("Only utf-8 is supported.");
    this.fatal = fatal;
    this.ignoreBOM = ignoreBOM;
  }
  get encoding() {
    return "utf-8";
  }
  decode(view = new Uint8Array()) {
    const bytes = view instanceof ArrayBuffer ? new Uint8Array(view) : new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    let result = "";
    for (let i = 0; i < bytes.length; ) {
      const [point, size] = decodedAt(bytes, i);
      if (point < 0 && this.fatal) throw new TypeError("The data is not valid utf-8.");
      if (!(i === 0 && point === 0xfeff && !this.ignoreBOM)) result += point < 0 ? "\ufffd" : String.fromCodePoint(point);
      i += size;
    }
    return result;
  }
}

// One code point at `i` and the bytes it takes; -1 for an invalid sequence, whose maximal prefix is taken.
function decodedAt(bytes, i) {
  const first = bytes[i];
  if (first < 0x80) return [first, 1];
  const size = first >= 0xf0 && first < 0xf5 ? 4 : first >= 0xe0 ? 3 : first >= 0xc2 ? 2 : 0;
  if (!size || first > 0xf4) return [-1, 1];
  let low = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
  let high = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
  let point = first & (0xff >> (size + 1));
  for (let k = 1; k < size; k++) {
    const next = bytes[i + k];
    if (next === undefined || next < low || next > high) return [-1, k];
    point = (point << 6) | (next & 63);
    low = 0x80;
    high = 0xbf;
  }
  return [point, size];
}

function structuredClone(value, seen = new Map()) {
  if (typeof value === "function" || typeof value === "symbol") throw new DOMException("It cannot be cloned.", "DataCloneError");
  if (typeof value !== "object" || value === null) return value;
  if (seen.has(value)) return seen.get(value);
  if (value instanceof RealDate) return new RealDate(value.getTime());
  if (value instanceof RegExp) return new RegExp(value.source, value.flags);
  if (value instanceof ArrayBuffer) return value.slice(0);
  if (ArrayBuffer.isView(value)) return new value.constructor(value);
  const copy = isArray(value) ? [] : value instanceof Map ? new Map() : value instanceof Set ? new Set() : {};
  seen.set(value, copy);
  if (value instanceof Map) for (const [k, v] of value) copy.set(structuredClone(k, seen), structuredClone(v, seen));
  else if (value instanceof Set) for (const v of value) copy.add(structuredClone(v, seen));
  else if (value instanceof Error) return Object.assign(new Error(value.message), { name: value.name });
  else for (const key of Object.keys(value)) copy[key] = structuredClone(value[key], seen);
  return copy;
}

function surroundings(job) {
  const at = RealDate.parse(job.now);
  hide("Date", fixedDate(at));
  Math.random = seededRandom(job.seed);
  hide("setTimeout", (run, wait = 0, ...rest) => timer(() => run(...rest), wait));
  hide("clearTimeout", (id) => {
    if (id !== undefined && id !== null) untimer(id);
  });
  hide("TextEncoder", TextEncoder);
  hide("TextDecoder", TextDecoder);
  hide("structuredClone", (value) => structuredClone(value));
  const console = {};
  for (const level of ["debug", "log", "info", "warn", "error"]) {
    console[level] = (...values) => log(level === "log" ? "info" : level, values);
  }
  hide("console", console);
  const scope = job.scope ?? {};
  for (const name of ["trigger", "execution", "vars"]) hide(name, scope[name] ?? (name === "trigger" ? null : {}));
  hide("now", new globalThis.Date(at));
}

// Each named node as {items, item}; `match` says, per input item, which of the node's items it descends from.
function nodesFor(given, index) {
  const nodes = {};
  for (const id of Object.keys(given ?? {})) {
    const { items = [], match } = given[id];
    nodes[id] = { items, item: items[match?.[index] ?? 0] ?? null };
  }
  return nodes;
}

// --- the run -----------------------------------------------------------------------------------------------------

function asItems(value, mode) {
  if (value === undefined || value === null) return [];
  const list = isArray(value) ? value : [value];
  for (let i = 0; i < list.length; i++) {
    const one = list[i];
    if (typeof one !== "object" || one === null || isArray(one) || one instanceof RealDate) {
      const what = one === null ? "null" : isArray(one) ? "an array" : one instanceof RealDate ? "a Date" : "a " + typeof one;
      const where = isArray(value) ? " at position " + i : "";
      throw new Refusal("code.result", "The code returned " + what + where + "; an item is a plain object.");
    }
  }
  return list;
}

async function all(run, items) {
  const known = new Map(items.map((item, index) => [item, index]));
  return asItems(await run(), "all").map((json) => ({ json, from: known.get(json) }));
}

async function each(run, items, given) {
  const results = [];
  for (let index = 0; index < items.length; index++) {
    globalThis.item = items[index];
    if (given) globalThis.nodes = nodesFor(given, index);
    for (const json of asItems(await run(), "each")) results.push({ json, from: index });
  }
  return results;
}

// Lone surrogates have no UTF-8 form: they become U+FFFD, as in every other place where text leaves JavaScript.
function wellFormed(key, value) {
  if (typeof value === "string") return value.toWellFormed();
  if (typeof value !== "object" || value === null || isArray(value)) return value;
  const keys = Object.keys(value);
  if (keys.every((name) => name.isWellFormed())) return value;
  return Object.fromEntries(keys.map((name) => [name.toWellFormed(), value[name]]));
}

function packed(results) {
  let json;
  try {
    json = stringify(results);
    if (/\\ud[89a-f]/i.test(json)) json = stringify(results, wellFormed);
  } catch (fault) {
    const error = described(fault);
    if (error.kind === "limit") throw fault;
    throw new Refusal("code.result", "The result has no JSON form: " + error.message);
  }
  return json;
}

async function main() {
  const job = parse(source);
  const items = job.items.map((one) => one.json);
  surroundings(job);
  hide("items", items);
  hide("item", items[0] ?? null);
  hide("nodes", nodesFor(job.scope?.nodes, 0));
  const run = new AsyncFunction(job.code);
  const results = job.mode === "each" ? await each(run, items, job.scope?.nodes) : await all(run, items);
  finish("R", packed(results));
}

try {
  await main();
} catch (thrown) {
  if (thrown instanceof Refusal) fail({ kind: "user", code: thrown.code, message: thrown.message });
  fail(described(thrown));
}
