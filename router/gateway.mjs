// The gateway itself: Hive Gateway as a library with the Rust query planner, over the composed supergraph.
import { readFileSync } from 'node:fs';

import { createGatewayRuntime } from '@graphql-hive/gateway-runtime';
import { unifiedGraphHandler } from '@graphql-hive/router-runtime';
import http from '@graphql-mesh/transport-http';

import { masked, requestIdPlugin } from './errors.mjs';
import { hopPlugin } from './hop.mjs';
import { identityPlugin } from './identity.mjs';
import { introspectionPlugin } from './introspection.mjs';
import { limitsPlugin } from './limits.mjs';
import { metricsPlugin } from './metrics.mjs';
import { multipartPlugin } from './multipart.mjs';
import { streamsPlugin } from './streams.mjs';

const GRAPH = /(@join__graph\(name: "([^"]+)", url: )"[^"]*"/g;

/** The supergraph with the addresses of this deployment: by name from the settings, else `<serve>/<name>/graphql`. */
export function located(sdl, settings) {
  return sdl.replace(GRAPH, (_, start, name) => (
    `${start}${JSON.stringify(settings.subgraphUrls[name] ?? `${settings.serve}/${name}/graphql`)}`
  ));
}

function cors({ corsOrigins }) {
  if (!corsOrigins.length) return false;
  return {
    origin: corsOrigins,
    credentials: false,
    methods: ['GET', 'POST', 'OPTIONS'],
    allowedHeaders: [
      'authorization', 'content-type', 'traceparent', 'x-request-id',
      'apollo-require-preflight', 'x-apollo-operation-name',
    ],
    exposedHeaders: ['x-request-id'],
    maxAge: 3600,
  };
}

/**
 * How subgraphs are read. The timeout is the HTTP executor's, so subscriptions, which go another way, have none; the
 * runtime's own `upstreamTimeout` ends them, and leaves a rejection behind that nobody handles. Identical requests are
 * not merged: each has its own id, and who leaves would take the others' answer along.
 */
function reading({ upstreamTimeout }) {
  return { timeout: upstreamTimeout, deduplicateInflightRequests: false, subscriptions: { kind: 'live' } };
}

export function createGateway({ settings, sessions, upstreams, hop, metrics, log }) {
  const gateway = createGatewayRuntime({
    supergraph: located(readFileSync(settings.supergraph, 'utf8'), settings),
    unifiedGraphHandler,
    transports: { http, live: upstreams.transport() },
    transportEntries: { '*.http': { options: reading(settings) } },
    upstreamCancellation: true,
    executionCancellation: true,
    graphqlEndpoint: '/graphql',
    healthCheckEndpoint: '/healthcheck',
    readinessCheckEndpoint: '/readiness',
    landingPage: false,
    graphiql: false,
    batching: false,
    multipart: false,
    requestId: false,
    cors: cors(settings),
    ...(settings.introspection ? {} : { disableIntrospection: {} }),
    maskedErrors: { maskError: masked },
    logging: log,
    plugins: () => [
      limitsPlugin(),
      introspectionPlugin(),
      identityPlugin(),
      hopPlugin(hop),
      streamsPlugin({ sessions, metrics }),
      multipartPlugin({ heartbeat: settings.heartbeat, fetchAPI: { Response } }),
      requestIdPlugin(),
      metricsPlugin(metrics),
    ],
  });
  return gateway;
}
