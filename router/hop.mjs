// Proof of the last hop: the subgraphs answer only who holds the gateway's key (their side: subgraphs/platform/hop.py).
import { createHash, createHmac } from 'node:crypto';

const sha256 = (data) => createHash('sha256').update(data).digest('hex');

export class Hop {
  #key;

  constructor(key) {
    this.#key = key;
  }

  /** `v1;<unix seconds>;<hex>` over time, method, path with query, body and identity. */
  proof(method, path, body, identity, now = Date.now()) {
    const moment = Math.floor(now / 1000);
    const text = ['v1', moment, method, path, sha256(body), sha256(identity)].join('\n');
    return `v1;${moment};${createHmac('sha256', this.#key).update(text).digest('hex')}`;
  }

  /** For a websocket to a subgraph: stands as `hop` beside `identity` in `connection_init`. */
  socketProof(url, identity) {
    return this.proof('WS', new URL(url).pathname, '', identity);
  }
}

/**
 * Signs each HTTP request to a subgraph as it leaves. This may happen in `onFetch` since the proof adds nothing that
 * tells two callers apart; the identity may not: it is set before identical requests are merged (identity.mjs).
 */
export function hopPlugin(hop) {
  return {
    onFetch({ url, options, executionRequest }) {
      if (!executionRequest) return;
      const { pathname, search } = new URL(url);
      const headers = options.headers ?? {};
      const body = options.body ?? '';
      if (typeof body !== 'string') throw new TypeError('a request to a subgraph has a text body');
      headers['x-linkflow-hop'] = hop.proof(
        options.method ?? 'POST', pathname + search, body, headers['x-linkflow-identity'] ?? '',
      );
      options.headers = headers;
    },
  };
}
