"""The well-known attacks on GraphQL servers, at the public address and at each subgraph behind it.

The checks are those of graphql-cop, written anew: a list of what each sends and what must not come back. The subgraphs
are asked as the router would, with its proof; without it they say 401 to everything.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import httpx
import pytest

from subgraphs.platform.cli import subgraph_names
from subgraphs.platform.settings import Settings
from tests.journeys.person import Person
from tests.security.surface import SUPERGRAPH
from tests.subgraphs.graph_client import Client
from tests.subgraphs.listening import listening

NAMES = ("edge", *subgraph_names())
JSON = {"content-type": "application/json"}
CIRCLE = "{ __schema { types { fields { type { fields { type { fields { type { fields { name } } } } } } } } } }"
MUTATION = 'mutation { createWorkflow(input: {name: "FORGED"}) { __typename } }'


@dataclass
class Doors:
    ada: Person
    inside: Client

    async def send(
        self, name: str, body: bytes = b"", method: str = "POST", headers: Any = JSON, query: str = ""
    ) -> httpx.Response:
        """A request to `/graphql` at the edge, or to a subgraph with the router's proof."""
        if name == "edge":
            sent = {"authorization": f"Bearer {self.ada.token}", **headers}
            return await self.ada.http.request(method, f"/graphql{query}", content=body, headers=sent)
        identity = (await self.inside.identity()).headers["x-linkflow-identity"]
        path = f"/{name}/graphql"
        proof = self.inside.ground.hop.proof(method, path + query, body, identity)
        sent = {"x-linkflow-identity": identity, "x-linkflow-hop": proof, **headers}
        return await self.inside.http.request(method, path + query, content=body, headers=sent)

    async def ask(self, name: str, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        answer = await self.send(name, body)
        assert answer.status_code < 500, answer.text
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture(scope="module")
async def doors(settings: Settings, ada: Person) -> AsyncIterator[Doors]:
    builds = [import_module(f"subgraphs.{name}.service").build for name in subgraph_names()]
    async with listening(settings, builds) as door:
        yield Doors(ada, await door.sign_up())


# -- the checks: each is true when the attack works


async def alias_overloading(doors: Doors, name: str) -> bool:
    answer = await doors.ask(name, "{" + " ".join(f"a{n}: __typename" for n in range(101)) + "}")
    return bool((answer.get("data") or {}).get("a100"))


async def batching(doors: Doors, name: str) -> bool:
    answer = await doors.send(name, json.dumps([{"query": "{ __typename }"}] * 10).encode())
    return answer.status_code < 400 and isinstance(answer.json(), list)


async def directive_overloading(doors: Doors, name: str) -> bool:
    answer = await doors.ask(name, "{ __typename " + "@aa" * 1_000 + " }")
    return len(answer["errors"]) > 10


async def field_duplication(doors: Doors, name: str) -> bool:
    answer = await doors.ask(name, "{" + " __typename" * 500 + "}")
    return "errors" not in answer


async def circular_introspection(doors: Doors, name: str) -> bool:
    return name == "edge" and "errors" not in await doors.ask(name, CIRCLE)


async def introspection(doors: Doors, name: str) -> bool:
    """At the edge only: subgraphs answer nobody but the router, which needs their schema at no time."""
    return name == "edge" and bool((await doors.ask(name, "{ __schema { types { name } } }")).get("data"))


async def an_ide(doors: Doors, name: str) -> bool:
    answer = await doors.send(name, method="GET", headers={"accept": "text/html"})
    return "html" in answer.headers.get("content-type", "")


async def field_suggestions(doors: Doors, name: str) -> bool:
    return "Did you mean" in json.dumps(await doors.ask(name, "{ __typenam wokflow organisatio nodeTyp rols m }"))


async def get_queries(doors: Doors, name: str) -> bool:
    answer = await doors.send(name, method="GET", headers={}, query="?query=%7B__typename%7D")
    return name == "edge" and answer.status_code == 200


async def get_mutations(doors: Doors, name: str) -> bool:
    for headers in ({}, {"apollo-require-preflight": "1"}):
        answer = await doors.send(name, method="GET", headers=headers, query="?query=mutation%7B__typename%7D")
        if "data" in answer.json():
            return True
    return False


async def forms(doors: Doors, name: str) -> bool:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    return (await doors.send(name, b"query=%7B__typename%7D", headers=headers)).status_code == 200


async def tracing(doors: Doors, name: str) -> bool:
    asked = {"x-apollo-tracing": "1", "apollo-federation-include-trace": "ftv1", "apollo-query-plan-experimental": "1"}
    answer = await doors.send(name, b'{"query":"{ __typename }"}', headers=JSON | asked)
    return "extensions" in answer.json()


async def unhandled_errors(doors: Doors, name: str) -> bool:
    answer = await doors.send(name, b'{"query":"qwerty cop { abc }"}')
    text = answer.text
    return answer.status_code >= 500 or any(word in text for word in ("Traceback", "exception", "stack", ".py", ".js"))


COP = (
    alias_overloading, batching, directive_overloading, field_duplication, circular_introspection, introspection,
    an_ide, field_suggestions, get_queries, get_mutations, forms, tracing, unhandled_errors,
)  # fmt: skip


@pytest.mark.shows("G01")
@pytest.mark.parametrize("name", NAMES)
async def test_none_of_the_known_attacks_works(doors: Doors, name: str) -> None:
    assert [check.__name__ for check in COP if await check(doors, name)] == []


@pytest.mark.parametrize("name", subgraph_names())
async def test_without_the_routers_proof_a_subgraph_says_nothing(doors: Doors, name: str) -> None:
    for query in ("{ __typename }", "{ __schema { types { name } } }", "{ _service { sdl } }", "qwerty {"):
        answer = await doors.inside.http.post(f"/{name}/graphql", json={"query": query})
        assert answer.status_code == 401
        assert "data" not in answer.json()


@pytest.mark.shows("G06")
@pytest.mark.parametrize("name", NAMES)
async def test_an_answer_holds_ten_errors_at_most(doors: Doors, name: str) -> None:
    floods = (
        "{ " + " ".join(f"nothing{n}" for n in range(10_000)) + " }",
        "{ " + " ".join(f"nothing{n}" for n in range(700)) + " }",
        "{ __typename " + " ".join(f"@no{n}" for n in range(700)) + " }",
        "query (" + " ".join(f"$v{n}: No{n}" for n in range(200)) + ") { __typename }",
    )
    for flood in floods:
        answer = await doors.ask(name, flood)
        assert 1 <= len(answer["errors"]) <= 10


def misspelled() -> tuple[set[str], list[str]]:
    """Every name of the graph, and names that are nearly one of them."""
    names = set(re.findall(r"\b[A-Za-z]{4,}\b", re.sub(r'""".*?"""', "", SUPERGRAPH.read_text(), flags=re.DOTALL)))
    near = {name[:at] + name[at + 1 :] for name in names for at in (1, len(name) - 1)}
    near |= {name + "s" for name in names} | {name[1] + name[0] + name[2:] for name in names}
    return names, sorted(near - names)


@pytest.mark.shows("G09")
async def test_names_are_not_found_by_guessing_nearly(doors: Doors) -> None:
    """What is nearly right brings no name back that was not sent: as fields, arguments, types, enum values, inputs."""
    names, near = misspelled()
    recovered: set[str] = set()
    for guesses in batches(near, 9):
        for query in (
            "{ " + " ".join(guesses) + " }",
            "{ " + " ".join(f"... on {guess} {{ __typename }}" for guess in guesses) + " }",
            "{ workflow(id: 1, " + ", ".join(f"{guess}: 1" for guess in guesses) + ") { " + " ".join(guesses) + " } }",
        ):
            answer = json.dumps(await doors.ask("edge", query))
            told = set(re.findall(r"\b[A-Za-z]{4,}\b", answer))
            recovered |= (told & names) - set(re.findall(r"\w+", query)) - ORDINARY
    print(f"\n{len(near)} guesses around {len(names)} names, {len(recovered)} recovered")
    assert not recovered, sorted(recovered)


ORDINARY = {
    "type", "field", "fields", "name", "Query", "errors", "error", "data", "code", "message", "argument", "query",
    "value", "input", "variable", "Workflow", "nextStep", "schema", "with", "limit",
}  # fmt: skip
"""Words of the refusals themselves, and the type of the field that is asked by its right name."""


def batches(words: list[str], size: int) -> list[list[str]]:
    return [words[at : at + size] for at in range(0, len(words), size)]


# -- requests that a page of another site could make a browser send


def forgeries() -> list[tuple[str, dict[str, str], str, bytes]]:
    """Method, headers, query string, body: everything without a header that makes a browser ask first, and near it."""
    body = json.dumps({"query": MUTATION}).encode()
    form = b"query=" + str(httpx.QueryParams({"q": MUTATION}))[2:].encode()
    multipart = b'--b\r\nContent-Disposition: form-data; name="operations"\r\n\r\n' + body + b"\r\n--b--\r\n"
    types = (
        "", "text/plain", "text/plain; charset=utf-8", "text/plain;application/json",
        "application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "application/graphql",
        "application/octet-stream", "text/html",
        "text/xml",
        "application/jsonx", "application/json-seq", "application/x-json", "*/*", "application/*",
        "application/json;charset=utf-7", "application/json;charset=utf-16", "application/json;charset=shift_jis",
        "application/json;charset=utf-8x", "text/plain, application/json", "application/json, text/plain",
    )  # fmt: skip
    shapes = [("POST", {"content-type": kind} if kind else {}, "", body) for kind in types]
    shapes += [("POST", {"content-type": types[4]}, "", form), ("POST", {"content-type": types[5]}, "", multipart)]
    shapes.append(("POST", {"content-type": types[5], "cookie": "session=x"}, "", multipart))
    target = "?" + str(httpx.QueryParams({"query": MUTATION}))
    for headers in ({}, {"apollo-require-preflight": "1"}, {"x-http-method-override": "POST"}, {"cookie": "a=b"}):
        shapes.append(("GET", dict(headers), target, b""))
    for name in ("x-http-method", "x-method-override", "x-http-method-override"):
        shapes.append(("GET", {name: "POST", "content-type": "application/json"}, target, b""))
    for method in ("HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        shapes.append((method, {"content-type": "application/json"}, target, body))
    shapes.append(("POST", {"content-type": "text/plain"}, target, b""))
    shapes.append(("POST", {}, target, b""))
    return shapes


@pytest.mark.shows("G10", "SX-08", "SX-09")
async def test_no_forged_request_changes_anything(doors: Doors) -> None:
    shapes = forgeries()
    for method, headers, query, body in shapes:
        answer = await doors.send("edge", body, method, headers, query)
        assert answer.status_code in {204, 400, 405, 415}, (method, headers, query, answer.status_code, answer.text)
        if method == "POST" and body:
            assert answer.status_code == 415, (headers, answer.text)
    found = await doors.ada.ask('{ workflows(search: "FORGED") { edges { node { id } } } }')
    assert found["workflows"]["edges"] == []
    print(f"\n{len(shapes)} shapes")
    assert len(shapes) >= 38
