"""What can be said of parameters without running them: the faults of their expressions, and the nodes they refer to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from subgraphs.engine.expression.faults import ExpressionError
from subgraphs.engine.expression.program import NODE_FIELDS, Program, examined
from subgraphs.engine.expression.syntax import NAMES, SOURCE_LIMIT
from subgraphs.engine.expression.template import PARAMETER_DEPTH, Size, escaped, split


def check(parameters: Any, *, names: frozenset[str] = NAMES) -> list[ExpressionError]:
    """All faults of one node's parameters, in the order they stand."""
    return survey(parameters, names=names)[0]


def survey(parameters: Any, *, names: frozenset[str] = NAMES) -> tuple[list[ExpressionError], frozenset[str]]:
    """All faults of one node's parameters, and the ids that follow `nodes.` in the expressions without faults."""
    found: list[ExpressionError] = []
    nodes: set[str] = set()
    size = Size()
    try:
        for string, pointer in _strings(parameters, "", 0):
            if "{{" not in string:
                continue
            for part in split(string, pointer):
                if isinstance(part, str):
                    continue
                size.take(part)
                faults, referred = _surveyed(part.source, names)
                found.extend(fault.placed(part.start, pointer) for fault in faults)
                nodes |= referred
    except ExpressionError as error:
        found.append(error)
    return found, frozenset(nodes)


_NONE: frozenset[str] = frozenset()
_TEXT = re.compile(r"'[^'\\\n]*'|\"[^\"\\\n]*\"")
_PLAIN = re.compile(r"(?:[\w\s.+\-*%<>=!?:&|,()\[\]{}]|''|/(?!/))*", re.ASCII)
_SPECIAL = re.compile(r"\b(?:nodes|execution|matches)\b", re.ASCII)
_REFERENCE = re.compile(rf"(?<![\w.])nodes\.([A-Za-z_]\w*)\.(?:{'|'.join(sorted(NODE_FIELDS))})\b", re.ASCII)
_RESERVED = (
    "as|break|const|continue|else|false|for|function|if|import|in|let|loop|namespace|null|package|return|true|var|void"
    "|while"
)
_VARIED = re.compile(
    rf"(?<=[\w\]]\.)(?!(?:{_RESERVED})\b)[A-Za-z_]\w*\b(?!\s*[({{])|(?<![\w.])\d{{1,15}}(?![\w.])", re.ASCII
)


@lru_cache(maxsize=8192)
def _surveyed(source: str, names: frozenset[str]) -> tuple[tuple[ExpressionError, ...], frozenset[str]]:
    """Faults of one expression, and the nodes it refers to if it has none.

    Whether an expression can be compiled depends neither on the names of members nor on the values of short literals,
    so all expressions of one form are compiled once; only what is peculiar or faulty is compiled as it stands.
    """
    form, referred = _form(source)
    if form is not None and len(source) <= SOURCE_LIMIT and isinstance(examined(form, names), Program):
        return (), referred
    one = examined(source, names)
    return ((), one.nodes) if isinstance(one, Program) else (one, _NONE)


def _form(source: str) -> tuple[str | None, frozenset[str]]:
    """The expression with its members and literals made alike, and the nodes it refers to; None if it is peculiar:
    comments, escapes, patterns, or nodes and the execution referred to in another way than `nodes.ID.item(s)`."""
    bare = _TEXT.sub("''", source)
    if not _PLAIN.fullmatch(bare) or "'''" in bare:
        return None, _NONE
    referred = _NONE
    if special := _SPECIAL.findall(bare):
        found = _REFERENCE.findall(bare)
        if len(found) != len(special):
            return None, _NONE
        referred = frozenset(found)
    return _VARIED.sub(_alike, bare), referred


def _alike(varied: re.Match[str]) -> str:
    return "0" if varied[0].isdigit() else "item" if varied[0] in NODE_FIELDS else "f"


def _strings(value: Any, pointer: str, depth: int) -> Iterator[tuple[str, str]]:
    if depth > PARAMETER_DEPTH:
        raise ExpressionError("The parameters nest too deeply.", code="too_large", position=0, pointer=pointer)
    if isinstance(value, str):
        yield value, pointer
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _strings(inner, f"{pointer}/{escaped(key)}", depth + 1)
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            yield from _strings(inner, f"{pointer}/{number}", depth + 1)
