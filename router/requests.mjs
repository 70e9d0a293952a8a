// What an HTTP request must look like before anything reads its document: where, how, how large, and by whom.
import { randomUUID } from 'node:crypto';

import { nextStep } from './errors.mjs';
import { LIMITS, jsonDepth } from './limits.mjs';

const PATH = '/graphql';
// A form or an image of another site cannot send these without the browser asking us first (CORS preflight).
const NON_SIMPLE = ['apollo-require-preflight', 'x-apollo-operation-name'];
const HARMLESS_ID = /^[A-Za-z0-9_-]{8,64}$/;

export function requestId(given) {
  return typeof given === 'string' && HARMLESS_ID.test(given) ? given : randomUUID();
}

function refuse(response, id, status, code, message, headers = {}) {
  const body = JSON.stringify({ errors: [{ message, extensions: { code, nextStep: nextStep(code), correlationId: id } }] });
  response.writeHead(status, { 'content-type': 'application/json; charset=utf-8', 'x-request-id': id, ...headers });
  response.end(body);
}

/** The whole body, or null when it is over `limit`; the rest is then dropped, so that the answer gets through. */
function read(request, limit) {
  return new Promise((resolve, reject) => {
    const chunks = [];
    let size = 0;
    const over = () => {
      request.removeAllListeners('data').resume();
      resolve(null);
    };
    if (Number(request.headers['content-length'] ?? 0) > limit) return over();
    request.on('data', (chunk) => {
      size += chunk.length;
      if (size > limit) over();
      else chunks.push(chunk);
    });
    request.on('end', () => resolve(Buffer.concat(chunks)));
    return request.on('error', reject);
  });
}

function contentType(request) {
  const said = (request.headers['content-type'] ?? '').toLowerCase();
  const [type, ...parameters] = said.split(';').map((one) => one.trim());
  const charsets = parameters.filter((one) => one.startsWith('charset='));
  return type === 'application/json' && charsets.every((one) => /^charset="?utf-8"?$/.test(one));
}

/** Null when the request may go on, else [status, code, message, headers]. */
function fault(request) {
  const { method, headers } = request;
  if (method === 'OPTIONS') return null;
  if (method !== 'GET' && method !== 'POST') {
    return [405, 'METHOD_NOT_ALLOWED', 'GraphQL is read by GET and POST.', { allow: 'GET, POST, OPTIONS' }];
  }
  if (method === 'GET' && !NON_SIMPLE.some((name) => headers[name])) {
    return [400, 'CSRF_HEADER_MISSING', `A GET needs one of the headers ${NON_SIMPLE.join(', ')}.`];
  }
  if (method === 'POST' && !contentType(request)) {
    return [415, 'UNSUPPORTED_MEDIA_TYPE', 'Send application/json in UTF-8.', { 'accept-post': 'application/json' }];
  }
  if (headers['content-encoding'] && headers['content-encoding'] !== 'identity') {
    return [415, 'UNSUPPORTED_ENCODING', 'Send the body as it is, without compression.'];
  }
  if (!headers['x-linkflow-identity']) {
    return [401, 'identity_missing', 'No identity came with this request: call the public address, not the gateway.'];
  }
  return null;
}

/** A Node request listener that lets only sound requests through to `gateway`. */
export function requestListener({ gateway, settings, metrics, log }) {
  async function graphql(request, response) {
    const id = requestId(request.headers['x-request-id']);
    request.headers['x-request-id'] = id;
    response.setHeader('x-request-id', id);
    const wrong = fault(request);
    if (wrong) {
      metrics.count('linkflow_gateway_refused_total', { code: wrong[1] });
      return refuse(response, id, ...wrong);
    }
    if (request.method === 'POST') {
      const body = await read(request, settings.maxBytes);
      if (body === null) {
        return refuse(response, id, 413, 'REQUEST_TOO_LARGE', `The limit is ${settings.maxBytes} bytes.`);
      }
      if (jsonDepth(body) > LIMITS.jsonDepth) {
        return refuse(response, id, 400, 'JSON_TOO_DEEP', `JSON may nest ${LIMITS.jsonDepth} levels deep.`);
      }
      request.body = body.length ? body : Buffer.from(' ');
    }
    return gateway(request, response);
  }

  return async (request, response) => {
    const path = request.url.split('?', 1)[0];
    try {
      if (path === PATH) await graphql(request, response);
      else if (path === '/metrics') {
        response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4' });
        response.end(metrics.text());
      } else if (path === '/healthcheck' || path === '/readiness') await gateway(request, response);
      else refuse(response, requestId(), 404, 'NOT_FOUND', 'The gateway answers at /graphql.');
    } catch (error) {
      log.error(error, `request to ${path} broke`);
      if (response.headersSent) response.destroy();
      else refuse(response, requestId(), 500, 'INTERNAL_SERVER_ERROR', 'Something went wrong inside.');
    }
  };
}
