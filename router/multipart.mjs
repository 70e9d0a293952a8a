// Apollo's multipart protocol for subscriptions over HTTP: what Apollo's clients speak, and the only one of Apollo
// Router. https://www.apollographql.com/docs/graphos/routing/operations/subscriptions/multipart-protocol
const TYPE = 'multipart/mixed';
const ANSWER = `${TYPE};boundary="graphql";subscriptionSpec="1.0"`;
const START = '--graphql';
const encoder = new TextEncoder();

const HEAD = '\r\nContent-Type: application/json\r\n\r\n';
const part = (payload) => encoder.encode(`${HEAD}${JSON.stringify(payload)}\r\n${START}`);

function asked(request) {
  const accept = request.headers.get('accept')?.toLowerCase() ?? '';
  return accept.split(',').some((one) => one.trim().startsWith(TYPE) && /subscriptionspec="?1\.0"?/.test(one));
}

function once(result) {
  return (async function* single() { yield result; })();
}

/** A stream of parts: one per result, an empty object as heartbeat, and the closing boundary. */
function body(result, heartbeat) {
  const source = (result[Symbol.asyncIterator] ? result : once(result))[Symbol.asyncIterator]();
  let timer;
  const finish = (controller) => {
    clearInterval(timer);
    controller.enqueue(encoder.encode('--\r\n'));
    controller.close();
  };
  return new ReadableStream({
    start(controller) {
      controller.enqueue(encoder.encode(START));
      timer = setInterval(() => controller.enqueue(part({})), heartbeat);
    },
    async pull(controller) {
      try {
        const { done, value } = await source.next();
        if (done) finish(controller);
        else controller.enqueue(part({ payload: value }));
      } catch {
        controller.enqueue(part({ payload: null, errors: [{ message: 'The stream broke.' }] }));
        finish(controller);
      }
    },
    async cancel() {
      clearInterval(timer);
      await source.return?.();
    },
  });
}

export function multipartPlugin({ heartbeat, fetchAPI }) {
  return {
    onResultProcess({ request, result, setResultProcessor, acceptableMediaTypes }) {
      if (!asked(request) || Array.isArray(result)) return;
      acceptableMediaTypes.push(TYPE);
      setResultProcessor((final) => new fetchAPI.Response(body(final, heartbeat), {
        status: 200,
        headers: { 'content-type': ANSWER, 'cache-control': 'no-cache', 'x-accel-buffering': 'no' },
      }), TYPE);
    },
  };
}
