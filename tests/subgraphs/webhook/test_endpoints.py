"""How endpoints come, stay and go; and their graph."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from subgraphs.auth import service as auth
from subgraphs.platform.domain import uuid7
from subgraphs.platform.settings import Settings
from subgraphs.tenant import service as tenant
from subgraphs.user import service as user
from subgraphs.webhook import service as webhook
from subgraphs.webhook.domain import Wish
from tests.subgraphs.graph_client import Client, served
from tests.subgraphs.webhook.conftest import SECRET, Hooks


@pytest.mark.shows("WH-03", "WH-01")
async def test_publishing_again_keeps_the_url_and_the_secret(hooks: Hooks) -> None:
    workflow = uuid7()
    (first,) = await hooks.publish(workflow, hook={"auth": "header"})
    await hooks.configure(first, Wish(secret=SECRET))
    for _ in range(20):
        (again,) = await hooks.publish(workflow, hook={"auth": "header"})
    assert (again.id, again.token, again.secret, again.release) == (first.id, first.token, SECRET.encode(), 21)
    assert (await hooks.post(again, headers={"x-webhook-secret": SECRET})).status_code == 200


async def test_a_release_that_asks_for_more_than_the_last_closes_until_there_is_a_secret(hooks: Hooks) -> None:
    workflow = uuid7()
    (first,) = await hooks.publish(workflow, hook={})
    assert (await hooks.post(first)).status_code == 200
    await hooks.publish(workflow, hook={"auth": "github"})
    assert (await hooks.post(first)).json()["code"] == "endpoint_needs_secret"


async def test_a_configured_way_survives_releases_that_declare_nothing_new(hooks: Hooks) -> None:
    from subgraphs.webhook.domain import Auth

    workflow = uuid7()
    (first,) = await hooks.publish(workflow, hook={})
    await hooks.configure(first, Wish(auth=Auth.HEADER, secret=SECRET))
    (again,) = await hooks.publish(workflow, hook={"methods": ["PUT"]})
    assert (again.auth, again.secret, again.terms.methods) == (Auth.HEADER, SECRET.encode(), ("PUT",))


async def test_a_node_that_left_retires_its_url_and_returns_with_it(hooks: Hooks) -> None:
    workflow = uuid7()
    first = {endpoint.node: endpoint for endpoint in await hooks.publish(workflow, one={}, two={})}
    (left,) = await hooks.publish(workflow, one={})
    assert left.id == first["one"].id
    assert (await hooks.post(first["two"])).status_code == 404
    assert (await hooks.post(first["one"])).status_code == 200
    back = {endpoint.node: endpoint for endpoint in await hooks.publish(workflow, one={}, two={})}
    assert back["two"].token == first["two"].token
    assert (await hooks.post(first["two"])).status_code == 200


async def test_an_older_release_that_arrives_late_changes_nothing(hooks: Hooks) -> None:
    workflow = uuid7()
    (first,) = await hooks.publish(workflow, hook={})
    await hooks.publish(workflow, hook={})
    hooks.releases[workflow] = 0
    (late,) = await hooks.publish(workflow, hook={"methods": ["PUT"]})
    assert (late.release, late.terms.methods, late.token) == (2, ("POST",), first.token)


@pytest.mark.parametrize("gone", ["workflow.workflow.archived.v1", "workflow.workflow.deleted.v1"])
async def test_urls_close_with_their_workflow(hooks: Hooks, gone: str) -> None:
    workflow = uuid7()
    (endpoint,) = await hooks.publish(workflow, hook={})
    assert (await hooks.post(endpoint)).status_code == 200
    await hooks.tell(gone, workflow, {"workflowId": str(workflow)})
    while (await hooks.post(endpoint)).status_code == 200:
        pass
    assert (await hooks.post(endpoint)).status_code == 404
    await hooks.tell("workflow.workflow.unarchived.v1", workflow, {"workflowId": str(workflow)})
    while (await hooks.post(endpoint)).status_code == 404:
        pass
    assert (await hooks.post(endpoint)).status_code == 200


async def test_a_definition_may_come_by_claim_check(hooks: Hooks) -> None:
    import orjson

    workflow = uuid7()
    definition = {"nodes": [{"id": "hook", "type": "core.webhook", "version": "1.0.0"}], "connections": []}
    reference = await hooks.ground.objects.put(hooks.tenant, orjson.dumps(definition))
    held = hooks.expect("webhook.release.held.v1", lambda event: event.data["workflowId"] == str(workflow))
    data = {"workflowId": str(workflow), "release": 1, "definition": reference.json()}
    await hooks.tell("workflow.release.published.v1", workflow, data)
    told = await held
    (endpoint,) = await hooks.endpoints_of(workflow)
    assert told.data["endpoints"] == [{"endpointId": str(endpoint.id), "node": "hook", "state": "active"}]


ENDPOINT = "id url node release methods auth headerName preset responseMode state secretSet createdAt workflow { id }"
LIST = f"query($id: ID!) {{ endpoints(workflowId: $id) {{ {ENDPOINT} }} }}"
ONE = f"""query($id: ID!, $first: Int! = 20, $after: String) {{ endpoint(id: $id) {{ {ENDPOINT}
  calls(first: $first, after: $after) {{ edges {{ cursor node {{ id receivedAt method path size contentType status
    outcome reason execution {{ id }} duplicateOf }} }} pageInfo {{ hasNextPage endCursor }} }} }} }}"""
CONFIGURE = f"""mutation($input: ConfigureEndpointInput!) {{ configureEndpoint(input: $input) {{
  __typename ... on Endpoint {{ {ENDPOINT} }} ... on Problem {{ code message field nextStep }} }} }}"""
ROTATE = f"""mutation($input: RotateEndpointUrlInput!) {{ rotateEndpointUrl(input: $input) {{
  __typename ... on Endpoint {{ {ENDPOINT} }} ... on Problem {{ code message field nextStep }} }} }}"""


@pytest.fixture(scope="module")
async def door(settings: Settings) -> AsyncIterator[Client]:
    async with served(settings, auth.build, user.build, tenant.build, webhook.build) as client:
        yield client


@pytest.fixture
async def owner(door: Client) -> Client:
    return await door.sign_up()


def own(client: Client) -> Hooks:
    """The same caller's webhooks, called in process."""
    return Hooks(client.ground, client.http, "http://subgraphs", UUID(client.session["tenant"]["id"]))


@pytest.mark.shows("WH-01")
async def test_an_owner_sees_configures_and_calls_an_endpoint(owner: Client) -> None:
    hooks = own(owner)
    workflow = uuid7()
    (endpoint,) = await hooks.publish(workflow, hook={"methods": ["POST"], "respond": "now"})
    (found,) = (await owner.ask("webhook", LIST, {"id": str(workflow)}))["endpoints"]
    assert found["url"] == f"{owner.ground.settings.public_url}/hooks/{endpoint.token}"
    assert (found["state"], found["auth"], found["secretSet"], found["workflow"]) == (
        "ACTIVE",
        "NONE",
        False,
        {"id": str(workflow)},
    )
    wish = {"endpointId": found["id"], "auth": "HMAC", "preset": "GITHUB"}
    closed = (await owner.ask("webhook", CONFIGURE, {"input": wish}))["configureEndpoint"]
    assert (closed["state"], closed["preset"], closed["headerName"]) == (
        "NEEDS_SECRET",
        "GITHUB",
        "X-Hub-Signature-256",
    )
    assert (await hooks.post(endpoint)).status_code == 503
    opened = (await owner.ask("webhook", CONFIGURE, {"input": wish | {"secret": SECRET}}))["configureEndpoint"]
    assert (opened["state"], opened["secretSet"], opened["url"]) == ("ACTIVE", True, found["url"])
    assert (await hooks.post(endpoint)).status_code == 401
    data = (await owner.ask("webhook", ONE, {"id": found["id"], "first": 1}))["endpoint"]
    (edge,) = data["calls"]["edges"]
    assert (edge["node"]["outcome"], edge["node"]["reason"]) == ("REFUSED", "signature_missing")
    after = data["calls"]["pageInfo"]
    assert after["hasNextPage"]
    page = {"id": found["id"], "first": 1, "after": after["endCursor"]}
    data = (await owner.ask("webhook", ONE, page))["endpoint"]
    assert data["calls"]["edges"][0]["node"]["reason"] == "endpoint_needs_secret"
    assert not data["calls"]["pageInfo"]["hasNextPage"]


@pytest.mark.shows("WH-01")
async def test_a_rotated_url_replaces_the_old_one_at_once(owner: Client) -> None:
    hooks = own(owner)
    (endpoint,) = await hooks.publish(hook={})
    assert (await hooks.post(endpoint)).status_code == 200
    answer = (await owner.ask("webhook", ROTATE, {"input": {"endpointId": str(endpoint.id)}}))["rotateEndpointUrl"]
    assert endpoint.token not in answer["url"]
    assert (await hooks.post(endpoint)).status_code == 404
    token = answer["url"].rsplit("/", 1)[1]
    assert (await hooks.http.post(f"http://subgraphs/webhook/hooks/{token}", json={})).status_code == 200


@pytest.fixture(scope="module", params=[True, False], ids=["filter on", "filter off"])
async def walled(fresh_settings: Callable[..., Any], request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    """With the filter off, row-level security alone keeps tenants apart."""
    settings = await fresh_settings(tenant_filter=request.param)
    async with served(settings, auth.build, user.build, tenant.build, webhook.build) as client:
        yield client


@pytest.mark.shows("TE-03")
async def test_another_tenants_endpoints_are_not_there(walled: Client) -> None:
    owner, door = await walled.sign_up(), walled
    hooks = own(owner)
    workflow = uuid7()
    (endpoint,) = await hooks.publish(workflow, hook={})
    stranger = await door.sign_up()
    assert (await stranger.ask("webhook", LIST, {"id": str(workflow)}))["endpoints"] == []
    assert (await stranger.ask("webhook", ONE, {"id": str(endpoint.id)}))["endpoint"] is None
    for query, field, more in (
        (CONFIGURE, "configureEndpoint", {"auth": "NONE"}),
        (ROTATE, "rotateEndpointUrl", {}),
    ):
        words: dict[str, Any] = {"input": {"endpointId": str(endpoint.id)} | more}
        answer = (await stranger.ask("webhook", query, words))[field]
        assert (answer["__typename"], answer["field"]) == ("Missing", "input.endpointId")
    assert (await hooks.endpoints_of(workflow))[0].token == endpoint.token


@pytest.mark.parametrize(
    ("wish", "code", "field"),
    [
        ({"secret": "short", "auth": "HEADER"}, "secret_length", "input.secret"),
        ({"secret": "x" * 1025, "auth": "HEADER"}, "secret_length", "input.secret"),
        ({"secret": SECRET}, "secret_without_auth", "input.secret"),
        ({"auth": "HEADER", "headerName": "Bad Name", "secret": SECRET}, "invalid", "input.headerName"),
        ({"auth": "HEADER", "headerName": "X\r\nY", "secret": SECRET}, "invalid", "input.headerName"),
        ({"auth": "HEADER", "preset": "GITHUB", "secret": SECRET}, "preset_without_hmac", "input.preset"),
        ({"endpointId": "nothing"}, "id_malformed", "input.endpointId"),
        ({"endpointId": str(uuid4())}, "missing", "input.endpointId"),
    ],
)
async def test_a_wish_that_cannot_be_granted_says_why(
    owner: Client, wish: dict[str, Any], code: str, field: str
) -> None:
    hooks = own(owner)
    (endpoint,) = await hooks.publish(hook={})
    answer = await owner.ask("webhook", CONFIGURE, {"input": {"endpointId": str(endpoint.id)} | wish})
    problem = answer["configureEndpoint"]
    assert (problem["code"], problem["field"]) == (code, field)


async def test_the_anonymous_see_nothing(door: Client) -> None:
    answer = (await door.post("webhook", LIST, {"id": str(uuid4())})).json()
    assert answer["data"] == {"endpoints": None}
    assert answer["errors"][0]["extensions"]["code"] == "unauthenticated"
