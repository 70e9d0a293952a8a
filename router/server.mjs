// `node router/server.mjs`: the gateway process. Ready when GET /readiness answers 200; ends on SIGTERM or SIGINT.
import { createServer } from 'node:http';

import { Logger } from '@graphql-hive/gateway-runtime';

import { createGateway } from './gateway.mjs';
import { Hop } from './hop.mjs';
import { Sessions } from './identity.mjs';
import { Metrics } from './metrics.mjs';
import { requestListener } from './requests.mjs';
import { BadSetting, settings as load } from './settings.mjs';
import { attachSockets } from './sockets.mjs';
import { Upstreams } from './upstream.mjs';

const GRACE = 5_000; // milliseconds running requests get to finish after a signal

function stopping(signal, { http, sockets, upstreams, gateway, log }) {
  log.info(`${signal}: closing`);
  const late = setTimeout(() => process.exit(0), GRACE);
  late.unref();
  for (const socket of sockets.clients) socket.close(1001, 'Going away');
  http.close(async () => {
    await upstreams.close();
    await gateway[Symbol.asyncDispose]?.();
    process.exit(0); // the runtime's own signal handlers have replaced Node's default exit
  });
  http.closeIdleConnections();
}

async function main() {
  const settings = load(process.env);
  const log = new Logger({ level: settings.logLevel });
  const hop = new Hop(settings.key);
  const metrics = new Metrics();
  const sessions = new Sessions({ endpoint: settings.identityUrl, recheck: settings.recheck });
  const upstreams = new Upstreams({ hop, heartbeat: settings.heartbeat, log });
  const gateway = createGateway({ settings, sessions, upstreams, hop, metrics, log });
  const http = createServer(
    {
      headersTimeout: Math.min(10_000, settings.requestTimeout),
      requestTimeout: settings.requestTimeout, // to send a whole request, body included
      connectionsCheckingInterval: settings.requestTimeout / 4,
      keepAliveTimeout: 65_000,
      maxHeaderSize: 32 * 1024,
    },
    requestListener({ gateway, settings, metrics, log }),
  );
  const sockets = attachSockets(http, { gateway, sessions, settings, metrics, log });
  metrics.gauge('linkflow_gateway_sockets', () => sockets.clients.size);
  metrics.gauge('linkflow_gateway_upstream_sockets', () => upstreams.size);
  metrics.gauge('process_resident_memory_bytes', () => process.memoryUsage.rss());
  metrics.gauge('process_cpu_seconds_total', () => process.cpuUsage().user / 1e6 + process.cpuUsage().system / 1e6);
  for (const signal of ['SIGTERM', 'SIGINT']) {
    process.once(signal, () => stopping(signal, { http, sockets, upstreams, gateway, log }));
  }
  // A request that fails answers its own client; a rejection nobody waits for must not end everybody else's streams.
  process.on('unhandledRejection', (reason) => log.error(reason, 'a rejection that nobody handled'));
  await gateway.getSchema();
  await new Promise((resolve, reject) => {
    http.once('error', reject);
    http.listen(settings.port, settings.host, resolve);
  });
  log.info(`gateway at http://${settings.host}:${http.address().port}/graphql`);
}

main().catch((error) => {
  const known = error instanceof BadSetting || error?.code === 'ENOENT' || error?.code === 'EADDRINUSE';
  process.stderr.write(`gateway: ${known ? error.message : error?.stack ?? error}\n`);
  process.exit(1);
});
