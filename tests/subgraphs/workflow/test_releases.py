"""Publishing, activation, and runs of drafts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from subgraphs.platform.domain import Caller, uuid7
from subgraphs.platform.objects import Ref
from tests.subgraphs.workflow.workflow_graph import (
    MANIFESTS,
    PROBLEM,
    Graph,
    Heard,
    announced,
    caller,
    digest,
    eventually,
    flow,
    manifest,
)

PUBLISH = f"""mutation($input: PublishReleaseInput!) {{ publishRelease(input: $input) {{ __typename
  ... on Release {{ number revision name message definition author {{ id }} activation {{ state execution webhook }} }}
  {PROBLEM} ... on InvalidDefinition {{ faults {{ code pointer severity }} }} }} }}"""
RUN = f"""mutation($input: RunDraftInput!) {{ runDraft(input: $input) {{ __typename
  ... on DraftRun {{ execution {{ id }} }} {PROBLEM} ... on InvalidDefinition {{ faults {{ code }} }} }} }}"""
READ = """query($id: ID!) { workflow(id: $id) { draft { number definition } currentRelease { number definition
  activation { state execution webhook } } releases { edges { node { number revision name definition } } } } }"""


async def publish(graph: Graph, by: Caller, workflow: str, **more: Any) -> Any:
    return await graph.ask(PUBLISH, by, input={"workflowId": workflow, **more})


async def run(graph: Graph, by: Caller, workflow: str, **more: Any) -> Any:
    return await graph.ask(RUN, by, input={"workflowId": workflow, **more})


@pytest.mark.shows("WF-02")
async def test_a_release_is_active_when_both_hold_it(graph: Graph, heard: Heard, holders: list[str]) -> None:
    ada = caller()
    made = await graph.create(ada, flow("a"))
    released = await publish(graph, ada, made["id"], name="Spring", message="goes live")
    assert released == {
        "__typename": "Release",
        "number": 1,
        "revision": 1,
        "name": "Spring",
        "message": "goes live",
        "definition": flow("a"),
        "author": {"id": str(ada.subject)},
        "activation": {"state": "ACTIVE", "execution": True, "webhook": True},
    }
    told = await heard.one("workflow.release.published.v1")
    assert told.tenant == ada.tenant
    assert told.data["definition"] == flow("a")
    assert told.data["nodeTypes"]["core.manual@1.0.0"] == {
        "effect": "pure",
        "trigger": True,
        "inputs": [],
        "outputs": [{"name": "main"}],
        "timeout": "PT30S",
    }

    async def stored() -> bool:
        release = (await graph.ask(READ, ada, id=made["id"]))["currentRelease"]
        return bool(release["activation"]["state"] == "ACTIVE")

    assert await eventually(stored)


@pytest.mark.shows("WF-02")
async def test_a_release_says_who_does_not_hold_it_yet(graph: Graph, holders: list[str]) -> None:
    ada = caller()
    made = await graph.create(ada, flow("a"))
    holders.remove("webhook")
    released = await publish(graph, ada, made["id"])
    assert released["activation"] == {"state": "PENDING", "execution": True, "webhook": False}


@pytest.mark.shows("WF-02")
async def test_saving_a_draft_does_not_touch_what_is_published(graph: Graph, holders: list[str]) -> None:
    ada = caller()
    made = await graph.create(ada, flow("a"))
    await publish(graph, ada, made["id"])
    await graph.save(ada, made["id"], 1, flow("b"))
    found = await graph.ask(READ, ada, id=made["id"])
    assert found["draft"]["definition"] == flow("b")
    assert found["currentRelease"]["definition"] == flow("a")
    assert (await publish(graph, ada, made["id"]))["revision"] == 2
    assert (await publish(graph, ada, made["id"], revision=1, name="back"))["definition"] == flow("a")
    releases = (await graph.ask(READ, ada, id=made["id"]))["releases"]["edges"]
    assert [(edge["node"]["number"], edge["node"]["revision"], edge["node"]["name"]) for edge in releases] == [
        (3, 1, "back"),
        (2, 2, None),
        (1, 1, None),
    ]


@pytest.mark.shows("WF-12")
async def test_errors_keep_a_draft_from_being_published_and_run(graph: Graph, heard: Heard) -> None:
    ada = caller()
    looped = flow("a", "b")
    looped["connections"].append({"from": "b", "to": "a"})
    made = await graph.create(ada, looped)
    refused = await publish(graph, ada, made["id"])
    assert refused["__typename"] == "InvalidDefinition"
    assert refused["faults"] == [{"code": "graph.loop", "pointer": "/nodes/1", "severity": "ERROR"}]
    assert (await run(graph, ada, made["id"]))["faults"] == [{"code": "graph.loop"}]
    assert (await graph.ask(READ, ada, id=made["id"]))["currentRelease"] is None
    await heard.one("workflow.workflow.created.v1")
    assert {event.type for event in heard.events} == {"workflow.workflow.created.v1", "workflow.draft.saved.v1"}


@pytest.mark.shows("WF-12")
async def test_a_draft_is_judged_by_the_newest_catalogue(graph: Graph) -> None:
    ada = caller()
    made = await graph.create(ada, {**flow(), "nodes": [{"id": "s", "type": "core.cron", "version": "1.0.0"}]})
    assert [fault["code"] for fault in made["draft"]["faults"]] == ["node.type_unknown", "trigger.none"]
    await graph.ground.bus.publish(announced("d2", [*MANIFESTS, manifest("cron", trigger=True, inputs=[])]))

    async def learned() -> bool:
        return await digest(graph.ground) == "d2"

    await eventually(learned)
    assert (await run(graph, ada, made["id"]))["__typename"] == "DraftRun"


async def test_running_a_draft_asks_for_an_execution(graph: Graph, heard: Heard) -> None:
    ada = caller()
    inputs = [{"name": "who", "required": True}, {"name": "n", "type": "integer", "default": 3}]
    made = await graph.create(ada, flow("a", inputs=inputs))
    started = await run(graph, ada, made["id"], input={"who": "Ada"})
    told = await heard.one("workflow.draft.requested.v1")
    assert started["execution"]["id"] == str(told.id)
    assert told.data["input"] == {"who": "Ada", "n": 3}
    assert (told.data["trigger"], told.data["revision"], told.data["workflowId"]) == ("start", 1, made["id"])
    assert told.data["startedBy"] == str(ada.subject)
    leases = graph.ground.leases
    assert not leases.owned, "Workflow alone has no work for the owner of a partition"
    assert told.partition == leases.partition_of(told.id)


@pytest.mark.parametrize(
    ("input", "field"),
    [
        ({}, "input.input.who"),
        ({"who": 5}, "input.input.who"),
        ({"who": "a", "x": 1}, "input.input.x"),
        ([], "input.input"),
    ],
)
async def test_an_input_that_does_not_fit_is_told_with_its_field(graph: Graph, input: Any, field: str) -> None:
    ada = caller()
    made = await graph.create(ada, flow("a", inputs=[{"name": "who", "required": True}]))
    answer = await run(graph, ada, made["id"], input=input)
    assert (answer["__typename"], answer["field"]) == ("Invalid", field)


async def test_a_trigger_that_is_none_is_told_with_those_there_are(graph: Graph) -> None:
    ada = caller()
    made = await graph.create(ada, flow("a"))
    answer = await run(graph, ada, made["id"], trigger="a")
    assert (answer["__typename"], answer["field"], answer["nextStep"]) == (
        "Invalid",
        "input.trigger",
        "Its triggers are start.",
    )


async def test_the_same_key_starts_one_run(graph: Graph, heard: Heard) -> None:
    ada = caller()
    made = await graph.create(ada, flow("a"))
    answers = await asyncio.gather(*(run(graph, ada, made["id"], input={"n": 1}, idempotencyKey="k") for _ in range(4)))
    assert len({answer["execution"]["id"] for answer in answers}) == 1
    other = await run(graph, ada, made["id"], input={"n": 2}, idempotencyKey="k")
    assert (other["__typename"], other["code"]) == ("Conflict", "idempotency_conflict")
    assert (await run(graph, ada, made["id"], input={"n": 1}))["execution"] != answers[0]["execution"]
    await heard.one("workflow.draft.requested.v1")
    assert len([event for event in heard.events if event.type == "workflow.draft.requested.v1"]) == 2


@pytest.mark.shows("CC-01")
async def test_a_large_definition_travels_by_claim_check(graph: Graph, heard: Heard) -> None:
    ada = caller()
    large = flow("a")
    large["nodes"][1]["parameters"] = {"fields": {"text": "x" * 1_200_000}}
    made = await graph.create(ada, large)
    started = await run(graph, ada, made["id"])
    told = await heard.one("workflow.draft.requested.v1")
    assert started["execution"]["id"] == str(told.id)
    reference = Ref.of(told.data["definition"])
    assert reference is not None
    assert ada.tenant is not None
    body = await graph.ground.objects.get(ada.tenant, reference)
    assert len(body) == reference.size > 1_200_000
    held = "select count(*) from bus.blob where sha256 = $1 and holder = $2"
    assert await graph.ground.database.engine.fetchval(held, reference.sha256, told.id) == 1


@pytest.mark.shows("TE-02")
async def test_runs_and_releases_of_another_tenant_are_answered_like_random_ids(graph: Graph) -> None:
    ada, eve = caller(), caller()
    made = await graph.create(ada, flow("a"))
    for ask in (publish, run):
        foreign = await ask(graph, eve, made["id"])
        assert foreign == await ask(graph, eve, str(uuid7()))
        assert foreign["__typename"] == "Missing"


@pytest.mark.shows("US-03")
async def test_operators_and_viewers_do_not_publish(graph: Graph) -> None:
    ada = caller()
    made = await graph.create(ada, flow("a"))
    for role in ("operator", "viewer"):
        other = caller(role, ada.tenant)
        assert (await publish(graph, other, made["id"]))["__typename"] == "Forbidden"
        assert (await run(graph, other, made["id"]))["__typename"] == "Forbidden"


@pytest.mark.shows("EV-02")
async def test_what_happens_is_told_in_order(graph: Graph, heard: Heard, holders: list[str]) -> None:
    ada = caller()
    made = await graph.create(ada, flow("a"))
    changes = f"""mutation($id: ID!) {{
      a: renameWorkflow(input: {{workflowId: $id, name: "Other"}}) {{ {PROBLEM} }}
      b: archiveWorkflow(input: {{workflowId: $id}}) {{ {PROBLEM} }}
      c: archiveWorkflow(input: {{workflowId: $id, archived: false}}) {{ {PROBLEM} }}
      d: deleteWorkflow(input: {{workflowId: $id}}) {{ {PROBLEM} }} }}"""
    result = await graph.raw(changes, ada, id=made["id"])
    assert result.errors is None
    await heard.one("workflow.workflow.deleted.v1")
    assert [event.type.removeprefix("workflow.") for event in heard.events] == [
        "workflow.created.v1",
        "draft.saved.v1",
        "workflow.renamed.v1",
        "workflow.archived.v1",
        "workflow.unarchived.v1",
        "workflow.deleted.v1",
    ]
    assert {event.subject for event in heard.events} == {made["id"]}
    assert len({event.partition for event in heard.events}) == 1


@pytest.mark.shows("WF-12")
async def test_a_definition_is_validated_without_being_saved(graph: Graph) -> None:
    query = """query($input: ValidateDefinitionInput!) { validateDefinition(input: $input) {
      valid faults { code message pointer node severity nextStep position } } }"""
    bad = flow("a")
    bad["nodes"][1]["parameters"] = {"fields": {"x": "{{ item. }}"}}
    report = await graph.ask(query, caller("viewer"), input={"definition": bad})
    (fault,) = report["faults"]
    assert not report["valid"]
    assert (fault["code"], fault["pointer"], fault["node"]) == (
        "expression.invalid",
        "/nodes/1/parameters/fields/x",
        "a",
    )
    assert fault["position"] >= 2
    assert (await graph.ask(query, caller("viewer"), input={"definition": flow("a")})) == {"valid": True, "faults": []}


@pytest.mark.shows("EX-12")
async def test_a_part_of_a_draft_is_asked_for_with_what_is_given(graph: Graph, heard: Heard) -> None:
    ada = caller()
    definition = flow("a", "b", "c")
    definition["nodes"][1]["pinned"] = [{"n": 1}]
    made = await graph.create(ada, definition)
    given = {"a": {"main": [{"n": 2}]}}
    started = await run(graph, ada, made["id"], until="b", given=given, idempotencyKey="k")
    told = await heard.one("workflow.draft.requested.v1")
    assert started["execution"]["id"] == str(told.id)
    assert (told.data["until"], told.data["only"], told.data["given"]) == ("b", None, given)
    again = await run(graph, ada, made["id"], until="b", given=given, idempotencyKey="k")
    assert again == started
    other = await run(graph, ada, made["id"], idempotencyKey="k")
    assert (other["__typename"], other["code"]) == ("Conflict", "idempotency_conflict")
    assert (await run(graph, ada, made["id"], only="b"))["__typename"] == "DraftRun", "items are pinned to a"


@pytest.mark.shows("EX-12")
@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"until": "nobody"}, "input.until"),
        ({"only": "nobody"}, "input.only"),
        ({"only": "a", "until": "b"}, "input.only"),
        ({"only": "start"}, "input.only"),
        ({"only": "b"}, "input.given"),
        ({"given": []}, "input.given"),
        ({"given": {"x": {}}}, "input.given.x"),
        ({"given": {"a": []}}, "input.given.a"),
        ({"given": {"a": {"main": [7]}}}, "input.given.a.main"),
        ({"given": {"a": {"main": [{}] * 10_001}}}, "input.given"),
    ],
)
async def test_a_part_that_is_none_is_told_with_its_field(graph: Graph, words: Any, field: str) -> None:
    ada = caller()
    made = await graph.create(ada, flow("a", "b"))
    answer = await run(graph, ada, made["id"], **words)
    assert (answer["__typename"], answer["field"]) == ("Invalid", field)
    assert answer["nextStep"]
