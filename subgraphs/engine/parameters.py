"""Parameters of a node against the JSON Schema (2020-12) of its type's manifest.

Schemas are compiled to closures, because a workflow of 10,000 nodes is checked in well under a second; what the
compiler does not know is left to the jsonschema library. Five things differ from plain JSON Schema:

- text holding `{{ expression }}` fits anywhere, for its value is known only in a run;
- `x-show: {"other": [values]}` on a property: it counts only while its sibling `other` has one of the values. A hidden
  property is neither required nor checked; a sibling that is an expression may have any value;
- `x-secret: true`: a literal is refused, since definitions are readable; only an expression may stand there;
- `x-raw: true` on a parameter: `{{ }}` in it is plain text, as in code;
- `x-cel: [names]` on such a parameter: its text is CEL without braces over these names, for it is evaluated later than
  the step's other parameters.

A required property that has a default may be left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import orjson

Path = tuple[str | int, ...]
MOST = 100
"""Findings of one node after which the rest of its parameters is not looked at."""


class Finding(msgspec.Struct, frozen=True):
    """A parameter that does not fit: `code` is `parameter.missing`, `.invalid`, `.unknown` or `.secret`."""

    code: str
    message: str
    path: Path
    next_step: str | None = None


Check = Callable[[Any, Path, list[Finding]], None]
_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list, tuple),
    "string": (str,),
    "boolean": (bool,),
    "number": (int, float),
    "integer": (int,),
    "null": (type(None),),
}
_NOTES = frozenset({"$schema", "$id", "$comment", "title", "description", "default", "examples", "deprecated"})
_GROUPS = (
    frozenset({"properties", "required", "additionalProperties", "minProperties", "maxProperties"}),
    frozenset({"items", "minItems", "maxItems", "uniqueItems"}),
    frozenset({"minLength", "maxLength", "pattern", "multipleOf"})
    | {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    frozenset({"type", "enum", "const"}),
    frozenset({"anyOf", "oneOf", "allOf"}),
)
_KNOWN = _NOTES.union({"readOnly", "writeOnly", "format"}, *_GROUPS)


def is_expression(value: Any) -> bool:
    """Whether a parameter is text with an expression in it."""
    return isinstance(value, str) and "{{" in value


def raw(schema: Mapping[str, Any]) -> frozenset[str]:
    """Parameters whose text is never an expression."""
    return frozenset(name for name, inner in schema.get("properties", {}).items() if inner.get("x-raw"))


def defaults(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What a new node of that type starts with: the default of each property that declares one."""
    properties = schema.get("properties", {})
    return {name: inner["default"] for name, inner in properties.items() if "default" in inner}


def shown(name: str, properties: Mapping[str, Any], values: Mapping[str, Any]) -> bool | None:
    """Whether property `name` counts beside these values; None: an expression decides that in the run."""
    answer: bool | None = True
    waiting, seen = [name], {name}
    while waiting:  # a property whose deciding sibling is hidden is hidden with it
        for other, allowed in properties.get(waiting.pop(), {}).get("x-show", {}).items():
            value = values.get(other, properties.get(other, {}).get("default"))
            if is_expression(value):
                answer = None
            elif not any(_same(value, each) for each in allowed):
                return False
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    return answer


class Checker:
    """Checks the parameters of one node type. `literal(text)` says whether text with `{{ }}` is constant all the same,
    so that `{{ "password" }}` is no way around `x-secret`. Without `expressions`, braces are plain text."""

    def __init__(
        self,
        schema: Mapping[str, Any],
        literal: Callable[[str], bool] = lambda _: False,
        *,
        expressions: bool = True,
    ) -> None:
        self._expressions = expressions
        self._root = dict(schema)
        self._literal = literal
        self._check = self._compiled(self._root)

    def findings(self, parameters: Any) -> list[Finding]:
        found: list[Finding] = []
        self._check(parameters, (), found)
        return found

    def _compiled(self, schema: Any) -> Check:
        if schema is True or schema == {}:
            return _anything
        if schema is False:
            return _refuse("nothing is allowed here")
        if any(word not in _KNOWN and not word.startswith("x-") for word in schema):
            return self._guarded(schema, [self._library(schema)])
        checks: list[Check] = [_cel(frozenset(schema["x-cel"]))] if "x-cel" in schema else []
        for words, build in zip(_GROUPS, (_object, _array, _scalar, _value, _combined), strict=True):
            if not words.isdisjoint(schema):
                checks.append(build(schema, self._compiled))
        return self._guarded(schema, checks)

    def _guarded(self, schema: Mapping[str, Any], checks: list[Check]) -> Check:
        """Expressions pass by all checks; secrets have one of their own."""
        secret, literal = bool(schema.get("x-secret")), self._literal
        expressions = self._expressions and not schema.get("x-raw")

        def check(value: Any, path: Path, found: list[Finding]) -> None:
            if len(found) >= MOST:
                return
            expression = expressions and isinstance(value, str) and "{{" in value
            if secret and value not in (None, "") and (not expression or literal(value)):
                found.append(_secret(path))
            elif not expression:
                for each in checks:
                    each(value, path, found)

        return check

    def _library(self, schema: Mapping[str, Any]) -> Check:
        from jsonschema import Draft202012Validator, validators

        def lenient(keyword: Any) -> Any:
            def check(validator: Any, value: Any, instance: Any, inner: Any) -> Iterator[Any]:
                return iter(()) if is_expression(instance) else keyword(validator, value, instance, inner) or iter(())

            return check

        words = {word: lenient(keyword) for word, keyword in Draft202012Validator.VALIDATORS.items()}
        kind: Any = validators.extend(Draft202012Validator, words)  # type: ignore[no-untyped-call]
        validator = kind(self._root).evolve(schema=schema)

        def check(value: Any, path: Path, found: list[Finding]) -> None:
            found.extend(
                Finding("parameter.invalid", f"{error.message}.", (*path, *error.absolute_path))
                for error in validator.iter_errors(value)
            )

        return check


Compile = Callable[[Any], Check]


def _anything(value: Any, path: Path, found: list[Finding]) -> None:
    return None


def _refuse(reason: str) -> Check:
    return lambda value, path, found: found.append(Finding("parameter.invalid", _sentence(path, reason), path))


def _secret(path: Path) -> Finding:
    return Finding(
        "parameter.secret",
        _sentence(path, "is a secret and cannot stand in a definition"),
        path,
        "Refer to it by an expression; whoever may read the workflow would read a literal.",
    )


def _sentence(path: Path, reason: str) -> str:
    return f"{'.'.join(map(str, path)) or 'The parameters'} {reason}."


def canonical(value: Any) -> bytes:
    """The same bytes for values that are equal as JSON: 1 and 1.0, whatever the order of keys."""
    return orjson.dumps(_normal(value), option=orjson.OPT_SORT_KEYS)


def _normal(value: Any) -> Any:
    """The value with whole numbers written one way. Recursive: definitions nest a bounded depth."""
    if isinstance(value, dict):
        return {name: _normal(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_normal(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**63 else value


def _same(one: Any, other: Any) -> bool:
    """JSON equality: true is not 1, though 1.0 is."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, (dict, list)):
        return type(one) is type(other) and canonical(one) == canonical(other)
    return bool(one == other)


def _value(schema: Mapping[str, Any], compile: Compile) -> Check:
    """`type`, `enum` and `const`."""
    names = schema.get("type", [])
    names = [names] if isinstance(names, str) else list(names)
    allowed = tuple(kind for name in names for kind in _TYPES[name])
    whole = "integer" in names and "number" not in names
    choices = [*([schema["enum"]] if "enum" in schema else []), *([[schema["const"]]] if "const" in schema else [])]
    wanted = " or ".join(names)

    def check(value: Any, path: Path, found: list[Finding]) -> None:
        if allowed:
            fits = isinstance(value, allowed) and (not isinstance(value, bool) or bool in allowed)
            if not fits and not (whole and isinstance(value, float) and value.is_integer()):
                found.append(Finding("parameter.invalid", _sentence(path, f"must be {wanted}"), path))
                return
        for some in choices:
            if not any(_same(value, each) for each in some):
                listed = ", ".join(orjson.dumps(each).decode() for each in some)
                found.append(Finding("parameter.invalid", _sentence(path, f"must be one of {listed}"), path))

    return check


def _object(schema: Mapping[str, Any], compile: Compile) -> Check:
    properties: Mapping[str, Any] = schema.get("properties", {})
    inner = {name: compile(each) for name, each in properties.items()}
    conditional = frozenset(name for name, each in properties.items() if isinstance(each, dict) and "x-show" in each)
    required = [
        name
        for name in schema.get("required", ())
        if not (isinstance(properties.get(name), dict) and "default" in properties[name])
    ]
    others = schema.get("additionalProperties", True)
    rest = compile(others) if isinstance(others, dict) else None
    least, most = schema.get("minProperties", 0), schema.get("maxProperties", float("inf"))

    def check(value: Any, path: Path, found: list[Finding]) -> None:
        if not isinstance(value, dict):
            return
        absent = (name for name in required if name not in value)
        found.extend(
            _missing((*path, name)) for name in absent if name not in conditional or shown(name, properties, value)
        )
        for name, each in value.items():
            if name in inner:
                if name not in conditional or shown(name, properties, value) is not False:
                    inner[name](each, (*path, name), found)
            elif rest is not None:
                rest(each, (*path, name), found)
            elif others is False and len(found) < MOST:
                found.append(_unknown((*path, name), inner))
        if not least <= len(value) <= most:
            found.append(Finding("parameter.invalid", _sentence(path, "has too few or too many entries"), path))

    return check


def _cel(names: frozenset[str]) -> Check:
    """Text that is CEL without braces."""
    from subgraphs.engine.expression.program import examined

    def check(value: Any, path: Path, found: list[Finding]) -> None:
        faults = examined(value, names) if isinstance(value, str) and value else ()
        if isinstance(faults, tuple):
            found.extend(
                Finding("parameter.invalid", _sentence(path, f"is no expression: {each.message}"), path)
                for each in faults[:1]
            )

    return check


def _missing(path: Path) -> Finding:
    return Finding("parameter.missing", _sentence(path, "is required"), path, f"Set {path[-1]}.")


def _unknown(path: Path, known: Mapping[str, Any]) -> Finding:
    from difflib import get_close_matches

    close = get_close_matches(str(path[-1])[:64], known, n=1)
    hint = f"Did you mean {close[0]}?" if close else f"Known are {', '.join(known) or 'none'}."
    return Finding("parameter.unknown", _sentence(path, "is no parameter of this node type"), path, hint)


def _array(schema: Mapping[str, Any], compile: Compile) -> Check:
    items = compile(schema["items"]) if "items" in schema else _anything
    least, most = schema.get("minItems", 0), schema.get("maxItems", float("inf"))
    unique = bool(schema.get("uniqueItems"))

    def check(value: Any, path: Path, found: list[Finding]) -> None:
        if not isinstance(value, (list, tuple)):
            return
        for index, each in enumerate(value):
            items(each, (*path, index), found)
        if len(value) < least:
            found.append(Finding("parameter.invalid", _sentence(path, f"needs at least {least} entries"), path))
        if len(value) > most:
            found.append(Finding("parameter.invalid", _sentence(path, f"takes at most {most} entries"), path))
        if unique and len({canonical(each) for each in value}) < len(value):
            found.append(Finding("parameter.invalid", _sentence(path, "has the same entry twice"), path))

    return check


def _scalar(schema: Mapping[str, Any], compile: Compile) -> Check:
    """Bounds of text (in characters) and of numbers."""
    pattern = re.compile(schema["pattern"]) if "pattern" in schema else None
    tests: list[tuple[tuple[type, ...], Callable[[Any], bool], str]] = []

    def test(word: str, kinds: tuple[type, ...], holds: Callable[[Any, Any], bool], reason: str) -> None:
        if word in schema:
            bound = schema[word]
            tests.append((kinds, lambda value: holds(value, bound), reason.format(bound)))

    text, number = (str,), (int, float)
    test("minLength", text, lambda value, bound: len(value) >= bound, "needs at least {} characters")
    test("maxLength", text, lambda value, bound: len(value) <= bound, "takes at most {} characters")
    test("pattern", text, lambda value, _: bool(pattern and pattern.search(value)), "must match {}")
    test("minimum", number, lambda value, bound: value >= bound, "must be at least {}")
    test("maximum", number, lambda value, bound: value <= bound, "must be at most {}")
    test("exclusiveMinimum", number, lambda value, bound: value > bound, "must be more than {}")
    test("exclusiveMaximum", number, lambda value, bound: value < bound, "must be less than {}")
    test("multipleOf", number, lambda value, bound: not value % bound, "must be a multiple of {}")

    def check(value: Any, path: Path, found: list[Finding]) -> None:
        for kinds, holds, reason in tests:
            if isinstance(value, kinds) and not isinstance(value, bool) and not holds(value):
                found.append(Finding("parameter.invalid", _sentence(path, reason), path))

    return check


def _combined(schema: Mapping[str, Any], compile: Compile) -> Check:
    """`allOf`, `anyOf`, `oneOf`: of alternatives that all fail, the one that came closest is told."""
    every = [compile(each) for each in schema.get("allOf", ())]
    some = [compile(each) for each in schema.get("anyOf", ())]
    one = [compile(each) for each in schema.get("oneOf", ())]

    def alternatives(checks: list[Check], value: Any, path: Path, found: list[Finding]) -> int:
        tries: list[list[Finding]] = [[] for _ in checks]
        for check, findings in zip(checks, tries, strict=True):
            check(value, path, findings)
        fitting = sum(not each for each in tries)
        if not fitting:
            closest = max(tries, key=_closeness)
            found.extend(closest)
        return fitting

    def check(value: Any, path: Path, found: list[Finding]) -> None:
        for each in every:
            each(value, path, found)
        if some:
            alternatives(some, value, path, found)
        if one and alternatives(one, value, path, found) > 1:
            found.append(Finding("parameter.invalid", _sentence(path, "fits more than one alternative"), path))

    return check


def _closeness(findings: list[Finding]) -> tuple[int, int]:
    return max(len(finding.path) for finding in findings), -len(findings)
