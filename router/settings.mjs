// Settings of the gateway, read once from the environment. `LINKFLOW_*` are the product's settings (the launcher hands
// them on); `GATEWAY_*` concern this process alone.
import { randomBytes } from 'node:crypto';
import { existsSync, linkSync, mkdirSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const CHECKOUT = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const UNITS = { '': 1, kib: 1024, mib: 1024 ** 2, gib: 1024 ** 3, kb: 1e3, mb: 1e6, gb: 1e9 };

/** A setting that cannot be used; the message names it and says what fits. */
export class BadSetting extends Error {}

function number(env, name, fallback, { least = 1, most = Number.MAX_SAFE_INTEGER } = {}) {
  const text = env[name];
  if (!text) return fallback;
  const value = Number(text);
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new BadSetting(`${name}=${text}: a whole number from ${least} to ${most}`);
  }
  return value;
}

function bytes(env, name, fallback) {
  const text = (env[name] ?? '').trim().toLowerCase();
  if (!text) return fallback;
  const match = /^([0-9]+)\s*([a-z]*)$/.exec(text);
  if (!match || !(match[2] in UNITS)) throw new BadSetting(`${name}=${text}: bytes, as 8388608 or 8MiB`);
  return Number(match[1]) * UNITS[match[2]];
}

function flag(env, name, fallback) {
  const text = (env[name] ?? '').toLowerCase();
  if (!text) return fallback;
  if (['1', 'true', 'yes', 'on'].includes(text)) return true;
  if (['0', 'false', 'no', 'off'].includes(text)) return false;
  throw new BadSetting(`${name}=${text}: true or false`);
}

function urls(env) {
  try {
    const found = JSON.parse(env.GATEWAY_SUBGRAPH_URLS || '{}');
    for (const url of Object.values(found)) new URL(url);
    return found;
  } catch (error) {
    throw new BadSetting(`GATEWAY_SUBGRAPH_URLS: a JSON object of subgraph name and address (${error.message})`);
  }
}

/** The 32 random bytes in `path` (mode 0600), made when nobody did yet; safe when two processes start together. */
function secret(path) {
  try {
    if (!existsSync(path)) {
      const fresh = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`;
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      writeFileSync(fresh, randomBytes(32), { mode: 0o600, flag: 'wx' });
      try {
        linkSync(fresh, path);
      } catch (error) {
        if (error.code !== 'EEXIST') throw error; // another process was first; its key counts
      } finally {
        unlinkSync(fresh);
      }
    }
    const key = readFileSync(path);
    if (key.length >= 32) return key;
  } catch (error) {
    throw new BadSetting(`The gateway's key ${path} can be neither read nor made: ${error.message}`);
  }
  throw new BadSetting(`The gateway's key ${path} has less than 32 bytes.`);
}

export function settings(env) {
  const home = resolve(env.LINKFLOW_HOME || join(CHECKOUT, '.linkflow'));
  const serve = `http://127.0.0.1:${number(env, 'LINKFLOW_SERVE_PORT', 8001)}`;
  return Object.freeze({
    host: env.LINKFLOW_HOST || '127.0.0.1',
    port: number(env, 'LINKFLOW_GATEWAY_PORT', 4000, { most: 65535 }),
    supergraph: resolve(env.GATEWAY_SUPERGRAPH || join(CHECKOUT, 'supergraph', 'supergraph.graphql')),
    serve,
    identityUrl: env.GATEWAY_IDENTITY_URL || `${serve}/auth/identity`,
    subgraphUrls: urls(env),
    key: secret(env.LINKFLOW_GATEWAY_SECRET || join(home, 'keys', 'gateway.key')),
    corsOrigins: (env.LINKFLOW_CORS_ORIGINS ?? '').split(',').map((part) => part.trim()).filter(Boolean),
    introspection: flag(env, 'LINKFLOW_INTROSPECTION', true),
    logLevel: env.LINKFLOW_LOG_LEVEL === 'warning' ? 'warn' : env.LINKFLOW_LOG_LEVEL || 'info',
    maxBytes: bytes(env, 'LINKFLOW_MAX_GRAPHQL_BYTES', 8 * 1024 ** 2),
    upstreamTimeout: number(env, 'GATEWAY_UPSTREAM_TIMEOUT_MS', 10_000),
    heartbeat: number(env, 'GATEWAY_HEARTBEAT_MS', 12_000, { most: 14_999 }),
    recheck: number(env, 'GATEWAY_RECHECK_MS', 5_000),
    requestTimeout: number(env, 'GATEWAY_REQUEST_TIMEOUT_MS', 20_000, { least: 1_000 }),
    initWait: number(env, 'GATEWAY_INIT_WAIT_MS', 3_000),
    streamsPerSocket: number(env, 'GATEWAY_STREAMS_PER_SOCKET', 200),
    sockets: number(env, 'GATEWAY_SOCKETS', 10_000),
  });
}
