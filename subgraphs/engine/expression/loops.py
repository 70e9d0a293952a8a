"""The macros `all`, `exists`, `exists_one`, `map` and `filter`: read back from the loops the parser makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from subgraphs.engine.expression.arithmetic import SLOT
from subgraphs.engine.expression.faults import ExpressionError, ExpressionLimit
from subgraphs.engine.expression.syntax import Call, Const, Ident, ListOf, Loop, Tree
from subgraphs.engine.expression.values import mismatch

Run = Callable[[list[Any]], Any]


@dataclass(frozen=True, slots=True)
class Shape:
    macro: str
    condition: Tree | None
    element: Tree | None = None


def recognise(tree: Loop) -> Shape:
    """Which macro the loop was."""
    init, step = tree.init, tree.step
    if isinstance(step, Call):
        if isinstance(init, Const) and step.function == "_||_":
            return Shape("exists", step.args[1])
        if isinstance(init, Const) and step.function == "_&&_":
            return Shape("all", step.args[1])
        if isinstance(init, Const) and step.function == "_?_:_":
            return Shape("exists_one", step.args[0])
        if isinstance(init, ListOf) and step.function == "_+_":
            return Shape("map", None, _appended(step))
        if isinstance(init, ListOf) and step.function == "_?_:_":
            return _filter(tree.variable, step)
    raise ExpressionError("This kind of loop is not known.", code="type", position=tree.at)


def _appended(call: Tree) -> Tree:
    if isinstance(call, Call) and isinstance(call.args[1], ListOf) and len(call.args[1].elements) == 1:
        return call.args[1].elements[0]
    raise ExpressionError("This kind of loop is not known.", code="type", position=call.at)


def _filter(variable: str, step: Call) -> Shape:
    element = _appended(step.args[1])
    if isinstance(element, Ident) and element.name == variable:
        return Shape("filter", step.args[0], element)
    return Shape("filter", step.args[0], element)


def loop(macro: str, range_: Run, slot: int, cost: int, condition: Run | None, element: Run | None, at: int) -> Run:
    """The closure of one macro. `cost`: operations of one turn."""

    def values(frame: list[Any]) -> Any:
        found = range_(frame)
        if type(found) is list or isinstance(found, Mapping):
            return found
        raise mismatch(macro, found).at(at)

    if macro == "map" and element is not None:
        return _map(values, slot, cost, element, at)
    if macro == "filter" and element is not None and condition is not None:
        return _kept(values, slot, cost, condition, element, at)
    if condition is None:
        raise ExpressionError("This kind of loop is not known.", code="type", position=at)
    if macro == "exists_one":
        return _one(values, slot, cost, condition, at)
    return _quantified(macro, values, slot, cost, condition, at)


def _map(values: Run, slot: int, cost: int, element: Run, at: int) -> Run:
    def run(frame: list[Any]) -> list[Any]:
        found, made, budget = values(frame), [], frame[1]
        _charge(budget, cost * len(found), SLOT * len(found), at)
        for value in found:
            frame[slot] = value
            made.append(element(frame))
        return made

    return run


def _kept(values: Run, slot: int, cost: int, condition: Run, element: Run, at: int) -> Run:
    def run(frame: list[Any]) -> list[Any]:
        found, made, budget = values(frame), [], frame[1]
        _charge(budget, cost * len(found), SLOT * len(found), at)
        for value in found:
            frame[slot] = value
            kept = condition(frame)
            if kept is True:
                made.append(element(frame))
            elif kept is not False:
                raise mismatch("filter", kept).at(at)
        return made

    return run


def _one(values: Run, slot: int, cost: int, condition: Run, at: int) -> Run:
    def run(frame: list[Any]) -> bool:
        found, count = values(frame), 0
        _charge(frame[1], cost * len(found), 0, at)
        for value in found:
            frame[slot] = value
            holds = condition(frame)
            if holds is True:
                count += 1
            elif holds is not False:
                raise mismatch("exists_one", holds).at(at)
        return count == 1

    return run


def _quantified(macro: str, values: Run, slot: int, cost: int, condition: Run, at: int) -> Run:
    """`exists` stops at the first True, `all` at the first False; an error counts only if nothing decides."""
    stop = macro == "exists"

    def run(frame: list[Any]) -> bool:
        failure: ExpressionError | None = None
        for value in values(frame):
            _charge(frame[1], cost, 0, at)
            frame[slot] = value
            try:
                holds = condition(frame)
            except ExpressionLimit:
                raise
            except ExpressionError as error:
                failure = failure or error
                continue
            if holds is stop:
                return bool(holds)
            if type(holds) is not bool:
                failure = failure or mismatch(macro, holds).at(at)
        if failure is not None:
            raise failure
        return not stop

    return run


def _charge(budget: Any, operations: int, size: int, at: int) -> None:
    try:
        budget.spend(operations)
        budget.make(size)
    except ExpressionLimit as error:
        raise error.at(at) from None
