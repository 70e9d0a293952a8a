"""Parameters with `{{ expression }}` in their strings: found, checked, compiled once, evaluated per item."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from subgraphs.engine.expression.faults import Budget, ExpressionError
from subgraphs.engine.expression.program import Program, program
from subgraphs.engine.expression.values import plain, text

PARAMETER_DEPTH = 100
"""How deep parameters may nest."""
EXPRESSIONS_LIMIT = 65_536
"""Characters of all expressions of one node together; 32 more count for each, so that there are at most 2,000."""

Evaluate = Callable[[Mapping[str, Any], Budget], Any]


@dataclass(frozen=True, slots=True)
class Part:
    """One expression of a string: `start` is the offset of its first character after `{{`."""

    source: str
    start: int
    pointer: str


class Template:
    """Compiled parameters.

    `constant`: they hold no expression. `uses`: names read (`item`, `nodes`, …). `nodes`: ids that follow `nodes.`.
    """

    __slots__ = ("_evaluate", "constant", "nodes", "uses")

    def __init__(self, evaluate: Evaluate, programs: list[Program]) -> None:
        self._evaluate = evaluate
        self.constant = not programs
        self.nodes: frozenset[str] = frozenset().union(*(one.nodes for one in programs))
        self.uses: frozenset[str] = frozenset().union(*(one.uses for one in programs))

    def evaluate(self, scope: Mapping[str, Any], budget: Budget | None = None) -> Any:
        """The parameters as JSON, every expression replaced by its value. Raises ExpressionError with its pointer."""
        return self._evaluate(scope, budget if budget is not None else Budget())


def compiled(parameters: Any) -> Template:
    """The template of these parameters (JSON values), from a cache. Raises the first fault as ExpressionError."""
    try:
        return _compiled(orjson.dumps(parameters))
    except (TypeError, RecursionError) as error:
        raise ExpressionError(f"These parameters are no JSON: {error}.", code="template") from None


@lru_cache(maxsize=2048)
def _compiled(canonical: bytes) -> Template:
    parameters = orjson.loads(canonical)
    programs: list[Program] = []
    evaluate = _plan(parameters, "", _Building(programs, Size()), 0)
    return Template(evaluate or (lambda scope, budget: parameters), programs)


@dataclass(frozen=True, slots=True)
class _Building:
    """What one template gathers while it is compiled."""

    programs: list[Program]
    size: Size


def escaped(key: Any) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")


class Size:
    """How much expression there has been in one node's parameters."""

    def __init__(self) -> None:
        self._left = EXPRESSIONS_LIMIT

    def take(self, part: Part) -> None:
        self._left -= len(part.source) + 32
        if self._left < 0:
            message = "The expressions of this node are too long in all."
            raise ExpressionError(message, code="too_large", position=part.start, pointer=part.pointer)


def split(string: str, pointer: str = "") -> Iterator[str | Part]:
    """The pieces of a string: literal text, and the expressions between `{{` and `}}`.

    Braces of map literals and everything within quotes belong to the expression. A literal `{{` is written
    `{{ "{{" }}`.
    """
    at = 0
    while (start := string.find("{{", at)) >= 0:
        if start > at:
            yield string[at:start]
        end = _end(string, start + 2)
        if end < 0:
            raise ExpressionError("This {{ is never closed by }}.", code="template", position=start, pointer=pointer)
        yield Part(string[start + 2 : end], start + 2, pointer)
        at = end + 2
    if at < len(string):
        yield string[at:]


def _end(string: str, at: int) -> int:
    """Where the expression that starts at `at` ends (the offset of its `}}`), or -1."""
    depth, length = 0, len(string)
    while at < length:
        mark = string[at]
        if mark in "\"'":
            at = _quoted(string, at)
            if at < 0:
                return -1
            continue
        if mark == "{":
            depth += 1
        elif mark == "}":
            if depth == 0:
                return at if string.startswith("}}", at) else -1
            depth -= 1
        at += 1
    return -1


def _quoted(string: str, at: int) -> int:
    """The offset behind the text literal that starts at `at`, or -1 if it is never closed."""
    mark = string[at]
    raw = at > 0 and string[at - 1] in "rR"
    fence = mark * 3 if string.startswith(mark * 3, at) else mark
    at += len(fence)
    while at < len(string):
        if string[at] == "\\" and not raw:
            at += 2
        elif string.startswith(fence, at):
            return at + len(fence)
        else:
            at += 1
    return -1


def _plan(value: Any, pointer: str, building: _Building, depth: int) -> Evaluate | None:
    """How to evaluate `value`, or None if it is constant."""
    if depth > PARAMETER_DEPTH:
        raise ExpressionError("The parameters nest too deeply.", code="too_large", position=0, pointer=pointer)
    if isinstance(value, str):
        return _string(value, pointer, building) if "{{" in value else None
    if isinstance(value, dict):
        plans = {key: _plan(inner, f"{pointer}/{escaped(key)}", building, depth + 1) for key, inner in value.items()}
        return _mapping(value, plans) if any(plans.values()) else None
    if isinstance(value, list):
        listed = [_plan(inner, f"{pointer}/{number}", building, depth + 1) for number, inner in enumerate(value)]
        return _listing(value, listed) if any(listed) else None
    return None


def _mapping(value: dict[str, Any], plans: dict[str, Evaluate | None]) -> Evaluate:
    live = [(key, plan) for key, plan in plans.items() if plan is not None]

    def evaluate(scope: Mapping[str, Any], budget: Budget) -> dict[str, Any]:
        made = dict(value)
        for key, plan in live:
            made[key] = plan(scope, budget)
        return made

    return evaluate


def _listing(value: list[Any], plans: list[Evaluate | None]) -> Evaluate:
    live = [(number, plan) for number, plan in enumerate(plans) if plan is not None]

    def evaluate(scope: Mapping[str, Any], budget: Budget) -> list[Any]:
        made = list(value)
        for number, plan in live:
            made[number] = plan(scope, budget)
        return made

    return evaluate


def _string(value: str, pointer: str, building: _Building) -> Evaluate:
    parts = list(split(value, pointer))
    plans: list[str | tuple[Program, int]] = []
    for part in parts:
        if isinstance(part, str):
            plans.append(part)
            continue
        building.size.take(part)
        try:
            one = program(part.source)
        except ExpressionError as error:
            raise error.placed(part.start, pointer) from None
        building.programs.append(one)
        plans.append((one, part.start))
    if len(plans) == 1 and isinstance(plans[0], tuple):
        return _alone(*plans[0], pointer)
    return _mixed(plans, pointer)


def _alone(one: Program, start: int, pointer: str) -> Evaluate:
    """A string that is one expression and nothing else keeps the value's type."""
    run, cost, padding, translated = one.run, one.cost, [None] * one.slots, one.plain

    def evaluate(scope: Mapping[str, Any], budget: Budget) -> Any:
        try:
            budget.spend(cost)
            value = run([scope, budget, *padding])
            kind = type(value)
            if kind is str or kind is int or kind is bool or value is None:
                return value
            if translated or (kind is float and not math.isfinite(value)):
                return plain(value, budget)
            return value
        except ExpressionError as error:
            raise error.placed(start, pointer) from None

    return evaluate


def _mixed(plans: list[str | tuple[Program, int]], pointer: str) -> Evaluate:
    def evaluate(scope: Mapping[str, Any], budget: Budget) -> str:
        pieces = []
        for plan in plans:
            if isinstance(plan, str):
                pieces.append(plan)
                continue
            one, start = plan
            try:
                piece = text(one.evaluate(scope, budget), budget)
                budget.make(len(piece))
            except ExpressionError as error:
                raise error.placed(start, pointer) from None
            pieces.append(piece)
        return "".join(pieces)

    return evaluate
