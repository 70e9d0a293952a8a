"""Steps between processes: what arrives is what was sent, as far as a body can tell."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subgraphs.engine.step import Item, Line, Reply, Source, StepError, StepOutcome, StepRequest, Wait
from subgraphs.engine.wire import outcome_read, outcome_sent, request_read, request_sent

MOMENT = datetime(2026, 5, 4, 12, 0, 0, 123_456, tzinfo=UTC)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ITEMS = st.lists(st.dictionaries(st.text(), JSON, max_size=3).map(Item), max_size=4)


class Nodes(dict[str, Sequence[Item]]):
    """Nodes as a run has them: the input item at position n descends from the item of node `a` at n + 1."""

    def __init__(self, inputs: Sequence[Item], **nodes: Sequence[Item]) -> None:
        super().__init__(nodes)
        self._inputs = inputs

    def ancestor(self, item: Item, node: str) -> Item | None:
        at = next(index for index, each in enumerate(self._inputs) if each is item) + 1
        return self[node][at] if node == "a" and at < len(self[node]) else None


def request(parameters: Any, inputs: Sequence[Item] = (), **nodes: Sequence[Item]) -> StepRequest:
    links = {"ask": "https://a.example/answers/1"}
    execution = {"id": "e", "workflowId": None, "mode": "draft", "startedAt": MOMENT, "links": links}
    return StepRequest(
        tenant=UUID(int=1),
        execution=UUID(int=2),
        workflow=UUID(int=3),
        node="n",
        type="core.set",
        version="1.0.0",
        attempt=2,
        idempotency_key="key",
        parameters=parameters,
        inputs={"main": list(inputs)},
        scope={"nodes": Nodes(inputs, **nodes), "trigger": {"t": 1}, "execution": execution, "vars": {"v": 2}},
        now=MOMENT,
        seed=2**61,
        timeout=1.5,
        on_error="output",
    )


@given(st.dictionaries(st.text(), JSON, max_size=3), ITEMS)
def test_a_request_arrives_as_it_was(parameters: dict[str, Any], inputs: list[Item]) -> None:
    sent = request(parameters, inputs)
    read = request_read(request_sent(sent))
    for name in StepRequest.__struct_fields__:
        if name != "scope":
            assert getattr(read, name) == getattr(sent, name), name
    for name in ("trigger", "execution", "vars"):
        assert read.scope[name] == sent.scope[name]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{{ item.a }}", set()),
        ("{{ nodes.a.item.x }}", {"a"}),
        ("{{ nodes . a.item.x + nodes.b.items[0].x }}", {"a", "b"}),
        ('{{ nodes["c"].item }}', {"a", "b", "c"}),
        ("{{ nodes.map(n, n) }}", {"a", "b", "c"}),
        ("const {a} = nodes; return a", {"a", "b", "c"}),
        ("let k = 'b'\nnodes[k]", {"a", "b", "c"}),
    ],
)
def test_the_nodes_that_parameters_speak_of_travel_along(text: str, named: set[str]) -> None:
    sent = request({"p": [text]}, a=[Item({"x": 1})], b=[Item({"x": 2})], c=[])
    found = set(request_read(request_sent(sent)).scope["nodes"])
    assert found >= named
    assert named or not found


def test_an_input_item_finds_its_ancestor() -> None:
    inputs = [Item({"n": 0}), Item({"n": 1}), Item({"n": 2})]
    sent = request({"p": "{{ nodes.a.item + nodes.b.item }}"}, inputs, a=[Item({"of": n}) for n in range(3)], b=[])
    read = request_read(request_sent(sent))
    nodes = read.scope["nodes"]
    found = [nodes.ancestor(item, "a") for item in read.inputs["main"]]
    assert [item and item.json for item in found] == [{"of": 1}, {"of": 2}, None]
    assert all(item is None or any(item is one for one in nodes["a"]) for item in found)
    assert nodes.ancestor(read.inputs["main"][0], "b") is None


def test_unchanged_items_come_back_as_the_very_same_objects() -> None:
    inputs = [Item({"n": 1}), Item({"n": 1})]
    sent = request({}, inputs)
    there = request_read(request_sent(sent))
    made = Item({"n": 1}, {}, (Source("", "main", 1),))
    outcome = StepOutcome({"main": [there.inputs["main"][1], made, there.inputs["main"][0]], "error": []})
    back = outcome_read(sent, outcome_sent(there, outcome))
    assert back.outputs["main"][0] is inputs[1]
    assert back.outputs["main"][2] is inputs[0]
    assert back.outputs["main"][1] == made
    assert back.outputs["error"] == []


@pytest.mark.parametrize(
    "outcome",
    [
        StepOutcome(wait=Wait(MOMENT)),
        StepOutcome(reply=Reply(201, {"x-a": "b"}, {"deep": [1, None]}, "application/json")),
        StepOutcome(error=StepError("a.b", "Why.", "timeout", True, 2.5, "field", {"pointer": "/p"})),
        StepOutcome({"main": [Item({"big": 10**30})]}, lines=[Line("info", "said", 1.5)], lines_dropped=3),
    ],
)
def test_an_outcome_arrives_as_it_was(outcome: StepOutcome) -> None:
    assert outcome_read(request({}), outcome_sent(request({}), outcome)) == outcome
