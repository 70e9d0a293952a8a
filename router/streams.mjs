// A subscription over SSE or multipart lives under the access token its request came with, and ends with it: a last
// result says so, the client refreshes its token and subscribes again after the last seq it saw. (A websocket can bring
// the new token itself, see sockets.mjs.)
import { named } from './errors.mjs';

const ENDED = Symbol('ended');

function guarded(result, session) {
  const source = result[Symbol.asyncIterator]();
  let over = false;
  let wake = () => {};
  const stopListening = session.onEnd(() => wake());
  const close = async () => {
    if (over) return;
    over = true;
    stopListening();
    session.release();
    await source.return?.();
  };
  return {
    [Symbol.asyncIterator]() { return this; },
    async next() {
      if (over) return { done: true, value: undefined };
      const step = session.ended ? ENDED : await new Promise((resolve, reject) => {
        wake = () => resolve(ENDED);
        source.next().then(resolve, reject);
      });
      if (step !== ENDED && !step.done) return step;
      await close();
      return step === ENDED ? { done: false, value: { errors: [named('TOKEN_ENDED')] } } : step;
    },
    async return() {
      await close();
      return { done: true, value: undefined };
    },
  };
}

const HOW = 'Ask for a stream: Accept text/event-stream or multipart/mixed;subscriptionSpec="1.0", or use a websocket.';

function takesStream(accept) {
  return !accept || /text\/event-stream|subscriptionspec|\*\/\*|text\/\*/i.test(accept);
}

export function streamsPlugin({ sessions, metrics }) {
  return {
    async onSubscribe({ args }) {
      const context = args.contextValue;
      metrics.count('linkflow_gateway_streams_total', { protocol: context.session ? 'websocket' : 'http' });
      if (context.session) return undefined;
      if (!takesStream(context.request.headers.get('accept'))) throw named('SUBSCRIPTION_NEEDS_STREAM', HOW, 406);
      const { headers } = context.request;
      const session = await sessions.open(headers.get('authorization'), headers.get('x-linkflow-identity'));
      context.session = () => session;
      return {
        onSubscribeResult({ result, setResult }) {
          if (result?.[Symbol.asyncIterator]) setResult(guarded(result, session));
          else session.release();
        },
      };
    },
  };
}
