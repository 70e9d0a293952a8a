"""Workflows through the schema: create, save, conflict, restore, rename, archive, delete, list."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event

from subgraphs.platform.domain import Caller, uuid7
from subgraphs.platform.server import ground_opened
from subgraphs.platform.settings import Settings
from subgraphs.workflow import service
from tests.subgraphs.workflow.workflow_graph import PROBLEM, Graph, caller, flow

READ = """query($id: ID!) { workflow(id: $id) { id name archived createdBy { id }
  draft { number definition } currentRelease { number }
  revisions { edges { node { number parent restoredFrom name message definition author { id } } } } } }"""
CHANGE = f"""{{ __typename ... on Workflow {{ id name archived
  draft {{ number parent restoredFrom message definition hash }}
  revisions {{ edges {{ node {{ number name }} }} }} }} {PROBLEM} }}"""


def mutation(name: str, kind: str, answer: str = CHANGE) -> str:
    return f"mutation($input: {kind}!) {{ {name}(input: $input) {answer} }}"


RESTORE = mutation("restoreRevision", "RestoreRevisionInput")
NAME = mutation("nameRevision", "NameRevisionInput")
RENAME = mutation("renameWorkflow", "RenameWorkflowInput")
ARCHIVE = mutation("archiveWorkflow", "ArchiveWorkflowInput")
DELETE = mutation(
    "deleteWorkflow", "DeleteWorkflowInput", f"{{ __typename ... on DeletedWorkflow {{ id }} {PROBLEM} }}"
)


async def read(graph: Graph, by: Caller, workflow: str) -> Any:
    return await graph.ask(READ, by, id=workflow)


@pytest.mark.shows("WF-01")
async def test_a_new_workflow_has_its_first_draft(graph: Graph) -> None:
    ada = caller()
    made = await graph.create(ada, flow("a"), name="  Push to mail ")
    assert made["name"] == "Push to mail"
    assert made["draft"] | {"hash": ""} == {
        "number": 1,
        "parent": None,
        "name": None,
        "message": "first",
        "valid": True,
        "hash": "",
        "definition": flow("a"),
        "author": {"id": str(ada.subject)},
        "faults": [],
    }
    assert (await read(graph, ada, made["id"]))["createdBy"] == {"id": str(ada.subject)}


async def test_a_new_workflow_may_be_empty(graph: Graph) -> None:
    made = await graph.create(caller())
    assert made["draft"]["definition"] == {"format": "linkflow/1", "nodes": []}
    assert not made["draft"]["valid"]


@pytest.mark.shows("WF-03")
async def test_every_save_is_a_revision_with_author_message_and_parent(graph: Graph) -> None:
    ada = caller()
    bob = caller(tenant=ada.tenant)
    made = await graph.create(ada, flow("a"))
    saved = await graph.save(bob, made["id"], 1, flow("a", "b"), " adds b ")
    assert (saved["draft"]["number"], saved["draft"]["parent"], saved["draft"]["message"]) == (2, 1, "adds b")
    history = [edge["node"] for edge in (await read(graph, ada, made["id"]))["revisions"]["edges"]]
    assert [(each["number"], each["author"]["id"], each["definition"]) for each in history] == [
        (2, str(bob.subject), flow("a", "b")),
        (1, str(ada.subject), flow("a")),
    ]


@pytest.mark.shows("WF-01")
async def test_a_stale_save_gets_both_versions_and_their_base_and_writes_nothing(graph: Graph) -> None:
    ada = caller()
    bob = caller(tenant=ada.tenant)
    made = await graph.create(ada, flow("a"))
    await graph.save(bob, made["id"], 1, flow("b"), "bob's")
    conflict = await graph.save(ada, made["id"], 1, flow("c"), "ada's")
    assert conflict["__typename"] == "DraftConflict"
    assert conflict["yours"] == flow("c")
    assert conflict["theirs"] == {
        "number": 2,
        "message": "bob's",
        "definition": flow("b"),
        "author": {"id": str(bob.subject)},
    }
    assert conflict["base"] == {"number": 1, "definition": flow("a")}
    assert conflict["field"] == "input.baseRevision"
    assert "baseRevision 2" in conflict["nextStep"]
    assert (await read(graph, ada, made["id"]))["draft"]["number"] == 2


@pytest.mark.shows("WF-01", "ES-01")
async def test_of_saves_at_the_same_moment_one_wins_and_the_others_get_the_conflict(graph: Graph) -> None:
    ada = caller()
    made = await graph.create(ada, flow("a"))
    answers = await asyncio.gather(*(graph.save(ada, made["id"], 1, flow(f"n{n}")) for n in range(6)))
    assert sorted(each["__typename"] for each in answers) == ["DraftConflict"] * 5 + ["Workflow"]
    won = next(each for each in answers if each["__typename"] == "Workflow")
    assert all(each["theirs"]["number"] == 2 for each in answers if each is not won)
    assert (await read(graph, ada, made["id"]))["draft"]["definition"] == won["draft"]["definition"]


@pytest.mark.shows("WF-01")
async def test_the_same_save_sent_twice_is_one_revision(graph: Graph) -> None:
    ada = caller()
    made = await graph.create(ada, flow("a"))
    for _ in range(2):
        saved = await graph.save(ada, made["id"], 1, flow("b"))
        assert saved["draft"]["number"] == 2


async def test_a_base_that_never_was_is_told(graph: Graph) -> None:
    ada = caller()
    made = await graph.create(ada, flow("a"))
    answer = await graph.save(ada, made["id"], 7, flow("b"))
    assert (answer["__typename"], answer["field"]) == ("Missing", "input.baseRevision")


@pytest.mark.shows("WF-12")
async def test_a_draft_with_faults_is_saved_with_them(graph: Graph) -> None:
    ada = caller()
    faulty = flow("a")
    faulty["nodes"].append({"id": "lost", "type": "core.st", "version": "1.0.0"})
    made = await graph.create(ada, faulty)
    assert not made["draft"]["valid"]
    assert [fault["code"] for fault in made["draft"]["faults"]] == ["node.type_unknown", "node.unreachable"]


@pytest.mark.shows("WF-12")
@pytest.mark.parametrize(
    ("definition", "fault"),
    [
        ({"format": "linkflow/2", "nodes": []}, {"code": "definition.format", "pointer": "/format"}),
        ("text", {"code": "definition.shape", "pointer": ""}),
        ([], {"code": "definition.shape", "pointer": ""}),
        (flow("a b"), {"code": "definition.identifier", "pointer": "/nodes/1/id"}),
    ],
)
async def test_what_is_no_definition_is_refused_with_its_faults(graph: Graph, definition: Any, fault: Any) -> None:
    answer = await graph.create(caller(), definition)
    assert answer["__typename"] == "InvalidDefinition"
    assert fault in answer["faults"]


@pytest.mark.shows("WF-03")
async def test_restoring_makes_a_new_revision_and_changes_no_old_one(graph: Graph) -> None:
    ada = caller()
    made = await graph.create(ada, flow("a"))
    await graph.save(ada, made["id"], 1, flow("b"))
    back = await graph.ask(RESTORE, ada, input={"workflowId": made["id"], "revision": 1})
    draft = back["draft"]
    assert (draft["number"], draft["parent"], draft["restoredFrom"], draft["definition"]) == (3, 2, 1, flow("a"))
    assert draft["hash"] == made["draft"]["hash"]
    history = (await read(graph, ada, made["id"]))["revisions"]["edges"]
    assert [edge["node"]["definition"] for edge in history] == [flow("a"), flow("b"), flow("a")]
    missing = await graph.ask(RESTORE, ada, input={"workflowId": made["id"], "revision": 9})
    assert (missing["__typename"], missing["field"]) == ("Missing", "input.revision")


@pytest.mark.shows("WF-03")
async def test_a_revision_can_be_named_once_per_name(graph: Graph) -> None:
    ada = caller()
    made = await graph.create(ada, flow("a"))
    await graph.save(ada, made["id"], 1, flow("b"))

    async def name(revision: int, text: str | None) -> Any:
        return await graph.ask(NAME, ada, input={"workflowId": made["id"], "revision": revision, "name": text})

    named = await name(1, "before the move")
    assert [edge["node"]["name"] for edge in named["revisions"]["edges"]] == [None, "before the move"]
    assert (await name(2, "before the move"))["code"] == "name_taken"
    assert (await name(1, None))["revisions"]["edges"][1]["node"]["name"] is None
    assert (await name(2, "before the move"))["revisions"]["edges"][0]["node"]["name"] == "before the move"


@pytest.mark.shows("WF-01")
@pytest.mark.parametrize("name", ["", "   ", "x" * 201, "nul\0"])
async def test_names_are_bounded(graph: Graph, name: str) -> None:
    answer = await graph.create(caller(), flow("a"), name=name)
    assert (answer["__typename"], answer["field"]) == ("Invalid", "input.name")


@pytest.mark.shows("WF-01")
async def test_an_archived_workflow_is_hidden_from_the_list_and_not_changed(graph: Graph) -> None:
    ada = caller()
    made = await graph.create(ada, flow("a"))

    async def listed(archived: bool | None) -> list[str]:
        query = "query($archived: Boolean) { workflows(archived: $archived) { edges { node { id } } } }"
        return [edge["node"]["id"] for edge in (await graph.ask(query, ada, archived=archived))["edges"]]

    archived = await graph.ask(ARCHIVE, ada, input={"workflowId": made["id"]})
    assert archived["archived"]
    assert (await listed(False), await listed(True), await listed(None)) == ([], [made["id"]], [made["id"]])
    refused = await graph.save(ada, made["id"], 1, flow("b"))
    assert (refused["__typename"], refused["code"]) == ("Conflict", "workflow_archived")
    back = await graph.ask(ARCHIVE, ada, input={"workflowId": made["id"], "archived": False})
    assert not back["archived"]
    assert await listed(False) == [made["id"]]


@pytest.mark.shows("WF-01")
async def test_a_deleted_workflow_is_gone(graph: Graph) -> None:
    ada = caller()
    made = await graph.create(ada, flow("a"))
    assert (await graph.ask(DELETE, ada, input={"workflowId": made["id"]}))["id"] == made["id"]
    assert await read(graph, ada, made["id"]) is None
    for answer in (
        await graph.save(ada, made["id"], 1, flow("b")),
        await graph.ask(DELETE, ada, input={"workflowId": made["id"]}),
    ):
        assert answer["__typename"] == "Missing"


@pytest.mark.shows("WF-01")
async def test_the_list_pages_newest_first_and_searches_names(graph: Graph) -> None:
    ada = caller()
    names = [f"flow {n}" for n in range(5)] + ["100%_done"]
    for name in names:
        await graph.create(ada, name=name)
    query = """query($after: String, $search: String) { workflows(first: 2, after: $after, search: $search) {
      edges { node { name } } pageInfo { hasNextPage endCursor } } }"""
    seen, after, pages = [], None, 0
    while pages < 5:
        pages += 1
        page = await graph.ask(query, ada, after=after)
        seen += [edge["node"]["name"] for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert (seen, pages) == (names[::-1], 3)
    for search, expected in {"FLOW 3": ["flow 3"], "%": ["100%_done"], "_": ["100%_done"], "\0": names[:3:-1]}.items():
        page = await graph.ask(query, ada, search=search)
        assert [edge["node"]["name"] for edge in page["edges"]] == expected


@pytest.mark.parametrize("after", ["rubbish", "WzFd", "WyJhIl0", "WzEsMl0"])
async def test_a_foreign_cursor_is_told(graph: Graph, after: str) -> None:
    result = await graph.raw("query($a: String) { workflows(after: $a) { edges { node { id } } } }", caller(), a=after)
    assert result.data == {"workflows": None}
    assert "cursor" in result.errors[0].message


async def test_a_list_of_fifty_workflows_is_one_statement(graph: Graph) -> None:
    ada = caller()
    for n in range(50):
        await graph.create(ada, flow(f"n{n}"))
    statements: list[str] = []
    engine = graph.ground.database.api.sync_engine

    def count(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if "set_config" not in statement:
            statements.append(statement)

    event.listen(engine, "before_cursor_execute", count)
    try:
        query = """{ workflows(first: 50) { edges { node { id name createdBy { id }
          draft { number valid faults { code } } currentRelease { number activation { state } } } } } }"""
        assert len((await graph.ask(query, ada))["edges"]) == 50
        assert len(statements) == 1
        statements.clear()
        nested = """{ workflows(first: 50) { edges { node { draft { definition }
          revisions(first: 5) { edges { node { number definition } } } releases { edges { node { number } } } } } } }"""
        assert len((await graph.ask(nested, ada))["edges"]) == 50
        assert len(statements) <= 5  # the list, revisions, releases, and documents once or twice
    finally:
        event.remove(engine, "before_cursor_execute", count)


async def intruded(graph: Graph, eve: Caller, workflow: str) -> list[Any]:
    """What every operation on a workflow answers to `eve`."""
    found = [await read(graph, eve, workflow), await graph.save(eve, workflow, 1, flow("b"))]
    for document, more in (
        (RESTORE, {"revision": 1}),
        (NAME, {"revision": 1, "name": "x"}),
        (RENAME, {"name": "x"}),
        (ARCHIVE, {}),
        (DELETE, {}),
    ):
        found.append(await graph.ask(document, eve, input={"workflowId": workflow, **more}))
    entity = "query($r: [_Any!]!) { _entities(representations: $r) { ... on Workflow { name } } }"
    found.append(await graph.ask(entity, eve, r=[{"__typename": "Workflow", "id": workflow}]))
    return found


@pytest.mark.shows("TE-02", "T01", "T08")
@pytest.mark.parametrize("filtered", [True, False], ids=["both walls", "row-level security alone"])
async def test_another_tenants_workflow_and_a_random_id_are_answered_alike(
    graph: Graph, settings: Settings, filtered: bool
) -> None:
    ada, eve = caller(), caller()
    made = await graph.create(ada, flow("a"))
    async with ground_opened(replace(settings, tenant_filter=filtered), [service.build]) as ground:
        door = Graph(ground, ground.subgraphs[0])
        foreign = await intruded(door, eve, made["id"])
        assert foreign == await intruded(door, eve, str(uuid7()))
        assert foreign[0] is None
        assert foreign[-1] == [None]
        assert all(each["__typename"] == "Missing" for each in foreign[1:-1])
        listed = "{ workflows(archived: null) { edges { node { id } } } }"
        assert await door.ask(listed, eve) == {"edges": []}
        assert len((await door.ask(listed, ada))["edges"]) == 1
    assert (await read(graph, ada, made["id"]))["draft"]["number"] == 1


@pytest.mark.parametrize("workflow", ["", "7", "not-an-id", "0" * 36])
async def test_a_malformed_id_names_its_field(graph: Graph, workflow: str) -> None:
    answer = await graph.save(caller(), workflow, 1, flow("a"))
    assert (answer["__typename"], answer["code"], answer["field"]) == ("Invalid", "id_malformed", "input.workflowId")


@pytest.mark.shows("US-03")
async def test_viewers_read_and_do_not_write(graph: Graph) -> None:
    ada = caller()
    viewer = caller("viewer", ada.tenant)
    made = await graph.create(ada, flow("a"))
    assert (await read(graph, viewer, made["id"]))["id"] == made["id"]
    assert (await graph.create(viewer, flow("a")))["__typename"] == "Forbidden"
    for answer in (
        await graph.save(viewer, made["id"], 1, flow("b")),
        await graph.ask(RENAME, viewer, input={"workflowId": made["id"], "name": "x"}),
        await graph.ask(DELETE, caller("operator", ada.tenant), input={"workflowId": made["id"]}),
    ):
        assert answer["__typename"] == "Forbidden"


async def test_the_anonymous_see_nothing(graph: Graph) -> None:
    result = await graph.raw("{ workflows { edges { node { id } } } }", Caller())
    assert result.data == {"workflows": None}
    assert "Log in" in result.errors[0].message
