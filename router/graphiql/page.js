// GraphiQL over this origin's /graphql: queries by POST, subscriptions over graphql-transport-ws. The access token stays
// in this tab (sessionStorage) and goes along as Authorization header, or in `connection_init` for subscriptions.
(() => {
  const KEY = 'linkflow.token';
  const field = document.getElementById('token');
  const who = document.getElementById('who');
  const show = document.getElementById('show');
  let socket = null;

  const token = () => field.value.trim().replace(/^Bearer\s+/i, '');
  const authorization = () => (token() ? { authorization: `Bearer ${token()}` } : {});

  function claims() {
    try {
      return JSON.parse(atob(token().split('.')[1].replace(/-/g, '+').replace(/_/g, '/')));
    } catch {
      return null;
    }
  }

  function tell() {
    const said = claims();
    const left = said ? Math.round((said.exp * 1000 - Date.now()) / 60000) : 0;
    who.className = said ? (left > 0 ? 'known' : 'ended') : '';
    who.textContent = said ? (left > 0 ? `valid for ${left} min` : 'this token has ended') : 'not logged in';
    if (token() && !said) who.textContent = 'not an access token';
  }

  function use() {
    sessionStorage.setItem(KEY, field.value);
    // A new token goes to the open socket in a ping: running subscriptions live on under it.
    if (socket?.readyState === WebSocket.OPEN && token()) {
      socket.send(JSON.stringify({ type: 'ping', payload: authorization() }));
    }
    tell();
  }

  /** The session that signUp, logIn or refreshSession answered with, under whatever alias, is the one to go on with. */
  function take(answer) {
    const made = Object.values(answer?.data ?? {}).find((value) => typeof value?.accessToken === 'string');
    if (!made || made.accessToken === field.value) return;
    field.value = made.accessToken;
    use();
  }

  field.value = sessionStorage.getItem(KEY) ?? '';
  field.addEventListener('input', use);
  show.addEventListener('click', () => {
    const open = field.type === 'password';
    field.type = open ? 'text' : 'password';
    show.textContent = open ? 'Hide' : 'Show';
    show.setAttribute('aria-pressed', String(open));
  });
  document.getElementById('token-form').addEventListener('submit', (event) => event.preventDefault());
  setInterval(tell, 20000);
  tell();

  const wsClient = graphqlWs.createClient({
    url: `${location.origin.replace(/^http/, 'ws')}/graphql`,
    connectionParams: authorization,
    lazyCloseTimeout: 1000,
    retryAttempts: 0, // a retry would begin at the old afterSeq; start the subscription again after the last seq
    on: { opened: (opened) => { socket = opened; }, closed: () => { socket = null; } },
  });

  const send = GraphiQL.createFetcher({ url: '/graphql', wsClient, enableIncrementalDelivery: false });
  const fetcher = (params, options = {}) => {
    const answer = send(params, { ...options, headers: { ...authorization(), ...options.headers } });
    Promise.resolve(answer).then(take, () => {}); // a failure is the editor's to show
    return answer;
  };

  const FIRST = `# Log in; the accessToken of the answer goes into the field above by itself.
# (make dev has signed up a demo tenant: .linkflow/demo.txt holds its email and password.)
#
# mutation {
#   logIn(input: {email: "...", password: "..."}) {
#     ... on Session { accessToken }
#     ... on Problem { message nextStep }
#   }
# }
#
# Watch a run, from its first event on:
#
# subscription {
#   executionEvents(executionId: "...", afterSeq: 0) {
#     seq type node status last
#   }
# }

query Me {
  me {
    id
    name
    email
  }
}
`;
  ReactDOM.createRoot(document.getElementById('graphiql')).render(
    React.createElement(GraphiQL, { fetcher, defaultQuery: FIRST, defaultEditorToolsVisibility: true, shouldPersistHeaders: false }),
  );
})();
