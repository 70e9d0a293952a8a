"""A user of LinkFlow with nothing but its public address: a GraphQL client, three kinds of stream, a webhook caller."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import httpx

from tests.router.clients import HEARTBEAT, PROTOCOLS

PATIENCE = 30.0
PROBLEM = "... on Problem { code message field nextStep }"
SESSION = f"""__typename ... on SignUpPending {{ id }} {PROBLEM}
  ... on Session {{ accessToken refreshToken expiresAt user {{ id }} tenant {{ id }} }}"""
OTHERS = SESSION.replace("... on SignUpPending { id }", "")
EVENT = """seq type node nodeName nodes attempt status last at workflowName error { code message } reply { status body }
  lines { level text } items { port count items }"""
WATCH = f"subscription ($id: ID!, $after: Int!) {{ executionEvents(executionId: $id, afterSeq: $after) {{ {EVENT} }} }}"
OPEN = """query ($id: ID!) { execution(id: $id) {
  id status mode release revision workflowName startedAt finishedAt durationMs error { code message kind }
  workflow { id name } startedBy { id name } rerunOf { id status } trigger { node items } reply { status body }
  steps { node name type status trigger input output error { code message } startedAt durationMs
    lines { level text } attempts { number startedAt finishedAt error { code } lines { text } } } } }"""


class Person:
    """One person, logged in after `sign_up` or `log_in`."""

    def __init__(self, origin: str, http: httpx.AsyncClient) -> None:
        self.origin = origin
        self.http = http
        self.email = f"ada-{secrets.token_hex(6)}@example.com"
        self.password = secrets.token_urlsafe(18)
        self.token: str | None = None
        self.refresh_token = ""
        self.user: Mapping[str, Any] = {}
        self.tenant: Mapping[str, Any] = {}

    @classmethod
    @asynccontextmanager
    async def at(cls, origin: str) -> AsyncIterator[Self]:
        async with httpx.AsyncClient(base_url=origin, timeout=PATIENCE, trust_env=False) as http:
            yield cls(origin, http)

    # -- asking

    async def post(self, query: str, /, **variables: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        return await self.http.post("/graphql", json={"query": query, "variables": variables}, headers=headers)

    async def ask(self, query: str, /, **variables: Any) -> Any:
        """The `data` of an answer without errors."""
        answer = (await self.post(query, **variables)).json()
        assert "errors" not in answer, answer
        return answer["data"]

    async def change(self, name: str, selection: str, /, **input: Any) -> Any:
        """What the mutation `name` answers, problems included."""
        type = name[0].upper() + name[1:] + "Input"
        query = f"mutation ($input: {type}!) {{ {name}(input: $input) {{ __typename {PROBLEM} {selection} }} }}"
        return (await self.ask(query, input=input))[name]

    # -- sessions

    def _enter(self, session: Mapping[str, Any]) -> Mapping[str, Any]:
        assert session["__typename"] == "Session", session
        self.token, self.refresh_token = session["accessToken"], session["refreshToken"]
        self.user, self.tenant = session["user"], session["tenant"]
        return session

    async def sign_up(self, organisation: str = "Analytical Engines") -> Mapping[str, Any]:
        words = {"email": self.email, "password": self.password, "name": "Ada", "organisation": organisation}
        query = f"mutation ($input: SignUpInput!) {{ signUp(input: $input) {{ {SESSION} }} }}"
        found = (await self.ask(query, input=words))["signUp"]
        async with asyncio.timeout(PATIENCE):
            while found["__typename"] == "SignUpPending":  # it may take longer on a machine under load
                await asyncio.sleep(0.1)
                state = (await self.ask("query ($id: ID!) { signUp(id: $id) { state } }", id=found["id"]))["signUp"]
                if state["state"] == "COMPLETED":
                    return await self.log_in()
        return self._enter(found)

    async def log_in(self) -> Mapping[str, Any]:
        self.token = None
        query = f"mutation ($input: LogInInput!) {{ logIn(input: $input) {{ {OTHERS} }} }}"
        return self._enter((await self.ask(query, input={"email": self.email, "password": self.password}))["logIn"])

    async def refresh(self) -> Mapping[str, Any]:
        query = f"mutation ($input: RefreshSessionInput!) {{ refreshSession(input: $input) {{ {OTHERS} }} }}"
        found = await self.ask(query, input={"refreshToken": self.refresh_token})
        return self._enter(found["refreshSession"])

    # -- workflows and runs

    async def workflow(self, definition: Mapping[str, Any], name: str = "A workflow") -> str:
        """The id of a new workflow whose first release is published and active."""
        made = await self.change("createWorkflow", "... on Workflow { id }", name=name, definition=definition)
        assert made["__typename"] == "Workflow", made
        await self.publish(made["id"])
        return str(made["id"])

    async def publish(self, workflow: str, **more: Any) -> Any:
        selection = (
            "... on Release { number activation { state } } ... on InvalidDefinition { faults { code pointer } }"
        )
        found = await self.change("publishRelease", selection, workflowId=workflow, **more)
        assert found["__typename"] == "Release", found
        return found

    async def start(self, workflow: str, **more: Any) -> str:
        found = await self.change("startExecution", "... on Execution { id }", workflowId=workflow, **more)
        assert found["__typename"] == "Execution", found
        return str(found["id"])

    async def open(self, execution: str) -> Any:
        return (await self.ask(OPEN, id=execution))["execution"]

    async def events(self, execution: str, after: int = 0, protocol: str = "websocket") -> AsyncIterator[Any]:
        """The run's events after `after`; each stream ends by itself after the last."""
        assert self.token
        url = f"{self.origin}/graphql"
        async for result in PROTOCOLS[protocol](self.http, url, WATCH, self.token, id=execution, after=after):
            if result is not HEARTBEAT:
                assert "errors" not in result, result
                yield result["data"]["executionEvents"]

    async def watched(self, execution: str, after: int = 0, protocol: str = "websocket") -> list[Any]:
        return [event async for event in self.events(execution, after, protocol)]

    async def endpoint(self, workflow: str) -> Any:
        """The webhook endpoint of the workflow's release."""
        query = "query ($id: ID!) { endpoints(workflowId: $id) { id url node state secretSet } }"
        async with asyncio.timeout(PATIENCE):
            while not (found := (await self.ask(query, id=workflow))["endpoints"]):
                await asyncio.sleep(0.05)
        return found[0]


def example(name: str) -> Any:
    """A definition of the folder examples/."""
    return json.loads((Path(__file__).resolve().parents[2] / "examples" / f"{name}.json").read_text())


def node(id: str, type: str, parameters: Any = None, **settings: Any) -> dict[str, Any]:
    found = {"id": id, "type": f"core.{type}", "version": "1.0.0", "name": id.title(), "parameters": parameters or {}}
    return {**found, "position": {"x": 0, "y": 0}, **({"settings": settings} if settings else {})}


def chain(*nodes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A definition whose nodes follow one another."""
    pairs = pairwise(nodes)
    connections = [{"from": a["id"], "output": "main", "to": b["id"], "input": "main"} for a, b in pairs]
    return {"format": "linkflow/1", "nodes": list(nodes), "connections": connections, **more}


def greeting(waits: str = "PT0S") -> dict[str, Any]:
    """Manual trigger, a wait, a greeting made by an expression, a line on the console."""
    code = "console.log('hello ' + item.greeting); return item;"
    return chain(
        node("begin", "manual"),
        node("pause", "wait", {"for": "duration", "duration": waits}),
        node("greet", "set", {"fields": [{"name": "greeting", "value": "Hello {{ item.who }}"}]}),
        node("say", "code", {"mode": "each", "code": code}),
    )
