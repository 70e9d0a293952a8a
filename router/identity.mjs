// Who is calling. HTTP requests bring the identity that the edge got from Auth; a websocket brings an access token in
// `connection_init`, exchanged at Auth here. A stream lives longer than an identity (five minutes), so it holds a
// Session, which asks Auth for a new one when it is due and ends when Auth says no.
const SPARE = 60; // seconds an identity must still have when it is handed on
const FORWARDED = ['x-request-id', 'traceparent', 'accept-language'];

/** Auth said no (401, 403) or did not answer (503). */
export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** The claims of a JWT that Auth just made. Not verified here: every subgraph does that. */
export function claims(token) {
  try {
    return JSON.parse(Buffer.from(token.split('.')[1], 'base64url').toString());
  } catch {
    return {};
  }
}

const left = (token) => (claims(token).exp ?? 0) - Date.now() / 1000;

async function problem(response) {
  try {
    return await response.json();
  } catch {
    return {};
  }
}

/** Exchanges access tokens for identities, and keeps one Session per token for all its streams. */
export class Sessions {
  #endpoint;
  #recheck;
  #live = new Map();

  constructor({ endpoint, recheck }) {
    this.#endpoint = endpoint;
    this.#recheck = recheck;
  }

  async exchange(authorization) {
    let response;
    try {
      response = await fetch(this.#endpoint, {
        headers: authorization ? { authorization } : {},
        signal: AbortSignal.timeout(5_000),
      });
    } catch {
      throw new Refused(503, 'auth_unavailable', 'Auth does not answer');
    }
    const identity = response.headers.get('x-linkflow-identity');
    if (response.ok && identity) {
      await response.body?.cancel();
      return identity;
    }
    const { code, message } = await problem(response);
    const status = response.status >= 500 ? 503 : response.status === 403 ? 403 : 401;
    throw new Refused(status, code ?? 'unauthenticated', message ?? 'The access token does not hold');
  }

  /** The session of an access token; `identity` when the caller has a fresh one already. Call `release` at the end. */
  async open(authorization, identity = null) {
    const key = authorization ?? '';
    const known = identity ?? (this.#live.has(key) ? null : await this.exchange(authorization));
    let session = this.#live.get(key);
    if (!session) {
      session = new Session(this, authorization, known, this.#recheck);
      this.#live.set(key, session);
    }
    session.retain();
    return session;
  }

  forget(session) {
    const key = session.authorization ?? '';
    if (this.#live.get(key) === session) this.#live.delete(key);
  }
}

/** One access token as long as something streams under it. */
export class Session {
  #sessions;
  #identity;
  #users = 0;
  #timer = null;
  #ended = null;
  #asking = null;
  #listeners = new Set();

  constructor(sessions, authorization, identity, recheck) {
    this.#sessions = sessions;
    this.authorization = authorization;
    this.#identity = identity;
    this.subject = claims(identity).sub;
    this.tenant = claims(identity).tid;
    this.recheck = recheck;
  }

  retain() {
    this.#users += 1;
    this.#timer ??= setInterval(() => this.#ask().catch(() => {}), this.recheck).unref();
  }

  release() {
    this.#users -= 1;
    if (this.#users <= 0) this.#stop();
  }

  get ended() {
    return this.#ended;
  }

  /** Calls back once with the Refused that ended the session; returns how to stop listening. */
  onEnd(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** An identity with at least a minute left. */
  async identity() {
    if (this.#ended) throw this.#ended;
    if (left(this.#identity) < SPARE) await this.#ask();
    return this.#identity;
  }

  // Auth keeps one identity per token, so asking often is cheap, and is how a revoked session is noticed.
  #ask() {
    this.#asking ??= this.#exchange().finally(() => { this.#asking = null; });
    return this.#asking;
  }

  async #exchange() {
    try {
      const identity = await this.#sessions.exchange(this.authorization);
      const { sub, tid } = claims(identity);
      if (sub !== this.subject || tid !== this.tenant) throw new Refused(403, 'identity_changed', 'Somebody else now');
      this.#identity = identity;
    } catch (error) {
      const harmless = error instanceof Refused && error.status === 503 && left(this.#identity) > 0;
      if (!harmless) this.#end(error);
      throw error;
    }
  }

  #end(error) {
    this.#ended ??= error;
    this.#stop();
    for (const listener of [...this.#listeners]) listener(error);
    this.#listeners.clear();
  }

  #stop() {
    clearInterval(this.#timer);
    this.#timer = null;
    this.#sessions.forget(this);
  }
}

/**
 * Puts the caller's identity on every subgraph request, and nothing else the client sent but the listed headers.
 * Must be `onSubgraphExecute`: identical requests are merged after it, so that two callers never share one.
 */
export function identityPlugin() {
  return {
    async onSubgraphExecute({ executionRequest }) {
      const context = executionRequest.context ?? {};
      const session = context.session?.();
      const identity = session ? await session.identity() : context.request?.headers.get('x-linkflow-identity');
      const headers = {};
      if (identity) headers['x-linkflow-identity'] = identity;
      for (const name of FORWARDED) {
        const value = context.forwarded?.[name] ?? context.request?.headers.get(name);
        if (value) headers[name] = value;
      }
      executionRequest.extensions = { ...executionRequest.extensions, headers };
    },
  };
}
