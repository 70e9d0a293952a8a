"""Whatever is sent, validation answers with faults and never breaks."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subgraphs.engine.definition import Definition, Faults
from subgraphs.engine.faults import Fault
from subgraphs.engine.validation import blocking, validate
from tests.subgraphs.engine.test_structure import CATALOGUE
from tests.subgraphs.engine.test_validation import edge, flow, node

SOUND = flow(
    node("get", "http", parameters={"url": "{{ trigger.url }}", "method": "POST", "body": {"a": [1, "x"]}}),
    node("way", "switch", parameters={"rules": [{"output": "a"}]}, settings={"onError": "output", "timeout": "PT5S"}),
)

SOUND["inputs"] = [{"name": "who", "type": "string", "default": "me"}]
SOUND["nodes"] += [
    node("loop", "loop", parameters={}),
    node(
        "work",
        "set",
        parameters={},
        settings={"compensate": "undo", "join": "any", "onCrash": "park"},
        pinned=[{"a": 1}],
    ),
    node("undo", "set", parameters={"fields": {"x": "{{ nodes.work.item.a }}"}}),
    node("tidy", "set", parameters={"fields": {"x": "{{ nodes.get.items }}"}}),
]
SOUND["connections"] += [
    edge("way", "loop", output="a"),
    edge("loop", "work", output="each"),
    edge("work", "loop", input="next"),
]
SOUND["settings"] = {
    "finally": ["tidy"],
    "errorWorkflow": {"workflowId": "00000000-0000-4000-8000-000000000001"},
    "concurrency": {"limit": 2, "key": "{{ trigger.who }}", "onLimit": "roundRobin"},
    "debounce": {"period": "PT1S", "maxWait": "PT5S"},
    "priority": "{{ trigger.n }}",
}

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(
        ["{{ item.a }}", "{{ nodes.way.item }}", "{{", "{{ 1 + }}", "start", "core.http", "1.0.0", "main"]
    )
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    found = [path]
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        found += places(each, (*path, key))
    return found


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.deepcopy(document)
    holder = changed
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return changed


def resolves(document: Any, pointer: str) -> bool:
    """Whether the pointer leads somewhere, or to a place that is missing in something that is there."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    for depth, part in enumerate(parts):
        if isinstance(document, list):
            document = document[int(part)]
        elif isinstance(document, dict) and part in document:
            document = document[part]
        else:
            return depth == len(parts) - 1
    return True


def check(document: Any) -> list[Fault]:
    faults = validate(document, CATALOGUE)
    for fault in faults:
        assert fault.message
        assert fault.code
        assert resolves(document, fault.pointer), fault
    assert orjson.dumps([fault.message for fault in faults])
    return faults


@pytest.mark.shows("WF-12")
@given(anything)
def test_any_json_is_answered_with_faults(value: Any) -> None:
    assert blocking(check(value))


@pytest.mark.shows("WF-12")
@settings(max_examples=400)
@given(st.sampled_from(places(SOUND)), anything)
def test_a_definition_with_one_part_replaced_is_answered(path: tuple[Any, ...], value: Any) -> None:
    document = replaced(SOUND, path, value)
    faults = check(document)
    with contextlib.suppress(Faults):  # no definition: validate told so
        parsed = Definition.parse(document)
        assert Definition.parse(parsed.canonical).hash == parsed.hash
        return
    assert blocking(faults)


@pytest.mark.shows("WF-12")
@given(st.binary(max_size=40))
def test_any_bytes_are_answered(text: bytes) -> None:
    assert blocking(validate(text, CATALOGUE))


def test_the_definition_the_others_start_from_is_sound() -> None:
    assert validate(SOUND, CATALOGUE) == []
