// Subscriptions of clients over graphql-transport-ws (https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md).
//
// `connection_init` carries `{"authorization": "Bearer ..."}`; every other key is dropped, so nothing a client writes
// there can become a header. A client that refreshes its token sends it in the payload of a `ping`; its streams go on
// under it. A socket whose token ends without that is closed with 4401; the client connects again with `afterSeq`.
import { getOperationAST } from 'graphql';
import { GRAPHQL_TRANSPORT_WS_PROTOCOL, makeServer } from 'graphql-ws';
import { WebSocketServer } from 'ws';

import { masked, named, withRequestId } from './errors.mjs';
import { Refused } from './identity.mjs';
import { requestId } from './requests.mjs';

const MAX_FRAME = 1024 ** 2;
const TRACEPARENT = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

function tokenOf(payload) {
  const token = payload?.authorization ?? payload?.Authorization;
  return typeof token === 'string' && /^Bearer \S+$/i.test(token) ? token : null;
}

/** Pages of other sites may not open a socket: their Origin is neither ours nor listed. Programs send none. */
function originAllowed({ headers }, allowed) {
  const { origin, host } = headers;
  if (!origin) return true;
  if (allowed.includes(origin)) return true;
  return URL.canParse(origin) && new URL(origin).host === host;
}

function closing(error) {
  if (error instanceof Refused && error.status === 503) return [1013, 'Try again later'];
  if (error instanceof Refused && error.status === 403) return [4403, 'Forbidden'];
  return [4401, 'Unauthorized'];
}

/** One client's socket: its session, which a ping may replace. */
class Connection {
  constructor(socket, request, sessions) {
    this.socket = socket;
    this.sessions = sessions;
    this.session = null;
    this.requestId = requestId(request.headers['x-request-id']);
    this.forwarded = { 'x-request-id': this.requestId };
    if (TRACEPARENT.test(request.headers.traceparent ?? '')) this.forwarded.traceparent = request.headers.traceparent;
    if (request.headers['accept-language']) this.forwarded['accept-language'] = request.headers['accept-language'];
  }

  /** Take `authorization` for this socket, first or instead of the one before; false when it was closed over it. */
  async adopt(authorization) {
    try {
      if (!authorization) throw new Refused(401, 'unauthenticated', 'no token');
      const session = await this.sessions.open(authorization);
      const before = this.session;
      const other = before && (session.subject !== before.subject || session.tenant !== before.tenant);
      if (other || this.socket.readyState !== this.socket.OPEN) {
        session.release();
        throw new Refused(403, 'identity_changed', 'a socket stays with one caller');
      }
      this.leave();
      this.session = session;
      this.stopListening = session.onEnd(({ status }) => (
        status === 403 ? this.socket.close(4403, 'Forbidden') : this.socket.close(4401, 'Token ended')
      ));
      return true;
    } catch (error) {
      this.socket.close(...closing(error));
      return false;
    }
  }

  leave() {
    this.stopListening?.();
    this.session?.release();
    this.session = null;
  }
}

/** The server half of the protocol over the gateway's own parse, validate and subscribe. */
function protocol({ gateway, settings, log }) {
  const subscribes = new WeakMap();

  async function prepared(connection, payload) {
    await gateway.getSchema();
    const enveloped = gateway.getEnveloped({
      request: new Request('http://gateway/graphql', { method: 'POST', headers: connection.forwarded }),
      params: payload,
      requestId: connection.requestId,
      forwarded: connection.forwarded,
      session: () => connection.session,
    });
    const document = enveloped.parse(payload.query);
    if (getOperationAST(document, payload.operationName)?.operation !== 'subscription') {
      return [named('SUBSCRIPTION_ONLY', 'This socket carries subscriptions; send queries and mutations by POST.')];
    }
    const errors = enveloped.validate(enveloped.schema, document);
    if (errors.length) return errors.map(masked);
    const args = {
      schema: enveloped.schema,
      document,
      operationName: payload.operationName,
      variableValues: payload.variables,
      contextValue: await enveloped.contextFactory(),
    };
    subscribes.set(args, enveloped.subscribe);
    return args;
  }

  return makeServer({
    connectionInitWaitTimeout: settings.initWait,
    onConnect: ({ connectionParams, extra }) => extra.adopt(tokenOf(connectionParams)),
    onSubscribe: async ({ extra, subscriptions }, _id, payload) => {
      if (Object.keys(subscriptions).length > settings.streamsPerSocket) {
        return [named('limited', `A socket carries at most ${settings.streamsPerSocket} streams.`)];
      }
      try {
        const result = await prepared(extra, payload);
        return Array.isArray(result) ? withRequestId({ errors: result }, extra.requestId).errors : result;
      } catch (error) {
        const shown = masked(error);
        if (shown.message !== error?.message) log.error(error, `a subscription could not start (${extra.requestId})`);
        return withRequestId({ errors: [shown] }, extra.requestId).errors;
      }
    },
    subscribe: (args) => subscribes.get(args)(args),
    onNext: ({ extra }, _id, _payload, _args, result) => withRequestId(result, extra.requestId),
  });
}

function serve(server, socket, connection, heartbeat) {
  let alive = true;
  const beat = setInterval(() => {
    if (!alive) socket.terminate();
    alive = false;
    socket.ping();
  }, heartbeat);
  socket.on('pong', () => { alive = true; });
  const closed = server.opened({
    protocol: socket.protocol,
    send: (data) => new Promise((resolve, reject) => {
      if (socket.readyState !== socket.OPEN) return resolve();
      return socket.send(data, (error) => (error ? reject(error) : resolve()));
    }),
    close: (code, reason) => socket.close(code, reason),
    onMessage: (take) => socket.on('message', (data) => {
      take(String(data)).catch(() => socket.close(4500, 'Internal server error'));
    }),
    onPing: async (payload) => {
      const fresh = tokenOf(payload);
      if (fresh && connection.session && !(await connection.adopt(fresh))) return;
      if (socket.readyState === socket.OPEN) socket.send(JSON.stringify({ type: 'pong' }));
    },
  }, connection);
  socket.on('close', (code, reason) => {
    clearInterval(beat);
    connection.leave();
    closed(code, String(reason)).catch(() => {});
  });
  socket.on('error', () => {}); // a frame that breaks the protocol or a limit: ws closes with the code for it
}

function refuse(stream, status, text) {
  stream.end(`HTTP/1.1 ${status} ${text}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}

/** Answer websocket upgrades on `http`; returns the WebSocketServer, to count and close. */
export function attachSockets(http, { gateway, sessions, settings, metrics, log }) {
  const server = protocol({ gateway, settings, log });
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: Math.min(MAX_FRAME, settings.maxBytes),
    handleProtocols: (offered) => (offered.has(GRAPHQL_TRANSPORT_WS_PROTOCOL) ? GRAPHQL_TRANSPORT_WS_PROTOCOL : false),
  });
  http.on('upgrade', (request, stream, head) => {
    stream.on('error', () => stream.destroy());
    if (request.url.split('?', 1)[0] !== '/graphql') return refuse(stream, 404, 'Not Found');
    if (!originAllowed(request, settings.corsOrigins)) return refuse(stream, 403, 'Forbidden');
    if (sockets.clients.size >= settings.sockets) return refuse(stream, 503, 'Service Unavailable');
    return sockets.handleUpgrade(request, stream, head, (socket) => {
      metrics.count('linkflow_gateway_sockets_total');
      serve(server, socket, new Connection(socket, request, sessions), settings.heartbeat);
    });
  });
  return sockets;
}
