"""`linkflow seed`: the example, through nothing but the public origin, as any client would.

Signs a demo tenant up (or in), makes and publishes the workflow of examples/github-push.json, sends its webhook a
real GitHub `push` payload, and prints the run's events as the subscription brings them.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from websockets.asyncio.client import connect

from subgraphs.platform.domain import Invalid
from subgraphs.platform.launcher import Say
from subgraphs.platform.programs import ROUTER
from subgraphs.platform.settings import CHECKOUT, Settings

EXAMPLE = CHECKOUT / "examples" / "github-push.json"
PAYLOADS = ROUTER / "node_modules" / "@octokit" / "webhooks-examples" / "api.github.com" / "index.json"
NAME = "GitHub push"
EMAIL = "demo@linkflow.example"
PATIENCE = 30.0
PREVIEW = 110
PROBLEM = "... on Problem { code message field nextStep }"

SIGN_UP = f"""mutation SignUp($input: SignUpInput!) {{ signUp(input: $input) {{ __typename
  ... on Session {{ accessToken }} ... on SignUpPending {{ id }} {PROBLEM} }} }}"""
LOG_IN = f"""mutation LogIn($input: LogInInput!) {{ logIn(input: $input) {{ __typename
  ... on Session {{ accessToken }} {PROBLEM} }} }}"""
FIND = """query Find($search: String!) { workflows(first: 20, search: $search) { edges { node {
  id name draft { number } currentRelease { number } } } } }"""
CREATE = f"""mutation Create($input: CreateWorkflowInput!) {{ createWorkflow(input: $input) {{ __typename
  ... on Workflow {{ id name draft {{ number }} }} {PROBLEM} }} }}"""
PUBLISH = f"""mutation Publish($input: PublishReleaseInput!) {{ publishRelease(input: $input) {{ __typename
  ... on Release {{ number activation {{ state }} }} {PROBLEM} }} }}"""
ENDPOINTS = """query Endpoints($workflow: ID!) { endpoints(workflowId: $workflow) { id url node } }"""
CONFIGURE = f"""mutation Configure($input: ConfigureEndpointInput!) {{ configureEndpoint(input: $input) {{ __typename
  ... on Endpoint {{ id url auth }} {PROBLEM} }} }}"""
WATCH = """subscription Watch($id: ID!) { executionEvents(executionId: $id, afterSeq: 0) {
  seq type node nodeName nodes status last until error { code message } reply { status } lines { level text }
  items { port count items } } }"""


class DemoFailed(Invalid):
    """The example could not be run to its end."""


class Demo:
    """One run of the example. `say(kind, facts)` hears every step."""

    def __init__(self, settings: Settings, say: Say) -> None:
        self.settings = settings
        self.say = say
        self.token: str | None = None
        self.http = httpx.AsyncClient(base_url=settings.public_url, timeout=PATIENCE, trust_env=False)

    async def run(self) -> None:
        """Raises DemoFailed, naming what was refused."""
        async with self.http:
            try:
                await self._run()
            except httpx.TransportError as error:
                raise DemoFailed(
                    f"Nothing answers at {self.settings.public_url}: {error or type(error).__name__}.",
                    next_step="Start LinkFlow first: make dev",
                ) from error
        self.say(
            "tried", {"page": f"{self.settings.public_url}/graphiql", "login": _near(self.settings.home / "demo.txt")}
        )
        self.say("staying", {})

    async def _run(self) -> None:
        kept = Kept(self.settings.home / "demo.txt")
        await self._enter(kept)
        workflow = await self._workflow()
        endpoint = await self._endpoint(workflow, kept)
        execution = await self._push(endpoint, kept)
        await self._watch(execution)

    # -- steps

    async def _enter(self, kept: Kept) -> None:
        what = "logged in the demo tenant"
        try:
            found = await self._log_in(kept, until=0.0) if kept.email else None
        except DemoFailed:
            found = None  # of another database: a new tenant then
        if found is None:
            found, what = await self._sign_up(kept), "signed up a demo tenant"
        self.token = found["accessToken"]
        self.say("step", {"what": what, "detail": f"{kept.email}, password in {_near(kept.path)}"})

    async def _sign_up(self, kept: Kept) -> Mapping[str, Any]:
        kept.make()
        words = {"email": kept.email, "password": kept.password, "name": "Demo", "organisation": "Demo"}
        found = await self._ask(SIGN_UP, words)
        kept.save()
        if found["__typename"] == "SignUpPending":
            return await self._log_in(kept, until=time.monotonic() + PATIENCE)
        return found

    async def _log_in(self, kept: Kept, until: float) -> Mapping[str, Any]:
        while True:
            try:
                return await self._ask(LOG_IN, {"email": kept.email, "password": kept.password})
            except DemoFailed:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.3)

    async def _workflow(self) -> Mapping[str, Any]:
        edges = (await self._data(FIND, {"search": NAME}))["workflows"]["edges"]
        nodes = (edge["node"] for edge in edges)
        found: Mapping[str, Any] | None = next((node for node in nodes if node["name"] == NAME), None)
        if found is None:
            definition = json.loads(EXAMPLE.read_text())
            found = await self._ask(CREATE, {"name": NAME, "definition": definition, "message": "From examples/"})
            self.say(
                "step", {"what": "created the workflow", "detail": f"{NAME}, from {EXAMPLE.relative_to(CHECKOUT)}"}
            )
        if not found.get("currentRelease"):
            words = {"workflowId": found["id"], "revision": found["draft"]["number"], "message": "First release"}
            release = await self._ask(PUBLISH, words)
            state = release["activation"]["state"]
            self.say("step", {"what": f"published release {release['number']}", "detail": f"activation {state}"})
        return found

    async def _endpoint(self, workflow: Mapping[str, Any], kept: Kept) -> Mapping[str, Any]:
        until = time.monotonic() + PATIENCE
        while not (found := (await self._data(ENDPOINTS, {"workflow": workflow["id"]}))["endpoints"]):
            if time.monotonic() > until:
                raise DemoFailed("The release has no webhook endpoint yet.", next_step="Try `linkflow seed` again.")
            await asyncio.sleep(0.1)
        endpoint: Mapping[str, Any] = found[0]
        words = {"endpointId": endpoint["id"], "auth": "HMAC", "preset": "GITHUB", "secret": kept.secret}
        await self._ask(CONFIGURE, words)
        self.say("step", {"what": "webhook", "detail": f"{endpoint['url']} (signed as GitHub does)"})
        return endpoint

    async def _push(self, endpoint: Mapping[str, Any], kept: Kept) -> str:
        body = json.dumps(github_push(), separators=(",", ":")).encode()
        signature = hmac.new(kept.secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/linkflow-example",
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": str(uuid4()),
            "X-Hub-Signature-256": f"sha256={signature}",
        }
        answer = await self.http.post(endpoint["url"], content=body, headers=headers)
        if answer.status_code >= 300:
            raise DemoFailed(f"The webhook answered {answer.status_code}: {answer.text[:300]}")
        execution = answer.headers.get("X-Linkflow-Execution")
        if execution is None:
            raise DemoFailed("The webhook's answer names no execution.")
        size = f"{len(body):,} bytes, answered {answer.status_code}: {answer.text[:PREVIEW]}"
        self.say("step", {"what": "sent GitHub's push payload", "detail": size})
        return str(execution)

    async def _watch(self, execution: str) -> None:
        self.say("step", {"what": f"run {execution}, live:"})
        try:
            async with asyncio.timeout(PATIENCE):
                async for event in self._events(execution):
                    self.say("live", _live(event))
        except TimeoutError:
            raise DemoFailed(f"The run {execution} did not end within {PATIENCE:.0f} s.") from None

    # -- the API

    async def _events(self, execution: str) -> AsyncIterator[Mapping[str, Any]]:
        """The run's events over graphql-transport-ws, to the one that says it is the last."""
        address = self.settings.public_url.replace("http", "ws", 1) + "/graphql"
        socket = connect(address, subprotocols=["graphql-transport-ws"], proxy=None)  # type: ignore[list-item]
        async with socket as stream:
            login = {"authorization": f"Bearer {self.token}"}
            await stream.send(json.dumps({"type": "connection_init", "payload": login}))
            await self._expect(await stream.recv(), "connection_ack")
            query = {"query": WATCH, "variables": {"id": execution}}
            await stream.send(json.dumps({"id": "1", "type": "subscribe", "payload": query}))
            async for text in stream:
                message = json.loads(text)
                if message["type"] == "ping":
                    await stream.send('{"type":"pong"}')
                elif message["type"] == "next":
                    event = message["payload"]["data"]["executionEvents"]
                    yield event
                    if event["last"]:
                        return
                elif message["type"] in {"error", "complete"}:
                    raise DemoFailed(f"The stream ended: {json.dumps(message.get('payload'))[:300]}")

    async def _expect(self, text: str | bytes, kind: str) -> None:
        if json.loads(text)["type"] != kind:
            raise DemoFailed(f"The stream answered {text!r} instead of {kind}.")

    async def _ask(self, document: str, words: Mapping[str, Any]) -> Mapping[str, Any]:
        """A mutation with one input and one field; a Problem it answers with is raised."""
        (answer,) = (await self._data(document, {"input": words})).values()
        if answer is None:
            raise DemoFailed("The API answered with nothing.")
        if "code" in answer:
            where = f" (field {answer['field']})" if answer.get("field") else ""
            raise DemoFailed(f"{answer['message']}{where}", code=answer["code"], next_step=answer.get("nextStep"))
        found: Mapping[str, Any] = answer
        return found

    async def _data(self, document: str, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        question = {"query": document, "variables": variables}
        answer = await self.http.post("/graphql", json=question, headers=headers)
        try:
            told = answer.json()
        except json.JSONDecodeError:
            raise DemoFailed(f"The API answered {answer.status_code}: {answer.text[:300]}") from None
        if told.get("errors") or not told.get("data"):
            raise DemoFailed(f"The API answered {answer.status_code}: {json.dumps(told)[:600]}")
        found: Mapping[str, Any] = told["data"]
        return found


class Kept:
    """demo.txt: how to log in as the demo tenant, readable by its owner alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.email: str | None = None
        self.password = self.secret = ""
        if path.exists():
            lines = (line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
            words = {name.strip(): value.strip() for name, value in lines}
            self.email, self.password = words.get("email"), words.get("password", "")
            self.secret = words.get("webhook secret", "")

    def make(self) -> None:
        self.email = EMAIL.replace("@", f"-{secrets.token_hex(3)}@")
        self.password = secrets.token_urlsafe(18)
        self.secret = secrets.token_urlsafe(24)

    def save(self) -> None:
        fresh = self.path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"email: {self.email}\npassword: {self.password}\nwebhook secret: {self.secret}\n")
        fresh.replace(self.path)


def github_push() -> Mapping[str, Any]:
    """A `push` payload as GitHub sends it, of the npm package @octokit/webhooks-examples: one with commits."""
    try:
        examples = json.loads(PAYLOADS.read_text())
    except FileNotFoundError:
        raise DemoFailed("GitHub's example payloads are missing.", next_step="linkflow doctor --repair") from None
    pushes = next(entry["examples"] for entry in examples if entry["name"] == "push")
    with_commits = [push for push in pushes if push.get("commits")]
    chosen: dict[str, Any] = (with_commits or pushes)[0]
    return {
        **chosen,
        "after": secrets.token_hex(20),
    }  # every push ends at a commit of its own; the same twice is a replay


def _near(path: Path) -> str:
    """`path` as it is shortest to type from where the command was given."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _live(event: Mapping[str, Any]) -> Mapping[str, object]:
    """One event in short: what happened, where, and the most telling of what it carries."""
    names = event.get("nodeName") or event.get("node") or ", ".join(event.get("nodes") or [])
    detail = ""
    if event.get("error"):
        detail = f"{event['error']['code']}: {event['error']['message']}"
    elif event.get("reply"):
        detail = f"status {event['reply']['status']}"
    elif event["last"]:
        detail = str(event["status"]).lower()
    elif event.get("until"):
        detail = f"until {event['until']}"
    else:
        detail = "  ".join(f"{out['port']}: {_short(out)}" for out in event.get("items") or [] if out["count"])
    return {
        "seq": event["seq"],
        "type": str(event["type"]).lower().replace("_", " "),
        "node": names,
        "detail": detail if len(detail) <= PREVIEW else f"{detail[:PREVIEW]}…",
        "lines": [line["text"] for line in event.get("lines") or []],
        "failed": bool(event.get("error")),
    }


def _short(out: Mapping[str, Any]) -> str:
    """What left by one port: the items, or how many when they are too large to be shown."""
    if not out["items"]:
        return f"{out['count']} large item{'s' if out['count'] > 1 else ''}"
    return json.dumps(out["items"], separators=(",", ":"), ensure_ascii=False)
