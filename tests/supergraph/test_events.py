"""What the domains promise each other: the committed schemas of their events, and every event of a whole journey."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
import msgspec
import pytest

from subgraphs.platform import eventlog
from subgraphs.platform.cli import event_schemas, subgraph_names
from subgraphs.platform.domain import Event
from subgraphs.platform.facts import Read, Told
from subgraphs.platform.server import ground_of
from subgraphs.platform.settings import Settings
from tests.journeys.person import chain, node
from tests.subgraphs.graph_client import Client, served

FOLDER = Path(__file__).resolve().parents[2] / "supergraph" / "events"
NAME = re.compile(r"(?P<domain>[a-z]+)\.(?P<entity>[a-z]+)\.(?P<action>[a-z]+)\.v[1-9][0-9]*")
CLOUD_EVENT = {
    # CloudEvents 1.0.2, JSON format: required attributes, optional ones we use; extensions are lower-case and scalar.
    "type": "object",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "minLength": 1, "format": "uri-reference"},
        "type": {"type": "string", "minLength": 1},
        "subject": {"type": "string", "minLength": 1},
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"const": "application/json"},
        "data": {"type": "object"},
    },
    "propertyNames": {"pattern": "^[a-z0-9]{1,20}$"},
    "additionalProperties": {"type": ["string", "boolean", "integer", "null"]},
}
UNTROUBLED = {
    # what an orderly journey does not bring about; the tests of each domain do
    "auth.signup.abandoned.v1",
    "auth.refresh.reused.v1",
    "tenant.tenant.refused.v1",
    "tenant.tenant.withdrawn.v1",
    "user.member.refused.v1",
    "user.member.changed.v1",
    "execution.event.sent.v1",
    "execution.execution.orphaned.v1",
    "execution.child.returned.v1",
    "execution.ticket.taken.v1",
    "execution.ticket.returned.v1",
    "execution.verdict.given.v1",
}
PROBLEM = "... on Problem { code message field }"


def told() -> dict[str, type[Told]]:
    return {type: kind for name in subgraph_names() for type, kind in _events(name).PUBLISHED.items()}


def _events(name: str) -> Any:
    return import_module(f"subgraphs.{name}.events")


def schema(type: str) -> dict[str, Any]:
    """The committed schema of an event's data."""
    document = json.loads((FOLDER / f"{type.split('.')[0]}.json").read_text())
    return {**document["events"][type], "$defs": document["$defs"]}


@pytest.mark.parametrize("name", subgraph_names())
def test_the_committed_schemas_are_those_of_the_code(name: str) -> None:
    path = FOLDER / f"{name}.json"
    committed = path.read_text() if path.exists() else ""
    assert committed == event_schemas(name), "run `make generate` and commit what it writes"


@pytest.mark.shows("EV-02")
def test_names_say_domain_entity_action_and_version() -> None:
    for name in subgraph_names():
        for type in _events(name).PUBLISHED:
            match = NAME.fullmatch(type)
            assert match is not None, type
            assert match["domain"] == name, f"{type} is published by {name}"


def heard(settings: Settings) -> Iterator[tuple[str, str]]:
    """(subgraph, type) of everything that is consumed, prepared or listened to."""
    for name in subgraph_names():
        ground = ground_of(settings)
        import_module(f"subgraphs.{name}.service").build(ground)
        for type in {*ground.bus._by_type, *ground.bus._listeners}:
            yield name, type


def test_consumers_name_only_what_publishers_tell(settings: Settings) -> None:
    published, pairs = told(), sorted(heard(settings))
    assert len(pairs) > 15
    for name, type in pairs:
        assert type in published, f"{name} waits for {type}, which nobody publishes"
        if type.split(".")[0] != name:
            assert type in _events(name).READ, f"{name} hears {type} and does not say what it reads of it"
    for name in subgraph_names():
        for type, kind in _events(name).READ.items():
            assert (name, type) in pairs, f"{name} reads {type} without hearing it"
            _fits(name, type, kind, published[type])


def _fits(name: str, type: str, reads: type[Read], tells: type[Told]) -> None:
    fields = {field.encode_name: field for field in msgspec.structs.fields(tells)}
    for field in msgspec.structs.fields(reads):
        where = f"{name} reads {field.encode_name} of {type}"
        assert field.encode_name in fields, f"{where}, which {type.split('.')[0]} does not tell"
        assert field.required <= fields[field.encode_name].required, f"{where} as required, and it is not"


@pytest.mark.shows("EV-01", "EV-02")
async def test_every_event_of_a_journey_is_a_cloud_event_that_fits_its_schema(settings: Settings) -> None:
    builds = [import_module(f"subgraphs.{name}.service").build for name in subgraph_names()]
    async with served(settings, *builds) as nobody:
        await journey(nobody)
        rows = await nobody.ground.database.engine.fetch(f"select {eventlog.NAMES} from bus.log order by xid, seq")
    events = [eventlog.event(row) for row in rows]
    readers: dict[str, list[type[Read]]] = {}
    for name in subgraph_names():
        for type, kind in _events(name).READ.items():
            readers.setdefault(type, []).append(kind)
    for event in events:
        _check(event)
        for kind in readers.get(event.type, ()):
            msgspec.convert(event.data, kind, strict=False)
    assert set(told()) - {event.type for event in events} == UNTROUBLED


def _check(event: Event) -> None:
    cloud = json.loads(json.dumps(event.cloud()))
    jsonschema.validate(cloud, CLOUD_EVENT, format_checker=jsonschema.FormatChecker())
    assert {"correlationid", "causationid"} <= set(cloud)
    assert datetime.fromisoformat(cloud["time"]).tzinfo is not None
    assert UUID(cloud["id"]).version in {4, 7}
    assert cloud["source"] == f"/linkflow/{event.type.split('.')[0]}"
    assert NAME.fullmatch(cloud["type"])
    jsonschema.validate(cloud["data"], schema(event.type), format_checker=jsonschema.FormatChecker())


# -- a journey


async def change(client: Client, subgraph: str, name: str, selection: str, /, **input: Any) -> Mapping[str, Any]:
    kind = name[0].upper() + name[1:] + "Input"
    query = f"mutation ($input: {kind}!) {{ {name}(input: $input) {{ __typename {selection} }} }}"
    found: Mapping[str, Any] = (await client.ask(subgraph, query, {"input": input}))[name]
    assert "code" not in found, found
    return found


async def journey(nobody: Client) -> None:
    """Somebody signs up, makes a workflow, runs it in every way there is, and tidies up."""
    ada = await nobody.sign_up()
    await change(ada, "user", "updateProfile", PROBLEM, name="Ada L.")
    await change(ada, "tenant", "renameTenant", PROBLEM, name="Engines")
    await runs(ada, await workflow(ada))
    await change(ada, "auth", "logOut", "ended", refreshToken=ada.session["refreshToken"])


async def workflow(ada: Client) -> str:
    definition = chain(
        node("hook", "webhook", {"respond": "node"}),
        node("name", "set", {"fields": [{"name": "seen", "value": True}]}),
        node("answer", "respond"),
        node("rest", "wait", {"for": "duration", "duration": "PT1H"}),
    )
    definition["nodes"].append(node("begin", "manual"))
    definition["connections"].append({"from": "begin", "output": "main", "to": "rest", "input": "main"})
    wanted = f"... on Workflow {{ id }} {PROBLEM}"
    made = await change(ada, "workflow", "createWorkflow", wanted, name="One", definition=definition)
    id = str(made["id"])
    definition["nodes"][0]["name"] = "Another"
    words = {"workflowId": id, "baseRevision": 1, "definition": definition}
    await change(ada, "workflow", "saveDraft", wanted, **words)
    await change(ada, "workflow", "renameWorkflow", wanted, workflowId=id, name="Two")
    await change(ada, "workflow", "publishRelease", f"... on Release {{ number }} {PROBLEM}", workflowId=id)
    return id


async def runs(ada: Client, id: str) -> None:
    wanted = f"... on Execution {{ id }} {PROBLEM}"
    draft = f"... on DraftRun {{ execution {{ id }} }} {PROBLEM}"
    found = await change(ada, "workflow", "runDraft", draft, workflowId=id, trigger="begin", input={"n": 1})
    started = await change(ada, "execution", "startExecution", wanted, workflowId=id, input={"n": 1})
    again = await change(ada, "execution", "rerunExecution", wanted, executionId=started["id"])
    query = "query ($id: ID!) { endpoints(workflowId: $id) { url } }"
    url = (await ada.ask("webhook", query, {"id": id}))["endpoints"][0]["url"]
    answer = await ada.http.post("/webhook/hooks/" + url.rpartition("/hooks/")[2], json={"hello": "there"})
    assert answer.status_code == 200, answer.text
    called = answer.headers["x-linkflow-execution"]
    for run in (found["execution"]["id"], started["id"], again["id"], called):
        await change(ada, "execution", "cancelExecution", wanted, executionId=run)
    listed = "{ executions { edges { node { status } } } }"
    async with asyncio.timeout(30):
        while True:
            edges = (await ada.ask("execution", listed))["executions"]["edges"]
            if [edge["node"]["status"] for edge in edges] == ["CANCELLED"] * 4:
                break
            await asyncio.sleep(0.05)
    for archived in (True, False):
        wanted = f"... on Workflow {{ id }} {PROBLEM}"
        await change(ada, "workflow", "archiveWorkflow", wanted, workflowId=id, archived=archived)
    await change(ada, "workflow", "deleteWorkflow", PROBLEM, workflowId=id)
