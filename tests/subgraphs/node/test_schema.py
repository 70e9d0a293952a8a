"""The registry through its schema, on a real database, fed over the bus."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from subgraphs.node import queries, service
from subgraphs.platform.domain import ROLES, Caller, Event, Limited, uuid7
from subgraphs.platform.server import Ground, Incoming, ground_opened
from subgraphs.platform.settings import Settings

HTTP_PARAMETERS = {
    "type": "object",
    "required": ["url", "method"],
    "properties": {
        "url": {"type": "string", "title": "URL", "description": "Where to."},
        "method": {"enum": ["GET", "POST"], "default": "GET"},
        "body": {"type": "object", "x-show": {"method": ["POST"]}, "x-editor": "json"},
        "token": {"type": "string", "x-secret": True},
        "flow": {
            "type": "string",
            "x-choices": {
                "query": "query($s: String, $m: String) { flows(search: $s, of: $m) { id name } }",
                "items": "flows",
                "value": "id",
                "label": "name",
                "variables": {"m": "method"},
                "search": "s",
            },
        },
        "match": {"type": "string", "x-raw": True, "x-cel": ["event"]},
    },
}
EFFECTS = [{"when": {"method": [None, "GET"]}, "effect": "read"}]


def manifest(kind: str, version: str = "1.0.0", category: str = "data", **more: Any) -> dict[str, Any]:
    ports = [{"name": "main"}]
    shape: dict[str, Any] = {
        "type": f"core.{kind}",
        "version": version,
        "title": kind.title(),
        "summary": f"Does {kind}.",
    }
    shape |= {"category": category, "parameters": {"type": "object"}, "inputs": ports, "outputs": ports}
    return {**shape, "effect": "pure", "trigger": False, "timeout": "PT30S", "credentials": [], **more}


MANIFESTS = [
    manifest("manual", category="trigger", trigger=True, inputs=[]),
    manifest("set", summary="Sets fields of 100%_items."),
    manifest("set", "1.10.0"),
    manifest("set", "1.9.0"),
    manifest("switch", category="flow", dynamicOutputs={"parameter": "rules", "field": "output"}),
    manifest(
        "http",
        category="http",
        effect="unsafe",
        effects=EFFECTS,
        probes=True,
        parameters=HTTP_PARAMETERS,
        outputSchema={"type": "object"},
        errors={"http.timeout": "No answer in time."},
        examples=[{"title": "Get", "parameters": {"url": "u"}, "input": [{}], "output": {"main": [{"ok": True}]}}],
    ),
]
VIEWER = Caller(uuid7(), uuid7(), uuid7(), "Ada", frozenset({"viewer"}), ROLES["viewer"])


async def announce(ground: Ground, digest: str, manifests: list[dict[str, Any]]) -> None:
    """Over the bus, until the registry has it."""
    data = {"digest": digest, "manifests": manifests}
    await ground.bus.publish(
        Event(type="executor.catalogue.announced.v1", subject="executor", data=data, tenant=None, partition=0)
    )
    with anyio.fail_after(10):
        while await held(ground) != digest:
            await anyio.sleep(0.01)


async def held(ground: Ground) -> str | None:
    async with ground.database.read(None) as reading:
        return await queries.digest(reading)


@pytest.fixture
async def registry(settings: Settings) -> AsyncIterator[Ground]:
    async with ground_opened(settings, [service.build]) as ground:
        await announce(ground, "d1", MANIFESTS)
        yield ground


async def raw(ground: Ground, document: str, by: Caller = VIEWER, **variables: Any) -> Any:
    (subgraph,) = ground.subgraphs
    context = subgraph.context(by, Incoming({}, "test"))
    return await subgraph.schema.execute(document, variable_values=variables, context_value=context)


async def ask(ground: Ground, document: str, **variables: Any) -> Any:
    result = await raw(ground, document, **variables)
    assert result.errors is None, result.errors
    (value,) = result.data.values()
    return value


LIST = """query($first: Int! = 20, $after: String, $search: String, $category: NodeCategory) {
  nodeTypes(first: $first, after: $after, search: $search, category: $category) {
    edges { node { type version versions } } pageInfo { hasNextPage endCursor } } }"""


async def names(ground: Ground, **filters: Any) -> list[str]:
    return [edge["node"]["type"].removeprefix("core.") for edge in (await ask(ground, LIST, **filters))["edges"]]


@pytest.mark.shows("NO-01")
async def test_types_are_listed_in_their_newest_version_by_name(registry: Ground) -> None:
    page = await ask(registry, LIST)
    assert [edge["node"] for edge in page["edges"]] == [
        {"type": "core.http", "version": "1.0.0", "versions": ["1.0.0"]},
        {"type": "core.manual", "version": "1.0.0", "versions": ["1.0.0"]},
        {"type": "core.set", "version": "1.10.0", "versions": ["1.10.0", "1.9.0", "1.0.0"]},
        {"type": "core.switch", "version": "1.0.0", "versions": ["1.0.0"]},
    ]
    first = await ask(registry, LIST, first=3)
    assert first["pageInfo"]["hasNextPage"]
    assert await names(registry, first=3, after=first["pageInfo"]["endCursor"]) == ["switch"]


@pytest.mark.shows("NO-01")
@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"search": "SWI"}, ["switch"]),
        ({"search": "does switch"}, ["switch"]),
        ({"search": "does nothing"}, []),
        ({"search": "%"}, []),
        ({"search": "core_set"}, []),
        ({"search": "\0"}, ["http", "manual", "set", "switch"]),
        ({"category": "FLOW"}, ["switch"]),
        ({"category": "FLOW", "search": "http"}, []),
        ({"category": "CODE"}, []),
    ],
)
async def test_types_are_found_by_words_and_category(registry: Ground, filters: Any, found: list[str]) -> None:
    assert await names(registry, **filters) == found


@pytest.mark.shows("NO-01")
async def test_categories_count_what_a_search_finds(registry: Ground) -> None:
    query = "query($search: String) { nodeCategories(search: $search) { category count } }"
    everything = {each["category"]: each["count"] for each in await ask(registry, query)}
    assert everything == {"DATA": 1, "FLOW": 1, "HTTP": 1, "TRIGGER": 1}
    assert await ask(registry, query, search="http") == [{"category": "HTTP", "count": 1}]


@pytest.mark.shows("NO-01", "NO-11")
async def test_a_type_serves_what_its_manifest_says(registry: Ground) -> None:
    query = """{ nodeType(type: "core.http") { title summary category effect
      effects { when { parameter values } effect } probes trigger timeout parameters outputSchema
      inputs { name } outputs { name } dynamicOutputs { field } credentials errors { code meaning } } }"""
    assert await ask(registry, query) == {
        "title": "Http",
        "summary": "Does http.",
        "category": "HTTP",
        "effect": "UNSAFE",
        "effects": [{"when": [{"parameter": "method", "values": ["GET"]}], "effect": "READ"}],
        "probes": True,
        "trigger": False,
        "timeout": "PT30S",
        "parameters": HTTP_PARAMETERS,
        "outputSchema": {"type": "object"},
        "inputs": [{"name": "main"}],
        "outputs": [{"name": "main"}],
        "dynamicOutputs": None,
        "credentials": [],
        "errors": [{"code": "http.timeout", "meaning": "No answer in time."}],
    }
    dynamic = await ask(registry, '{ nodeType(type: "core.switch") { dynamicOutputs { parameter field } } }')
    assert dynamic == {"dynamicOutputs": {"parameter": "rules", "field": "output"}}


@pytest.mark.shows("NO-02")
async def test_a_type_serves_defaults_a_form_and_examples(registry: Ground) -> None:
    query = """{ nodeType(type: "core.http") { defaults examples { title parameters input inputs output error }
      form { name title description kind required default choices secret editor
        shownWhen { parameter values } names
        choicesFrom { query items value label search variables { name parameter } } } } }"""
    found = await ask(registry, query)
    assert found["defaults"] == {"method": "GET"}
    (example,) = found["examples"]
    assert example == {
        "title": "Get",
        "parameters": {"url": "u"},
        "input": [{}],
        "inputs": {},
        "output": {"main": [{"ok": True}]},
        "error": None,
    }
    url, method, body, token, flow, match = found["form"]
    assert (url["name"], url["title"], url["required"], url["kind"]) == ("url", "URL", True, "string")
    assert (method["required"], method["choices"], method["default"]) == (False, ["GET", "POST"], "GET")
    assert (body["editor"], body["shownWhen"]) == ("json", [{"parameter": "method", "values": ["POST"]}])
    assert token["secret"]
    assert (url["choicesFrom"], url["names"], match["names"]) == (None, None, ["event"])
    asked = dict(flow["choicesFrom"])
    assert asked.pop("query").startswith("query($s")
    variables = [{"name": "m", "parameter": "method"}]
    assert asked == {"items": "flows", "value": "id", "label": "name", "search": "s", "variables": variables}


@pytest.mark.shows("NO-01")
async def test_versions_stand_side_by_side_and_an_unknown_one_is_nothing(registry: Ground) -> None:
    query = 'query($v: String) { nodeType(type: "core.set", version: $v) { version summary } }'
    assert (await ask(registry, query))["version"] == "1.10.0"
    assert (await ask(registry, query, v="1.0.0"))["summary"] == "Sets fields of 100%_items."
    assert await ask(registry, query, v="7.0.0") is None
    assert await ask(registry, "query($t: String!) { nodeType(type: $t) { type } }", t="nul\0") is None


@pytest.mark.shows("NO-01")
async def test_a_new_catalogue_replaces_the_old_one(registry: Ground) -> None:
    await announce(registry, "d2", [manifest("merge", category="flow"), *MANIFESTS[:2]])
    assert await names(registry) == ["manual", "merge", "set"]
    await announce(registry, "d1", MANIFESTS)
    assert await names(registry) == ["http", "manual", "set", "switch"]


async def test_the_registry_is_for_people_who_are_logged_in(registry: Ground) -> None:
    result = await raw(registry, LIST, Caller())
    assert result.data == {"nodeTypes": None}
    assert "Log in" in result.errors[0].message


@pytest.mark.parametrize("after", ["rubbish", "WzFd"])
async def test_a_foreign_cursor_is_told(registry: Ground, after: str) -> None:
    result = await raw(registry, LIST, after=after)
    assert result.data == {"nodeTypes": None}
    assert "cursor" in result.errors[0].message


async def test_the_subgraph_is_ready_once_it_knows_the_catalogue(fresh_settings: Callable[..., Any]) -> None:
    async with ground_opened(await fresh_settings(), [service.build]) as ground:
        ((name, check),) = ground.subgraphs[0].ready
        assert name == "catalogue of node types"
        with pytest.raises(Limited):
            await check()
        await announce(ground, "d1", MANIFESTS)
        await check()
        ground.ports["executor"] = SimpleNamespace(digest="d2")
        with pytest.raises(Limited):
            await check()
