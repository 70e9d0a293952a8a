"""Parameters against schemas: plain JSON Schema, and the three things that differ from it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from subgraphs.engine.parameters import Checker, defaults

HTTP: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["url", "body", "method"],
    "properties": {
        "url": {"type": "string", "minLength": 1},
        "method": {"enum": ["GET", "POST"], "default": "GET"},
        "body": {"type": "object", "x-show": {"method": ["POST"]}},
        "note": {"type": "string", "x-show": {"body": [{}]}},
        "token": {"type": "string", "x-secret": True},
        "tries": {"type": "integer", "minimum": 1, "maximum": 9},
        "pairs": {
            "type": "array",
            "maxItems": 2,
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "kind": {"enum": ["a", "b"]}},
            },
        },
    },
}


def found(parameters: Any, schema: dict[str, Any] = HTTP, **options: Any) -> list[tuple[str, tuple[str | int, ...]]]:
    return [(each.code, each.path) for each in Checker(schema, **options).findings(parameters)]


@pytest.mark.shows("WF-12")
@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"url": "http://a"}, []),
        ({}, [("parameter.missing", ("url",))]),
        ({"url": ""}, [("parameter.invalid", ("url",))]),
        ({"url": 5}, [("parameter.invalid", ("url",))]),
        ({"url": "x", "method": "PUT"}, [("parameter.invalid", ("method",))]),
        ({"url": "x", "urls": 1}, [("parameter.unknown", ("urls",))]),
        ({"url": "x", "tries": True}, [("parameter.invalid", ("tries",))]),
        ({"url": "x", "tries": 10}, [("parameter.invalid", ("tries",))]),
        ({"url": "x", "pairs": [{"name": "n"}, {"kind": "c"}]}, None),
        ({"url": "x", "pairs": [{"name": "n"}] * 3}, [("parameter.invalid", ("pairs",))]),
    ],
)
def test_parameters_are_checked_with_their_place(parameters: Any, expected: Any) -> None:
    nested = [("parameter.missing", ("pairs", 1, "name")), ("parameter.invalid", ("pairs", 1, "kind"))]
    assert found(parameters) == (nested if expected is None else expected)


@pytest.mark.shows("WF-12")
@pytest.mark.parametrize("name", ["url", "method", "tries", "pairs", "body"])
def test_an_expression_fits_anywhere(name: str) -> None:
    assert found({"url": "x", "method": "POST", "body": {}, name: "{{ item.x }}"}) == []


@pytest.mark.shows("NO-02")
@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"url": "x", "body": 5}, []),
        ({"url": "x", "method": "POST"}, [("parameter.missing", ("body",))]),
        ({"url": "x", "method": "POST", "body": 5}, [("parameter.invalid", ("body",))]),
        ({"url": "x", "method": "{{ item.m }}"}, []),
        ({"url": "x", "method": "{{ item.m }}", "body": 5}, [("parameter.invalid", ("body",))]),
        ({"url": "x", "body": {}, "note": 5}, []),
        ({"url": "x", "method": "POST", "body": {}, "note": 5}, [("parameter.invalid", ("note",))]),
    ],
)
def test_a_hidden_parameter_is_neither_required_nor_checked(parameters: Any, expected: Any) -> None:
    assert found(parameters) == expected


def test_siblings_that_show_each_other_are_no_endless_walk() -> None:
    schema = {"properties": {"a": {"x-show": {"b": [1]}, "type": "string"}, "b": {"x-show": {"a": [1]}}}}
    assert found({"a": 1, "b": 1}, schema) == [("parameter.invalid", ("a",))]


@pytest.mark.shows("WF-12")
@pytest.mark.parametrize(
    ("token", "refused"), [("sk_live_1", True), ("", False), ("{{ vars.token }}", False), ("{{ 'sk_live_1' }}", True)]
)
def test_a_literal_secret_is_refused(token: str, refused: bool) -> None:
    found_codes = found({"url": "x", "token": token}, literal=lambda text: "vars" not in text)
    assert found_codes == ([("parameter.secret", ("token",))] if refused else [])


def test_keywords_beyond_the_compiler_are_checked_all_the_same() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "object", "dependentRequired": {"x": ["y"]}, "properties": {"x": {"type": "integer"}}},
            "b": {"$ref": "#/$defs/small"},
        },
        "$defs": {"small": {"type": "integer", "maximum": 3}},
    }
    assert found({"a": {"x": "{{ 1 }}"}, "b": 4}, schema) == [
        ("parameter.invalid", ("a",)),
        ("parameter.invalid", ("b",)),
    ]
    assert found({"a": {"x": "{{ 1 }}", "y": 1}, "b": "{{ 4 }}"}, schema) == []


@pytest.mark.shows("NO-02")
def test_defaults_are_those_the_schema_declares() -> None:
    assert defaults(HTTP) == {"method": "GET"}


_leaf = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([1.0, 2.5, "", "a", "abc"])
_values = st.recursive(
    _leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
)
_plain = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["string", "number", "integer", "boolean", "null", "object", "array"])
        | st.just(["string", "integer"]),
        "enum": st.lists(_leaf, min_size=1, max_size=3),
        "const": _leaf,
        "minLength": st.integers(0, 3),
        "pattern": st.sampled_from(["^a", "b"]),
        "minimum": st.integers(-2, 2),
        "exclusiveMaximum": st.integers(-2, 2),
        "multipleOf": st.integers(1, 2),
        "minItems": st.integers(0, 2),
        "maxItems": st.integers(0, 2),
        "uniqueItems": st.booleans(),
        "required": st.lists(st.sampled_from("abc"), max_size=2, unique=True),
        "maxProperties": st.integers(0, 2),
        "title": st.just("words"),
    },
)
_schemas = st.recursive(
    _plain | st.booleans(),
    lambda inner: st.builds(
        lambda plain, more: {**plain, **more},
        _plain,
        st.fixed_dictionaries(
            {},
            optional={
                "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
                "additionalProperties": inner,
                "items": inner,
                "anyOf": st.lists(inner, min_size=1, max_size=2),
                "oneOf": st.lists(inner, min_size=1, max_size=2),
                "allOf": st.lists(inner, min_size=1, max_size=2),
                "not": inner,
            },
        ),
    ),
    max_leaves=6,
)


@given(_schemas, _values)
def test_the_compiler_agrees_with_the_library(schema: Any, value: Any) -> None:
    assert (not Checker({"allOf": [schema]}).findings(value)) == Draft202012Validator(schema).is_valid(value)


def test_text_that_is_cel_without_braces_is_checked_as_such() -> None:
    schema = {"type": "object", "properties": {"match": {"type": "string", "x-raw": True, "x-cel": ["event"]}}}
    checker = Checker(schema)
    for text, fits in (("event.id == 7", True), ("", True), ("event.id ==", False), ("item.id == 7", False)):
        assert (checker.findings({"match": text}) == []) is fits, text
    assert [each.code for each in checker.findings({"match": "{{ event.id }}"})] == ["parameter.invalid"]
