"""Where forms find values to offer: queries of the graph, as `x-choices` of a parameter names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WORKFLOWS: Mapping[str, Any] = {
    "query": "query Choices($search: String) { workflows(first: 50, search: $search) { edges { node { id name } } } }",
    "items": "workflows.edges.node",
    "value": "id",
    "label": "name",
    "search": "search",
}
RELEASES: Mapping[str, Any] = {
    "query": "query Choices($workflow: ID!) { workflow(id: $workflow) { releases(first: 50) { edges { node "
    "{ number message } } } } }",
    "items": "workflow.releases.edges.node",
    "value": "number",
    "label": "message",
    "variables": {"workflow": "workflowId"},
}
PEOPLE: Mapping[str, Any] = {
    "query": "query Choices { organisation { members(first: 100) { edges { node { id name } } } } }",
    "items": "organisation.members.edges.node",
    "value": "id",
    "label": "name",
}
