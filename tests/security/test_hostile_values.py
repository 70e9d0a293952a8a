"""Every argument of every operation, given what no client means: the answer is typed, and it is never our fault.

Values go in as raw JSON text, so that numbers no parser agrees on, lone surrogates and NUL arrive as they are.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from tests.journeys.person import Person
from tests.security.surface import Operation, Place, entities, operations, placed
from tests.security.tenants import Stage, house_of_two
from tests.security.values import variables_for

HOLE = "@hole@"
LONG = json.dumps("x" * 1_000_000)
ANY = ("null", "true", "[]", "{}", '""', '"\\u0000"', '"\\ud800"', "1e400", "-1", "9223372036854775808", "0.5")
TEXT = (*ANY, '"\\u202e\\u2066txt.exe"', '"<script>alert(1)</script>"', '"\' or 1=1 --"', LONG)
DEEP = "[" * 200 + "]" * 200
VALUES = {
    "ID": (*TEXT, '"01a20f66-813a-78ce-8a5e-00000000000"', '"{01a20f66-813a-78ce-8a5e-000000000000}"', "7"),
    "String": TEXT,
    "Int": (*ANY, "2147483647", "2147483648", "-2147483648", '"1"', "1e3"),
    "Float": (*ANY, "1e308", "-0.0"),
    "Boolean": (*ANY, '"true"', "0"),
    "JSON": (*TEXT, DEEP, '{"": {"$ref": "x"}}', '{"__proto__": {"a": 1}, "a": 1, "a": 2}', "1" * 30),
    "DateTime": (
        *ANY, '"yesterday"', '"0000-00-00T00:00:00Z"',
        '"9999-12-31T23:59:59.999999-23:59"', '"0001-01-01T00:00:00+23:59"',
        '"2026-02-30T00:00:00Z"', '"2026-01-01T00:00:60Z"', '"+275760-09-13T00:00:00Z"', '"2026-01-01"',
        '"2026-01-01T00:00:00"',
    ),
}  # fmt: skip
ENUM = (*ANY, '"NOTHING_LIKE_IT"', '"owner"', '"<script>"')


@pytest.fixture(scope="module")
async def stage(fresh_settings: Callable[..., Any]) -> AsyncIterator[Stage]:
    async with house_of_two(await fresh_settings()) as found:
        yield found


def complaint(answer: httpx.Response, what: object) -> list[str]:
    """Nothing if the answer is decodable, below 500, and every error has the request's id and a code of the client's
    own doing; else what is wrong.
    """
    if answer.status_code >= 500:
        return [f"{what}: {answer.status_code} {answer.text[:300]}"]
    found = json.loads(answer.content.decode("utf-8"))
    wrong = [
        f"{what}: {error}"[:600]
        for error in found.get("errors") or ()
        if error["extensions"]["code"] == "INTERNAL_SERVER_ERROR" or not error["extensions"]["correlationId"]
    ]
    problems = [
        value for value in (found.get("data") or {}).values() if isinstance(value, dict) and "nextStep" in value
    ]
    return wrong + [f"{what}: {value}" for value in problems if not (value["code"] and value["message"])]


async def sent(stage: Stage, operation: Operation, place: Place, raw: str) -> httpx.Response:
    """The operation by somebody with sound values everywhere but here."""
    variables = variables_for(operation, lambda at: stage.own.get(at.name) if at.required else None)
    body = json.dumps({"query": operation.document, "variables": placed(variables, place, HOLE)})
    content = body.replace(json.dumps(HOLE), raw).encode("utf-8", "surrogatepass")
    return await stage.put(stage.stranger, operation.subgraph, content)


@pytest.mark.shows("G21")
@pytest.mark.parametrize("kind", ["query", "mutation"])
async def test_no_value_of_any_argument_breaks_anything(stage: Stage, kind: str) -> None:
    count = places = 0
    wrong: list[str] = []
    for operation in operations():
        if operation.kind != kind:
            continue
        for place in operation.places:
            places += 1
            for raw in VALUES.get(place.type, ENUM):
                answer = await sent(stage, operation, place, raw)
                wrong += complaint(answer, (str(operation), place.coordinate, raw[:80]))
                count += 1
    print(f"\n{kind}: {places} arguments, {count} requests")
    assert not wrong, "\n".join(wrong)


@pytest.mark.shows("G17", "G21")
async def test_forged_references_open_nothing(stage: Stage) -> None:
    """At each subgraph as the router: other typenames, keys that are none, more keys, no keys, far too many."""
    tenant, count = stage.victim.tenant, 0
    wrong: list[str] = []
    for entity in entities():
        own = stage.own.get("workflowId", "")
        good = {"__typename": entity.type, entity.key: own}
        forged: list[Any] = [
            {}, [], None, 7, "x", {"__typename": entity.type}, {entity.key: own}, {"__typename": "Nothing", "id": own},
            {"__typename": "Query", "id": own}, {"__typename": "__Schema"}, {"__typename": 7, "id": own},
            {"__typename": "Session", "id": own}, {"__typename": entity.type, "id": {"id": own}},
            {"__typename": entity.type, "id": [own]}, {"__typename": entity.type, "id": None},
            {"__typename": entity.type, "id": 7}, {"__typename": entity.type, "id": "x" * 100_000},
            good | {"tenant": tenant}, good | {"tenantId": tenant, "caller": {"tenant": tenant}, "info": 1, "self": 2},
            good | {"draft": {"definition": {}}, "name": "forged"}, good | {"__class__": "x", "__init__": {}},
        ]  # fmt: skip
        for representation in forged:
            answer = await stage.say(stage.stranger, entity, {"r": [representation]})
            wrong += complaint(answer, (entity.subgraph, entity.type, str(representation)[:100]))
            assert "forged" not in answer.text, (entity, representation)
            assert tenant not in answer.text or tenant in str(representation), (entity, representation)
            count += 1
        many = await stage.say(stage.stranger, entity, {"r": [good] * 20_001})
        wrong += complaint(many, entity)
        if "GRAPHQL_VALIDATION_FAILED" not in many.text:  # a graph without entities does not know the field
            assert many.json()["errors"][0]["extensions"]["code"] == "OPERATION_TOO_EXPENSIVE", entity
    print(f"\n{len(entities())} entities, {count} forged references, and 20,001 at once")
    assert not wrong, "\n".join(wrong)


@pytest.mark.shows("G17")
@pytest.mark.parametrize(
    "query", ['{ _entities(representations: [{__typename: "User", id: "1"}]) { __typename } }', "{ _service { sdl } }"]
)
async def test_the_public_address_knows_no_references(ada: Person, query: str) -> None:
    answer = (await ada.post(query)).json()
    assert answer["errors"][0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
    assert "data" not in answer


@pytest.mark.shows("G21")
async def test_hostile_values_through_the_edge(ada: Person) -> None:
    """One argument of each scalar, through gateway and edge, and bodies that are hardly JSON."""
    headers = {"authorization": f"Bearer {ada.token}", "content-type": "application/json"}
    asked = {
        "ID": "query ($v: ID!) { workflow(id: $v) { id } }",
        "String": "query ($v: String) { workflows(search: $v) { edges { cursor } } }",
        "Int": "query ($v: Int!) { workflows(first: $v) { edges { cursor } } }",
        "JSON": "query ($v: JSON!) { validateDefinition(input: {definition: $v}) { valid } }",
        "DateTime": "query ($v: DateTime) { executions(filter: {startedAfter: $v}) { edges { cursor } } }",
        "Boolean": "query ($v: Boolean) { workflows(archived: $v) { edges { cursor } } }",
    }
    count = 0
    wrong: list[str] = []
    for type, query in asked.items():
        for raw in VALUES[type]:
            body = f'{{"query": {json.dumps(query)}, "variables": {{"v": {raw}}}}}'
            answer = await ada.http.post("/graphql", content=body.encode("utf-8", "surrogatepass"), headers=headers)
            wrong += complaint(answer, (type, raw[:80]))
            count += 1
    for body in ("", "null", "7", '"x"', "[]", "{}", '{"query": 7}', '{"query": null}', '{"query": {"a": 1}}',
                 '{"query": "{ __typename }", "variables": []}', '{"query": "{ __typename }", "variables": "x"}',
                 '{"query": "{ __typename }", "operationName": 7}', '{"query": "{ __typename }", "extensions": 7}',
                 '{"query": "\\ud800"}', '{"query": "{ __typename \\u0000 }"}', "\ufeff{}", "{" * 10_000,
                 '{"query": "{ __typename }", "variables": ' + "[" * 10_000 + "]" * 10_000 + "}"):  # fmt: skip
        answer = await ada.http.post("/graphql", content=body.encode("utf-8", "surrogatepass"), headers=headers)
        wrong += complaint(answer, body[:80])
        assert answer.status_code == 400 or answer.json().get("errors"), (body[:80], answer.text)
        count += 1
    print(f"\n{count} requests through the edge")
    assert not wrong, "\n".join(wrong)
