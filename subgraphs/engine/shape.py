"""Why a document is no definition: every departure from `definition.schema.json`, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from subgraphs.engine.faults import Fault, pointer

_STEPS = {
    "definition.format": 'Set "format" to "linkflow/1", the only format this server reads.',
    "definition.limit": "Split the workflow.",
    "definition.identifier": "Use a letter or _ first, then letters, digits and _, 64 characters at most.",
    "definition.duration": "Write ISO 8601 with days and smaller units: PT30S, PT5M, P1D.",
}


def schema() -> dict[str, Any]:
    """The JSON Schema of format `linkflow/1`."""
    text = resources.files(__package__).joinpath("definition.schema.json").read_bytes()
    loaded: dict[str, Any] = orjson.loads(text)
    return loaded


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(schema())


def shape_faults(document: Any) -> Iterator[Fault]:
    """Lazily, in document order as far as the schema's order allows."""
    for error in _validator().iter_errors(document):
        yield from _faults(error, document)


def _faults(error: ValidationError, document: Any) -> Iterator[Fault]:
    path = list(error.absolute_path)
    node = _node(path, document)
    match error.validator:
        case "additionalProperties":
            known = list(error.schema.get("properties", {}))  # type: ignore[union-attr]
            for name in (each for each in error.instance if each not in known):  # type: ignore[union-attr]
                yield Fault(
                    code="definition.unknown_field",
                    message=f"{_place(path)} has no field {name!r}.",
                    pointer=pointer(*path, name),
                    node=node,
                    next_step=_near(str(name), known),
                )
        case "required":
            absent = error.message.split("'")[1]  # one error per absent name, told only here
            yield Fault(
                code="definition.format" if absent == "format" else "definition.missing",
                message=f"{_place(path)} lacks the field {absent!r}.",
                pointer=pointer(*path),
                node=node,
                next_step=_STEPS["definition.format"] if absent == "format" else f"Add {absent!r}.",
            )
        case "anyOf" if _may_be_null(error) and _code(error) != "definition.duration":
            for inner in error.context or ():
                if inner.relative_schema_path[0] == 0:
                    yield from _faults(inner, document)
        case _:
            code = _code(error)
            yield Fault(
                code=code,
                message=_message(error, path),
                pointer=pointer(*path),
                node=node,
                next_step=_STEPS.get(code),
            )


def _may_be_null(error: ValidationError) -> bool:
    """Whether the schema is `anyOf: [something, null]`, so that only the first alternative is worth telling of."""
    return error.validator_value[1:] == [{"type": "null"}]  # type: ignore[index, no-any-return]


def _code(error: ValidationError) -> str:
    where = list(error.absolute_path)
    if where == ["format"]:
        return "definition.format"
    if error.validator == "maxItems":
        return "definition.limit"
    if error.validator == "pattern":
        found = str(error.validator_value)
        kinds = {"^[A-Z": "definition.identifier", "^P(?=": "definition.duration"}
        return kinds.get(found[:5], "definition.shape")
    if error.validator == "anyOf" and where and where[-1] in ("timeout", "totalTimeout", "maxWait"):
        return "definition.duration"
    return "definition.shape"


def _message(error: ValidationError, path: Sequence[str | int]) -> str:
    place = _place(path)
    shown = _shown(error.instance)
    match error.validator:
        case "type":
            return f"{place} is {shown}, not {_kind(error.validator_value)}."
        case "const":
            return f"{place} is {shown}; this server reads {error.validator_value!r}."
        case "enum":
            allowed = ", ".join("null" if each is None else str(each) for each in error.validator_value)  # type: ignore[union-attr]
            return f"{place} is {shown}; it can be {allowed}."
        case "maxItems":
            return f"{place} has {len(error.instance)} entries; {error.validator_value} are allowed."  # type: ignore[arg-type]
        case _:
            return f"{place} is {shown}, which is not allowed there."


def _kind(kind: Any) -> str:
    name = kind if isinstance(kind, str) else " or ".join(kind)
    return f"an {name}" if name[0] in "aeio" else f"a {name}"


def _shown(value: Any) -> str:
    match value:
        case dict():
            return "an object"
        case list():
            return "a list"
        case _:
            text = orjson.dumps(value).decode()
            return text if len(text) <= 60 else text[:57] + "..."


def _place(path: Sequence[str | int]) -> str:
    return pointer(*path) or "The definition"


def _near(name: str, known: list[str]) -> str:
    close = get_close_matches(name[:64], known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Remove it; known are {', '.join(known)}."


def _node(path: Sequence[str | int], document: Any) -> str | None:
    match path:
        case ["nodes", int(index), *_]:
            node = document["nodes"][index]
            named = node.get("id") if isinstance(node, dict) else None
            return named[:64] if isinstance(named, str) else None
        case _:
            return None
