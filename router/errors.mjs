// What a client learns of a failure: a code to act on, the request's id to quote, and the message only where it was
// written for clients. Everything else (addresses, queries, texts of exceptions) stays inside.
import { GraphQLError, Kind } from 'graphql';

const MOST = 10; // errors in one answer
const LONGEST = 1_000; // characters of a message, which may quote what was sent
const KEPT = ['code', 'field', 'nextStep', 'retryAfter'];
// Codes whose message was written for clients: our own problems (lower case words) and checks of the document.
const SAID = /^([a-z][a-z0-9_]*|(DOCUMENT|OPERATION|SUBSCRIPTION|BAD)_.*|GRAPHQL_(PARSE|VALIDATION)_FAILED)$/;
// What the runtime calls a subgraph that cannot be reached or does not speak GraphQL.
const UPSTREAM = new Set(['SUBREQUEST_HTTP_ERROR', 'RESPONSE_VALIDATION_FAILED', 'TIMEOUT_ERROR']);
const TEXTS = {
  GATEWAY_TIMEOUT: 'A part of the graph did not answer in time.',
  DOWNSTREAM_SERVICE_ERROR: 'A part of the graph is not available.',
  STREAM_INTERRUPTED: 'The stream was interrupted; subscribe again after the last seq you saw.',
  TOKEN_ENDED: 'The access token has ended; log in again or refresh it, then subscribe after the last seq you saw.',
};

// What to do about a refusal of the gateway's own; those of the subgraphs bring theirs.
const NEXT = {
  GRAPHQL_PARSE_FAILED: 'Correct the document at the position in `locations`.',
  GRAPHQL_VALIDATION_FAILED: 'Compare the document with the schema; GraphiQL shows it at /graphiql.',
  BAD_USER_INPUT: 'Compare the variables with the types that the operation declares.',
  BAD_REQUEST: 'Send a JSON object with `query` and, if needed, `variables`.',
  REQUEST_TOO_LARGE: 'Send a smaller body.',
  METHOD_NOT_ALLOWED: 'Send a POST.',
  UNSUPPORTED_MEDIA_TYPE: 'Send content-type: application/json.',
  UNSUPPORTED_ENCODING: 'Leave content-encoding out.',
  NOT_FOUND: 'Send GraphQL to /graphql.',
  JSON_TOO_DEEP: 'Flatten the JSON that is sent.',
  DOCUMENT_TOO_DEEP: 'Nest less, or ask in several requests.',
  DOCUMENT_TOO_MANY_ALIASES: 'Ask for fewer things at once, in several requests.',
  DOCUMENT_TOO_MANY_EQUAL_FIELDS: 'Write each field once.',
  DOCUMENT_TOO_MANY_TOKENS: 'Put values into variables, or ask in several requests.',
  SUBSCRIPTION_NEEDS_STREAM: 'Subscribe by websocket, or accept text/event-stream or multipart/mixed.',
  SUBSCRIPTION_ONLY: 'Send queries and mutations by POST.',
  CSRF_HEADER_MISSING: 'Send content-type: application/json or the header apollo-require-preflight.',
  GATEWAY_TIMEOUT: 'Try again in a moment.',
  DOWNSTREAM_SERVICE_ERROR: 'Try again in a moment.',
  STREAM_INTERRUPTED: 'Subscribe again with afterSeq.',
  TOKEN_ENDED: 'Call refreshSession or logIn.',
  INTERNAL_SERVER_ERROR: 'Try again; if it stays, tell the operator the correlationId.',
};

/** What the client can do about this code, if we know. */
export function nextStep(code) {
  return NEXT[code];
}

function kept(extensions = {}) {
  const found = {};
  for (const key of KEPT) if (extensions[key] !== undefined) found[key] = extensions[key];
  return found;
}

/** `code` of an error that carries none: the document's own faults have neither path nor original error. */
function codeOf(error) {
  if (/aborted due to timeout/.test(error.message)) return 'GATEWAY_TIMEOUT'; // all that is left of a TimeoutError
  if (UPSTREAM.has(error.extensions?.code)) return 'DOWNSTREAM_SERVICE_ERROR';
  if (error.extensions?.code) return error.extensions.code;
  if (!error.path && error.nodes?.[0]?.kind === Kind.VARIABLE_DEFINITION) return 'BAD_USER_INPUT';
  const ours = error instanceof GraphQLError && !error.originalError && !error.path;
  return ours ? 'GRAPHQL_VALIDATION_FAILED' : 'INTERNAL_SERVER_ERROR';
}

/** The HTTP status an error asks for; a malformed request would be answered 200 to a client of plain JSON. */
function statusOf({ extensions: { http } = {} }, code) {
  if (code === 'BAD_REQUEST') return { http: { status: http?.status ?? 400, headers: http?.headers } };
  return http && { http };
}

/** A message of the library without the names it offers: what is near is for who may read the schema. */
function unhinted(message, code) {
  if (/^[a-z]/.test(code)) return message;
  const said = message.replace(/ Did you mean [^]*$/, '');
  return said.length > LONGEST ? `${said.slice(0, LONGEST)}…` : said;
}

/** The error as clients may see it. Takes anything that was thrown. */
export function masked(error) {
  const code = codeOf(error ?? {});
  const said = error instanceof GraphQLError && SAID.test(code);
  return new GraphQLError(said ? unhinted(error.message, code) : (TEXTS[code] ?? 'Something went wrong inside.'), {
    nodes: error?.nodes,
    source: error?.source,
    positions: error?.positions,
    path: error?.path,
    extensions: { ...kept(error?.extensions), code, ...(said && statusOf(error, code)) },
  });
}

export function named(code, message, http) {
  return new GraphQLError(message ?? TEXTS[code], { extensions: { code, ...(http && { http: { status: http } }) } });
}

function shaped(result, requestId) {
  const { errors, extensions: _, ...rest } = result;
  if (!errors?.length) return rest;
  const told = errors.slice(0, MOST);
  for (const error of told) {
    error.extensions.nextStep ??= nextStep(error.extensions.code);
    error.extensions.correlationId = requestId;
  }
  return { ...rest, errors: told };
}

/** `result`, or each result of a stream, with the request's id on its errors and without `extensions` of its own. */
export function withRequestId(result, requestId) {
  if (!result?.[Symbol.asyncIterator]) return shaped(result, requestId);
  const source = result[Symbol.asyncIterator]();
  return {
    [Symbol.asyncIterator]() { return this; },
    async next() {
      const { done, value } = await source.next();
      return done ? { done, value } : { done, value: shaped(value, requestId) };
    },
    async return(value) {
      await source.return?.(value);
      return { done: true, value };
    },
  };
}

/** HTTP answers, also those that never came to execution. Sockets do the same for themselves. */
export function requestIdPlugin() {
  return {
    onResultProcess({ request, result, setResult }) {
      if (result && !Array.isArray(result)) setResult(withRequestId(result, request.headers.get('x-request-id')));
    },
  };
}
