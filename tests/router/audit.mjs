// The `graphql-http` audit of a server: `node audit.mjs URL [name=value header...]` prints {"ok": n, "rest": [...]}.
import { createRequire } from 'node:module';

const require = createRequire(new URL('../../router/package.json', import.meta.url));
const { serverAudits } = require('graphql-http');

const [url, ...more] = process.argv.slice(2);
const always = Object.fromEntries(more.map((one) => [one.slice(0, one.indexOf('=')), one.slice(one.indexOf('=') + 1)]));
const fetchFn = (target, options = {}) => fetch(target, { ...options, headers: { ...always, ...options.headers } });

const found = await Promise.all(serverAudits({ url, fetchFn }).map((audit) => audit.fn()));
const rest = found.filter((one) => one.status !== 'ok').map(({ status, name, reason }) => ({ status, name, reason }));
process.stdout.write(JSON.stringify({ ok: found.length - rest.length, total: found.length, rest }));
