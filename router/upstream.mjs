// Subscriptions to the subgraphs: graphql-transport-ws, one connection per subgraph and identity, shared by all streams
// of that identity. A lost connection ends its streams with a code, and is never retried here: a retry would begin at
// the old `afterSeq` and repeat events; only the client knows the last one it saw.
import { print } from 'graphql';
import { createClient } from 'graphql-ws';
import { WebSocket } from 'ws';

import { named } from './errors.mjs';

const socketUrl = (url) => url.replace(/^http/, 'ws');

function failure(reason) {
  const code = reason?.code === 4401 || reason?.code === 4403 ? 'unauthenticated' : 'STREAM_INTERRUPTED';
  return { errors: [named(code, code === 'unauthenticated' ? 'The subgraph did not accept the caller.' : undefined)] };
}

export class Upstreams {
  #hop;
  #heartbeat;
  #clients = new Map();

  constructor({ hop, heartbeat, log }) {
    this.#hop = hop;
    this.#heartbeat = heartbeat;
    this.log = log;
  }

  get size() {
    return this.#clients.size;
  }

  #client(url, identity) {
    const key = `${url} ${identity}`;
    let client = this.#clients.get(key);
    if (!client) {
      const forget = () => { if (this.#clients.get(key) === client) this.#clients.delete(key); };
      client = createClient({
        url: socketUrl(url),
        webSocketImpl: WebSocket,
        connectionParams: () => ({ identity, hop: this.#hop.socketProof(url, identity) }),
        lazyCloseTimeout: 3_000,
        keepAlive: this.#heartbeat,
        retryAttempts: 0,
        onNonLazyError: () => {},
        on: { closed: forget },
      });
      this.#clients.set(key, client);
    }
    return client;
  }

  /**
   * The results of one subscription; ends with a coded error when the subgraph goes away. Not an async generator: one
   * that waits for its next value does not hear `return()`, and the subgraph would go on for a client that has left.
   */
  stream(url, { document, variables, operationName, extensions, signal }) {
    const client = this.#client(url, extensions?.headers?.['x-linkflow-identity'] ?? '');
    const results = client.iterate({ query: print(document), variables, operationName });
    const leave = () => results.return();
    signal?.addEventListener('abort', leave, { once: true });
    const finish = () => signal?.removeEventListener('abort', leave);
    let broken = false;
    return {
      [Symbol.asyncIterator]() { return this; },
      next: async () => {
        if (broken) return { done: true, value: undefined };
        try {
          const step = await results.next();
          if (step.done) finish();
          return step;
        } catch (reason) {
          broken = true;
          finish();
          this.log.warn(`stream from ${url} broke: ${reason?.reason || reason?.message || reason?.code || reason}`);
          return { done: false, value: failure(reason) };
        }
      },
      return: async () => {
        broken = true;
        finish();
        await results.return();
        return { done: true, value: undefined };
      },
    };
  }

  /** What the gateway runtime takes as a transport. */
  transport() {
    return {
      getSubgraphExecutor: ({ transportEntry }) => (request) => this.stream(transportEntry.location, request),
    };
  }

  async close() {
    await Promise.all([...this.#clients.values()].map((client) => client.dispose()));
  }
}
