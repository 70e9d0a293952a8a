// Runs the audits of the npm package graphql-http against one URL, signing each request as the gateway does.
// node audit.mjs URL IDENTITY KEY_FILE  ->  one JSON line: {"ok": n, "failed": [{id, name, reason}]}
import { readFileSync } from 'node:fs';
import { serverAudits } from '../../router/node_modules/graphql-http/lib/audits/server.mjs';
import { Hop } from '../../router/hop.mjs';

const [url, identity, keyFile] = process.argv.slice(2);
const hop = new Hop(readFileSync(keyFile));

function signed(target, options = {}) {
  const { pathname, search } = new URL(target);
  const body = options.body ?? '';
  const headers = new Headers(options.headers);
  headers.set('x-linkflow-identity', identity);
  headers.set('x-linkflow-hop', hop.proof(options.method ?? 'GET', pathname + search, body, identity));
  return fetch(target, { ...options, headers });
}

const failed = [];
let ok = 0;
for (const audit of serverAudits({ url, fetchFn: signed })) {
  const result = await audit.fn();
  if (result.status === 'ok') ok += 1;
  else failed.push({ id: audit.id, name: audit.name, reason: result.reason });
}
console.log(JSON.stringify({ ok, failed }));
