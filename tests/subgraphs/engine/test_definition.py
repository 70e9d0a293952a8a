"""Format linkflow/1: what is accepted, what is refused and how, and the canonical form."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from subgraphs.engine.definition import Definition, Faults, pinned, seconds
from subgraphs.engine.shape import schema

HOOK = {"id": "hook", "type": "core.webhook", "version": "1.0.0"}


def document(*nodes: Any, **fields: Any) -> dict[str, Any]:
    return {"format": "linkflow/1", "nodes": list(nodes), **fields}


def refused(value: Any) -> list[tuple[str, str]]:
    with pytest.raises(Faults) as caught:
        Definition.parse(value)
    return [(fault.code, fault.pointer) for fault in caught.value.faults]


def test_defaults_are_filled_in() -> None:
    definition = Definition.parse(document(HOOK, connections=[{"from": "hook", "to": "hook"}]))
    node, (connection,) = definition.nodes["hook"], definition.connections
    assert (node.label, node.key, node.parameters, node.settings.on_error) == (
        "hook",
        "core.webhook@1.0.0",
        {},
        "stop",
    )
    assert (node.settings.retry.attempts, node.settings.retry.delay, node.settings.timeout) == (1, "PT1S", None)
    assert (connection.source, connection.output, connection.target, connection.input) == (
        "hook",
        "main",
        "hook",
        "main",
    )


@pytest.mark.shows("WF-12")
@pytest.mark.parametrize(
    ("value", "code", "pointer"),
    [
        (7, "definition.shape", ""),
        ({"nodes": []}, "definition.format", ""),
        ({"format": "linkflow/2", "nodes": []}, "definition.format", "/format"),
        ({"format": "linkflow/1"}, "definition.missing", ""),
        (document({**HOOK, "id": "two words"}), "definition.identifier", "/nodes/0/id"),
        (document({**HOOK, "id": "line\n"}), "definition.shape", ""),
        (document({**HOOK, "verson": "1"}), "definition.unknown_field", "/nodes/0/verson"),
        (document({"id": "a", "type": "core.set"}), "definition.missing", "/nodes/0"),
        (document({**HOOK, "parameters": []}), "definition.shape", "/nodes/0/parameters"),
        (document({**HOOK, "settings": {"timeout": "5s"}}), "definition.duration", "/nodes/0/settings/timeout"),
        (
            document({**HOOK, "settings": {"retry": {"delay": "1"}}}),
            "definition.duration",
            "/nodes/0/settings/retry/delay",
        ),
        (document({**HOOK, "settings": {"onError": "ignore"}}), "definition.shape", "/nodes/0/settings/onError"),
        (document({**HOOK, "settings": {"join": "some"}}), "definition.shape", "/nodes/0/settings/join"),
        (document({**HOOK, "settings": {"onCrash": "ask"}}), "definition.shape", "/nodes/0/settings/onCrash"),
        (
            document({**HOOK, "settings": {"compensate": "two words"}}),
            "definition.identifier",
            "/nodes/0/settings/compensate",
        ),
        (document({**HOOK, "pinned": [7]}), "definition.shape", "/nodes/0/pinned/0"),
        (document(HOOK, settings={"finally": "hook"}), "definition.shape", "/settings/finally"),
        (
            document(HOOK, settings={"errorWorkflow": {"workflowId": "x"}}),
            "definition.shape",
            "/settings/errorWorkflow/workflowId",
        ),
        (document(HOOK, settings={"concurrency": {}}), "definition.missing", "/settings/concurrency"),
        (document(HOOK, settings={"concurrency": {"limit": 0}}), "definition.shape", "/settings/concurrency/limit"),
        (
            document(HOOK, settings={"concurrency": {"limit": 1, "kee": "x"}}),
            "definition.unknown_field",
            "/settings/concurrency/kee",
        ),
        (
            document(HOOK, settings={"throttle": {"limit": 1, "period": "1m"}}),
            "definition.duration",
            "/settings/throttle/period",
        ),
        (
            document(HOOK, settings={"debounce": {"period": "PT1S", "maxWait": "1m"}}),
            "definition.duration",
            "/settings/debounce/maxWait",
        ),
        (document(HOOK, settings={"singleton": {"onLimit": "x"}}), "definition.shape", "/settings/singleton/onLimit"),
        (document(HOOK, settings={"priority": 101}), "definition.shape", "/settings/priority"),
        (document(HOOK, HOOK), "node.duplicate", "/nodes/1/id"),
        (document({**HOOK, "parameters": {"n": 2**70}}), "definition.json", ""),
        (document({**HOOK, "parameters": {"n": "\ud800"}}), "definition.json", ""),
        (b'{"format":', "definition.json", ""),
    ],
)
def test_another_shape_is_refused_with_its_place(value: Any, code: str, pointer: str) -> None:
    assert refused(value) == [(code, pointer)]


def test_every_fault_of_shape_is_told_at_once() -> None:
    broken = document({"id": "a b", "type": 1, "version": "1"}, {**HOOK, "colour": "red"}, colour="blue")
    assert set(refused(broken)) == {
        ("definition.unknown_field", "/colour"),
        ("definition.identifier", "/nodes/0/id"),
        ("definition.shape", "/nodes/0/type"),
        ("definition.unknown_field", "/nodes/1/colour"),
    }


def test_ten_thousand_faults_are_cut_short() -> None:
    assert len(refused(document(*({"id": index} for index in range(10_000))))) == 500


@pytest.mark.shows("WF-12")
@pytest.mark.parametrize("depth", [101, 10_000])
def test_parameters_of_great_depth_are_refused(depth: int) -> None:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    assert refused(document({**HOOK, "parameters": {"deep": value}})) == [("definition.depth", "")]


def test_parameters_may_nest_a_hundred_levels() -> None:
    value: Any = 1
    for _ in range(99):
        value = [value]
    assert Definition.parse(document({**HOOK, "parameters": {"deep": value}})).hash


@pytest.mark.shows("WF-12")
def test_more_nodes_than_the_limit_are_refused() -> None:
    nodes = ({**HOOK, "id": f"n{index}"} for index in range(20_001))
    assert refused(document(*nodes)) == [("definition.limit", "/nodes")]


def test_the_canonical_form_ignores_order_of_keys_and_nodes_and_written_defaults() -> None:
    one = Definition.parse(document(HOOK, {**HOOK, "id": "b", "parameters": {"x": 1, "y": 2}}))
    other = Definition.parse(
        document({"parameters": {"y": 2, "x": 1}, **HOOK, "id": "b", "settings": {"onError": "stop"}}, HOOK, inputs=[])
    )
    assert one.canonical == other.canonical
    assert one.hash == other.hash
    assert Definition.parse(one.canonical).hash == one.hash


def test_fields_that_came_later_leave_old_hashes_as_they_were() -> None:
    """The hash of a document written before there were joins, compensations, pinned items and limits."""
    old = document({**HOOK, "settings": {"onError": "output"}}, settings={"timeout": "PT1H"})
    assert Definition.parse(old).hash == "616309f803b2d24f4a221b94524f23bff3756bf58d5baeb217b680c6539a2b54"
    written = {"join": "all", "onCrash": None, "compensate": None}
    nothing = document(
        {**HOOK, "pinned": None, "settings": {"onError": "output", **written}},
        settings={"timeout": "PT1H", "finally": [], "errorWorkflow": None, "singleton": None, "priority": 0},
    )
    assert Definition.parse(nothing).canonical == Definition.parse(old).canonical


LIMITED: dict[str, Any] = {
    "finally": ["hook"],
    "errorWorkflow": {"workflowId": "00000000-0000-4000-8000-000000000001"},
    "concurrency": {"limit": 2, "key": "{{ trigger.who }}", "group": None, "onLimit": "roundRobin"},
    "throttle": {"limit": 5, "period": "PT1M", "key": None},
    "rateLimit": {"limit": 5, "period": "PT1M", "key": None},
    "debounce": {"period": "PT1S", "key": None, "maxWait": "PT5S"},
    "batch": {"size": 10, "timeout": "PT1S", "key": None},
    "singleton": {"key": None, "onLimit": "cancelOldest"},
    "priority": "{{ trigger.urgent ? 10 : 0 }}",
}


def test_every_later_field_is_kept_in_the_canonical_form() -> None:
    settings = {"join": "first", "onCrash": "park", "compensate": "undo"}
    node = {**HOOK, "settings": settings, "pinned": [{"a": 1}]}
    written = orjson.loads(Definition.parse(document(node, settings=LIMITED)).canonical)
    assert written["settings"] == {"timeout": None, **LIMITED}
    assert {name: written["nodes"][0]["settings"][name] for name in settings} == settings
    assert written["nodes"][0]["pinned"] == [{"a": 1}]
    assert Definition.parse(written).hash == Definition.parse(document(node, settings=LIMITED)).hash


@pytest.mark.shows("WF-21")
def test_pinned_items_leave_by_main_or_else_by_the_first_port() -> None:
    types = {
        "core.set@1.0.0": {"outputs": [{"name": "rest"}, {"name": "main"}]},
        "core.if@1.0.0": {"outputs": [{"name": "true"}, {"name": "false"}]},
    }
    plain = {"version": "1.0.0", "pinned": [{"a": 1}]}
    nodes = [{"id": "set", "type": "core.set", **plain}, {"id": "way", "type": "core.if", **plain}, HOOK]
    assert pinned(document(*nodes), types) == {"set": {"main": [{"a": 1}]}, "way": {"true": [{"a": 1}]}}


def test_the_hash_changes_with_the_content() -> None:
    base = Definition.parse(document(HOOK))
    assert base.hash != Definition.parse(document({**HOOK, "parameters": {"x": 1}})).hash
    assert base.hash != Definition.parse(document({**HOOK, "position": {"x": 1}})).hash


@pytest.mark.parametrize(
    ("text", "value"), [("PT30S", 30), ("PT1.5S", 1.5), ("PT1H1M1S", 3661), ("P1D", 86_400), ("P2DT1M", 172_860)]
)
def test_durations_are_read(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "P", "PT", "P1DT", "30", "PT5", "P1M", "P1Y", "-PT1S", "PT1S\n", "PT٣S"])
def test_other_texts_are_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        seconds(text)
    assert refused(document({**HOOK, "settings": {"timeout": text}}))


_scalars = st.none() | st.booleans() | st.integers(-3, 200) | st.sampled_from(["", "main", "PT5S", "5s", "stop", "n1"])
_settings = st.fixed_dictionaries(
    {},
    optional={
        "timeout": _scalars,
        "onError": _scalars | st.just("output"),
        "retry": st.fixed_dictionaries({}, optional={"attempts": _scalars, "jitter": _scalars, "maxDelay": _scalars}),
        "join": _scalars | st.just("any"),
        "onCrash": _scalars | st.just("park"),
        "compensate": _scalars,
    },
)
_keys = {"key": _scalars, "group": _scalars, "onLimit": _scalars | st.sampled_from(["queue", "skip"])}
_none: Any = {}
_limits = st.none() | st.fixed_dictionaries(
    _none, optional={**_keys, "limit": _scalars, "period": _scalars, "size": _scalars, "timeout": _scalars}
)
_whole: Any = {
    "timeout": _scalars,
    "finally": _scalars | st.lists(_scalars, max_size=2),
    "errorWorkflow": _limits | st.fixed_dictionaries({"workflowId": _scalars}),
    "debounce": st.none() | st.fixed_dictionaries({"period": st.just("PT1S")}, optional={"maxWait": _scalars}),
    "priority": _scalars,
    **dict.fromkeys(("concurrency", "throttle", "rateLimit", "batch", "singleton"), _limits),
}
_nodes = st.fixed_dictionaries(
    {"id": st.sampled_from(["a", "b", "c", "1a", "", 3]), "type": _scalars, "version": st.just("1.0.0")},
    optional={
        "name": _scalars,
        "parameters": st.just({}) | _scalars,
        "settings": _settings,
        "extra": _scalars,
        "pinned": st.none() | st.lists(st.just({}) | _scalars, max_size=2),
    },
)
_required: dict[str, st.SearchStrategy[Any]] = {
    "format": st.just("linkflow/1"),
    "nodes": st.lists(_nodes, max_size=2, unique_by=lambda node: str(node["id"])),
}
_parts: Any = {
    "connections": st.lists(st.fixed_dictionaries({"from": st.just("a"), "to": _scalars}), max_size=1),
    "inputs": st.lists(st.fixed_dictionaries({"name": st.just("who")}, optional={"type": _scalars}), max_size=1),
    "settings": st.fixed_dictionaries(_none, optional=_whole),
}
_documents = st.fixed_dictionaries(_required, optional=_parts)


@given(_documents)
def test_parser_and_published_schema_accept_the_same(value: Any) -> None:
    fits = Draft202012Validator(schema()).is_valid(value)
    try:
        parsed = Definition.parse(value)
    except Faults:
        assert not fits
    else:
        assert fits
        assert Draft202012Validator(schema()).is_valid(orjson.loads(parsed.canonical))
