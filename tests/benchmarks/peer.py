"""LinkFlow as a peer of a comparison harness: the product as shipped, behind its public door.

The harness loads the class `Peer`. It starts `linkflow dev` (database, subgraphs, sandbox, gateway, edge), signs up
through GraphQL, publishes the cases as workflows and calls their real webhook URLs. Executions are stored, fsync is on.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PORT = int(os.environ.get("LINKFLOW_BENCH_PORT", "23500"))
BASE = f"http://127.0.0.1:{PORT}"
STUB = int(os.environ.get("BENCH_STUB_PORT", "23900"))
PYTHON = str(ROOT / ".venv/bin/python")
HOME = Path(os.environ.get("BENCH_HOME", ROOT / ".peers")).resolve()

Json = dict[str, Any]


def node(id: str, type: str, parameters: Json | None = None, **settings: Any) -> Json:
    found: Json = {"id": id, "type": f"core.{type}", "version": "1.0.0", "parameters": parameters or {}}
    return {**found, "settings": settings} if settings else found


def line(*nodes: Json) -> Json:
    """A definition whose nodes follow one another."""
    pairs = itertools.pairwise(nodes)
    return {
        "format": "linkflow/1",
        "nodes": list(nodes),
        "connections": [{"from": a["id"], "to": b["id"]} for a, b in pairs],
    }


def hook(respond: str = "node") -> Json:
    return node("hook", "webhook", {"methods": ["POST"], "respond": respond, "auth": "none", "dedupe": "none"})


def put(id: str, keep: bool = False, **fields: str) -> Json:
    pairs = [{"name": name, "value": value} for name, value in fields.items()]
    return node(id, "set", {"fields": pairs, "others": "keep" if keep else "drop"})


def answer(body: str | None = None) -> Json:
    """Answers the call: with its item, or with the JSON an expression makes."""
    return node("answer", "respond", {"body": "item"} if body is None else {"body": "json", "json": body})


def ten() -> list[Json]:
    first = put("n1", value="{{ item.body.value + 1 }}")
    return [first, *(put(f"n{i}", value="{{ item.value + 1 }}") for i in range(2, 11))]


def sleep(id: str, ms: int) -> Json:
    return node(id, "http", {"url": f"http://127.0.0.1:{STUB}/sleep/{ms}"})


def fan_out(count: int = 20, ms: int = 50) -> Json:
    calls = [sleep(f"call{i}", ms) for i in range(count)]
    nodes = [hook(), *calls, node("join", "merge"), answer("{{ {'n': size(items)} }}")]
    connections = [{"from": "hook", "to": c["id"]} for c in calls] + [{"from": c["id"], "to": "join"} for c in calls]
    connections.append({"from": "join", "to": "answer"})
    return {"format": "linkflow/1", "nodes": nodes, "connections": connections}


def split() -> Json:
    return node("split", "split", {"list": "{{ item.body.items }}"})


CASES: dict[str, Json] = {
    "a": line(hook(), put("greet", out="Hello {{ item.body.name }}"), answer()),
    "b": line(hook(), *ten(), answer()),
    "c-js": line(
        hook(),
        split(),
        node("code", "code", {"mode": "all", "code": "return items.map(i => ({v: i.v * 3 + 1}));"}),
        answer("{{ items }}"),
    ),
    "c-set": line(hook(), split(), put("map", v="{{ item.v * 3 + 1 }}"), answer("{{ items }}")),
    "c-none": line(hook(), split(), answer("{{ items }}")),
    "d": fan_out(),
    "d-items": line(hook(), split(), sleep("call", 50), answer("{{ {'n': size(items)} }}")),
    "e": line(
        hook(), *(put(f"s{i}", keep=True, **{f"f{i}": f"step {i}"}) for i in range(1, 6)), answer("{{ {'ok': true} }}")
    ),
    "f": line(hook("now"), *ten()),
    "fslow": line(hook("now"), ten()[0], sleep("slow", 3000), node("end", "noop")),
}


def call(method: str, url: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"content-type": "application/json", **(headers or {})}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answered:
            return answered.status, answered.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()


SIGN_UP = """mutation($input: SignUpInput!) { signUp(input: $input) {
  __typename ... on Session { accessToken refreshToken } ... on Problem { code message } } }"""
LOG_IN = SIGN_UP.replace("SignUpInput", "LogInInput").replace("signUp(", "logIn(")
CREATE = """mutation($input: CreateWorkflowInput!) { createWorkflow(input: $input) {
  __typename ... on Workflow { id draft { number } } ... on Problem { code message field } } }"""
PUBLISH = """mutation($input: PublishReleaseInput!) { publishRelease(input: $input) {
  __typename ... on Release { number activation { state } } ... on InvalidDefinition {
  faults { code message pointer } } ... on Problem { code message field } } }"""
ENDPOINTS = "query($id: ID!) { endpoints(workflowId: $id) { id url state } }"
LIST = """query($first: Int!) { executions(first: $first) { edges { node {
  id status mode workflowName release startedAt finishedAt durationMs } } pageInfo { hasNextPage endCursor } } }"""
ONE = """query($id: ID!) { execution(id: $id) {
  id status startedAt finishedAt steps { node status durationMs } } }"""


class Peer:
    """The interface of the harness's peers; `procs` lists the launcher, whose children are every part of LinkFlow."""

    name = "linkflow"
    mem_counts, f_count, h_count, recover_wait = False, 2000, 10000, 15

    def __init__(self) -> None:
        self.dir = HOME / "data/linkflow"
        self.headers: dict[str, str] = {}
        self.auth: dict[str, str] = {}
        self.paths = list(CASES)
        self.procs: list[subprocess.Popen[bytes]] = []
        self.urls: dict[str, str] = {}
        self.ids: dict[str, str] = {}

    def fresh(self) -> None:
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir(parents=True)

    def start(self) -> float:
        began = time.time()
        (HOME / "logs").mkdir(parents=True, exist_ok=True)
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("LINKFLOW_")},
            "LINKFLOW_HOME": str(self.dir / "home"),
            "LINKFLOW_PORT": str(PORT),
            "LINKFLOW_GATEWAY_PORT": str(PORT + 1),
            "LINKFLOW_SERVE_PORT": str(PORT + 2),
            "LINKFLOW_EGRESS_ALLOW": f"127.0.0.1:{STUB}",
        }
        with (HOME / "logs/linkflow.log").open("ab") as log:
            self.procs = [
                subprocess.Popen(
                    [PYTHON, "-m",
                     "subgraphs.platform.cli", "dev", "--no-demo"],
                    cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            ]  # fmt: skip
        self._ready()
        return time.time() - began

    def _ready(self, limit: float = 180) -> None:
        end = time.time() + limit
        while time.time() < end:
            try:
                if call("POST", f"{BASE}/graphql", {"query": "{ __typename }"})[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise TimeoutError("LinkFlow did not become ready; see logs/linkflow.log")

    def graphql(self, query: str, variables: Json | None = None) -> Json:
        status, body = call("POST", f"{BASE}/graphql", {"query": query, "variables": variables or {}}, self.auth)
        answered: Json = json.loads(body)
        if status != 200 or answered.get("errors"):
            raise RuntimeError(f"{status} {body[:500]!r}")
        data: Json = answered["data"]
        return data

    def _session(self) -> None:
        who = {"email": "bench@example.test", "password": "correct horse battery"}
        found = self.graphql(LOG_IN, {"input": who})["logIn"]
        if found["__typename"] != "Session":
            extra = {**who, "name": "Bench", "organisation": "Bench"}
            found = self.graphql(SIGN_UP, {"input": extra})["signUp"]
        if found["__typename"] != "Session":
            raise RuntimeError(f"no session: {found}")
        self.auth = {"authorization": f"Bearer {found['accessToken']}"}

    def install(self) -> None:
        self._session()
        for name, definition in CASES.items():
            made = self.graphql(CREATE, {"input": {"name": name, "definition": definition}})["createWorkflow"]
            if made["__typename"] != "Workflow":
                raise RuntimeError(f"{name}: {made}")
            ask = {"workflowId": made["id"], "revision": made["draft"]["number"]}
            released = self.graphql(PUBLISH, {"input": ask})["publishRelease"]
            if released["__typename"] != "Release":
                raise RuntimeError(f"{name}: {released}")
            self.ids[name] = made["id"]
            self.urls[name] = self.graphql(ENDPOINTS, {"id": made["id"]})["endpoints"][0]["url"]
        (self.dir / "cases.json").write_text(json.dumps({"ids": self.ids, "urls": self.urls}))

    def _load(self) -> None:
        kept = json.loads((self.dir / "cases.json").read_text())
        self.ids, self.urls = kept["ids"], kept["urls"]

    def after_restart(self) -> None:
        self._load()
        self._session()
        self.wait_served()

    def wait_served(self) -> None:
        if not self.urls:
            self._load()
        end = time.time() + 60
        while time.time() < end:
            try:
                status, body = call("POST", self.url("a"), {"name": "Ada", "value": 41})
                if status == 200 and b"Hello" in body:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise TimeoutError("the first webhook was not served")

    def url(self, path: str) -> str:
        return self.urls[path]

    def stop(self) -> None:
        for process in self.procs:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        self.procs = []

    def settle(self) -> None:
        end = time.time() + 60
        while time.time() < end:
            if not self.sql("select count(*) from execution.run where status < 2")[0][0]:
                return
            time.sleep(0.1)

    def statuses(self, path: str) -> dict[str, int]:
        rows = self.sql(
            "select status, count(*) from execution.run where workflow = $1::uuid group by 1", self.ids[path]
        )
        return {"success" if status == 4 else f"status-{status}": count for status, count in rows}

    def statuses_offline(self, path: str) -> dict[str, int]:
        """The database dies with the rest, so what was stored at the kill is counted after the restart."""
        return {}

    def stored(self) -> int:
        return int(self.sql("select count(*) from execution.run")[0][0])

    def reads(self) -> dict[str, tuple[str, str, Any, dict[str, str]]]:
        self._session()
        headers = {"content-type": "application/json", **self.auth}
        one = self.sql("select id::text from execution.run where workflow = $1::uuid limit 1", self.ids["b"])[0][0]
        url = f"{BASE}/graphql"
        return {
            "list-50": ("POST", url, {"query": LIST, "variables": {"first": 50}}, headers),
            "get-steps": ("POST", url, {"query": ONE, "variables": {"id": one}}, headers),
        }

    def sql(self, statement: str, *arguments: str) -> list[list[Any]]:
        """Rows counted in LinkFlow's own database, as its operator would; by LinkFlow's Python, whoever runs us."""
        words = [PYTHON, str(Path(__file__)), str(self.dir / "home"), statement, *arguments]
        answered = subprocess.run(words, cwd=ROOT, capture_output=True, check=True)
        rows: list[list[Any]] = json.loads(answered.stdout)
        return rows


async def rows(home: str, statement: str, *arguments: str) -> list[list[Any]]:
    import asyncpg

    from subgraphs.platform.settings import Settings

    connection = await asyncpg.connect(Settings.load({"LINKFLOW_HOME": home}).dsn("lf_admin"))
    try:
        return [list(row) for row in await connection.fetch(statement, *arguments)]
    finally:
        await connection.close()


if __name__ == "__main__":
    import asyncio

    sys.path.insert(0, str(ROOT))
    print(json.dumps(asyncio.run(rows(*sys.argv[1:]))))
