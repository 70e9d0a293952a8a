"""A checked tree turned into Python closures that read data where it lies.

Straight code costs at most its own size, so operations are charged where cost can grow: per turn of a loop its body's
size, and per size of data in the functions. A closure takes the frame: `[scope, budget, loop variables …]`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from subgraphs.engine.expression import loops
from subgraphs.engine.expression.arithmetic import OPERATORS, SLOT
from subgraphs.engine.expression.conversions import CONVERSIONS, TYPES
from subgraphs.engine.expression.faults import Budget, ExpressionError, ExpressionLimit
from subgraphs.engine.expression.strings import STRINGS, pattern
from subgraphs.engine.expression.syntax import NAMES, Call, Const, Ident, ListOf, Loop, MapOf, Select, Tree, parse
from subgraphs.engine.expression.values import Uint, mismatch

Run: TypeAlias = Callable[[list[Any]], Any]

FUNCTIONS: dict[str, Callable[..., Any]] = {**OPERATORS, **CONVERSIONS, **STRINGS}
NODE_FIELDS = frozenset({"item", "items"})
EXECUTION_FIELDS = frozenset({"id", "workflowId", "mode", "startedAt", "links"})
_UNLIKE_JSON = frozenset({"timestamp", "duration", "bytes", "uint", "type"})
_CALCULATING = frozenset({"_+_", "_-_", "_*_", "_/_", "-_", "double", "_[_]"})


@dataclass(frozen=True, slots=True)
class Program:
    """`uses`: names it reads. `nodes`: ids after `nodes.`. `cost`: operations without loops. `plain`: its result may
    hold values JSON lacks, so it must be translated."""

    source: str
    run: Run
    uses: frozenset[str]
    nodes: frozenset[str]
    cost: int
    slots: int
    plain: bool

    def evaluate(self, scope: Mapping[str, Any], budget: Budget) -> Any:
        """The value, in CEL's types."""
        budget.spend(self.cost)
        return self.run([scope, budget] + [None] * self.slots)


@lru_cache(maxsize=8192)
def examined(source: str, names: frozenset[str] = NAMES) -> Program | tuple[ExpressionError, ...]:
    """Parses, checks and compiles, once: the program, or all its faults."""
    tree = parse(source, names)
    if isinstance(tree, list):
        return tuple(tree)
    compiler = _Compiler()
    try:
        run = compiler.node(tree)
    except ExpressionError as error:
        return (error,)
    return Program(
        source, run, frozenset(compiler.uses), frozenset(compiler.nodes), compiler.cost, compiler.slots, compiler.plain
    )


def program(source: str, names: frozenset[str] = NAMES) -> Program:
    """The compiled expression; raises its first fault."""
    found = examined(source, names)
    if isinstance(found, tuple):
        raise found[0].placed(0, "")
    return found


class _Compiler:
    def __init__(self) -> None:
        self.uses: set[str] = set()
        self.nodes: set[str] = set()
        self.cost = 0
        self.slots = 0
        self.plain = False
        self.variables: dict[str, int] = {}

    def node(self, tree: Tree) -> Run:
        self.cost += 1
        self.plain = self.plain or tree.type in _UNLIKE_JSON
        match tree:
            case Const():
                value = tree.value
                return lambda frame: value
            case Ident():
                return self._ident(tree)
            case Select():
                return self._select(tree)
            case Call():
                return self._call(tree)
            case ListOf():
                return self._list(tree)
            case MapOf():
                return self._map(tree)
            case Loop():
                return self._loop(tree)

    def _ident(self, tree: Ident) -> Run:
        name = tree.name
        if name in self.variables:
            slot = self.variables[name]
            return lambda frame: frame[slot]
        if tree.type == "type" and name in TYPES:
            kind = TYPES[name]
            return lambda frame: kind
        self.uses.add(name)
        if name == "nodes":
            raise ExpressionError("Write nodes.ID.item or nodes.ID.items.", code="type", position=tree.at)
        self.plain = self.plain or name == "execution"
        at = tree.at

        def read(frame: list[Any]) -> Any:
            try:
                return frame[0][name]
            except KeyError:
                raise ExpressionError(f"There is no {name} here.", code="no_such_key", position=at) from None

        return read

    def _select(self, tree: Select) -> Run:
        if tree.test:
            return self._has(tree)
        path, root = [(tree.field, tree.at)], tree.operand
        while isinstance(root, Select) and not root.test:
            path.insert(0, (root.field, root.at))
            root = root.operand
        if isinstance(root, Ident) and root.name not in self.variables:
            self._known(root, path)
            if root.name == "nodes":
                self.uses.add("nodes")
                return _node_path(root.at, path)
        self.cost += len(path) - 1
        return _path(self.node(root), path) if len(path) > 1 else _member(self.node(root), *path[0])

    def _known(self, root: Ident, path: list[tuple[str, int]]) -> None:
        """What the type checker cannot know: the fields of `nodes.ID` and of `execution`."""
        if root.name == "execution" and path[0][0] not in EXECUTION_FIELDS:
            raise _unknown("execution", path[0], EXECUTION_FIELDS)
        if root.name == "nodes":
            self.nodes.add(path[0][0])
            if len(path) < 2:
                raise ExpressionError(
                    f"Write nodes.{path[0][0]}.item or nodes.{path[0][0]}.items.", code="type", position=path[0][1]
                )
            if path[1][0] not in NODE_FIELDS:
                raise _unknown(f"nodes.{path[0][0]}", path[1], NODE_FIELDS)

    def _has(self, tree: Select) -> Run:
        operand = tree.operand
        if isinstance(operand, Ident) and operand.name == "nodes":
            self.nodes.add(tree.field)
            self.uses.add("nodes")
            key = tree.field
            return lambda frame: key in frame[0]["nodes"]
        inner, field, at = self.node(operand), tree.field, tree.at

        def has(frame: list[Any]) -> bool:
            value = inner(frame)
            if isinstance(value, Mapping):
                return field in value
            raise mismatch("has", value).at(at)

        return has

    def _call(self, tree: Call) -> Run:
        name = tree.function
        if name == "_[_]" and isinstance(tree.args[0], Ident) and tree.args[0].name == "nodes":
            key = tree.args[1]
            if not isinstance(key, Const) or type(key.value) is not str:
                raise ExpressionError(
                    "Name the node as it stands: nodes.ID or nodes['ID'].", code="type", position=tree.at
                )
            raise ExpressionError(f"Write nodes.{key.value}.", code="type", position=tree.at)
        if name in ("_&&_", "_||_"):
            return _logical(self._chain(tree, name), tree.at, stop=name == "_||_")
        args = [self.node(arg) for arg in tree.args]
        if name == "_?_:_":
            return _choice(*args, at=tree.at)
        self.plain = self.plain or name in _CALCULATING
        if name == "matches" and len(tree.args) == 2 and isinstance(tree.args[1], Const):
            _placed(tree.args[1], lambda: pattern(tree.args[1].value))  # type: ignore[union-attr]
        function = FUNCTIONS.get(name)
        if function is None:
            raise ExpressionError(f"There is no function {name}.", code="type", position=tree.at)
        return _apply(function, args, tree.at)

    def _chain(self, tree: Tree, name: str) -> list[Run]:
        """The parser balances long chains of && and ||; order is kept when they are laid flat."""
        if isinstance(tree, Call) and tree.function == name:
            return self._chain(tree.args[0], name) + self._chain(tree.args[1], name)
        return [self.node(tree)]

    def _list(self, tree: ListOf) -> Run:
        elements = [self.node(element) for element in tree.elements]
        size = SLOT * (len(elements) + 1)

        def make(frame: list[Any]) -> list[Any]:
            frame[1].make(size)
            return [element(frame) for element in elements]

        return make

    def _map(self, tree: MapOf) -> Run:
        entries = [(self.node(key), self.node(value)) for key, value in tree.entries]
        size, at = 2 * SLOT * (len(entries) + 1), tree.at

        def make(frame: list[Any]) -> dict[Any, Any]:
            frame[1].make(size)
            result: dict[Any, Any] = {}
            for read_key, read_value in entries:
                key = read_key(frame)
                if type(key) not in (str, int, bool, Uint):
                    raise ExpressionError("A key is a text, a whole number or a bool.", code="type", position=at)
                if key in result:
                    raise ExpressionError(f"The key {key!r} stands twice.", code="bad_argument", position=at)
                result[key] = read_value(frame)
            return result

        return make

    def _loop(self, tree: Loop) -> Run:
        shape = loops.recognise(tree)
        range_ = self.node(tree.range)
        before, hidden = self.cost, self.variables.get(tree.variable)
        slot = self.slots + 2
        self.slots += 1
        self.variables[tree.variable] = slot
        condition = self.node(shape.condition) if shape.condition is not None else None
        element = self.node(shape.element) if shape.element is not None else None
        if hidden is None:
            del self.variables[tree.variable]
        else:
            self.variables[tree.variable] = hidden
        cost, self.cost = self.cost - before, before + 1
        return loops.loop(shape.macro, range_, slot, cost, condition, element, tree.at)


def _unknown(owner: str, step: tuple[str, int], known: frozenset[str]) -> ExpressionError:
    names = ", ".join(sorted(known))
    return ExpressionError(f"{owner} has no {step[0]}; it has {names}.", code="type", position=step[1])


def _placed(tree: Tree, check: Callable[[], Any]) -> None:
    try:
        check()
    except ExpressionError as error:
        raise error.at(tree.at) from None


def _absent(value: Any, field: str, at: int) -> ExpressionError:
    if isinstance(value, Mapping):
        return ExpressionError(f"There is no key {field!r}.", code="no_such_key", position=at)
    if value is None:
        return ExpressionError(f"There is no {field!r}: the value before it is null.", code="no_such_key", position=at)
    return mismatch(f".{field}", value).at(at)


def _member(inner: Run, field: str, at: int) -> Run:
    def member(frame: list[Any]) -> Any:
        value = inner(frame)
        try:
            if type(value) is dict or isinstance(value, Mapping):
                return value[field]
        except KeyError:
            pass
        raise _absent(value, field, at)

    return member


def _path(inner: Run, path: list[tuple[str, int]]) -> Run:
    steps = tuple(path)

    def walk(frame: list[Any]) -> Any:
        value = inner(frame)
        for field, at in steps:
            try:
                if type(value) is dict or isinstance(value, Mapping):
                    value = value[field]
                    continue
            except KeyError:
                pass
            raise _absent(value, field, at)
        return value

    return walk


def _node_path(at: int, path: list[tuple[str, int]]) -> Run:
    """`nodes.ID.item…`: says which node brought nothing."""
    (node, place), tail = path[0], path[1:]

    def node_value(frame: list[Any]) -> Any:
        try:
            return frame[0]["nodes"][node]
        except KeyError:
            message = f"The node {node} has brought no items here."
            raise ExpressionError(message, code="no_such_key", position=place) from None

    return _path(node_value, tail)


def _apply(function: Callable[..., Any], args: list[Run], at: int) -> Run:
    if len(args) == 1:
        only = args[0]

        def unary(frame: list[Any]) -> Any:
            value = only(frame)
            try:
                return function(frame[1], value)
            except ExpressionError as error:
                raise error.at(at) from None

        return unary
    if len(args) == 2:
        left, right = args

        def binary(frame: list[Any]) -> Any:
            a, b = left(frame), right(frame)
            try:
                return function(frame[1], a, b)
            except ExpressionError as error:
                raise error.at(at) from None

        return binary

    def call(frame: list[Any]) -> Any:
        values = [arg(frame) for arg in args]
        try:
            return function(frame[1], *values)
        except ExpressionError as error:
            raise error.at(at) from None

    return call


def _choice(condition: Run, yes: Run, no: Run, *, at: int) -> Run:
    def choose(frame: list[Any]) -> Any:
        chosen = condition(frame)
        if chosen is True:
            return yes(frame)
        if chosen is False:
            return no(frame)
        raise mismatch("?:", chosen).at(at)

    return choose


def _logical(parts: list[Run], at: int, *, stop: bool) -> Run:
    """`&&` (stop at False) and `||` (stop at True): an error counts only if no side decides (cel-spec)."""
    sign = "||" if stop else "&&"

    def decide(frame: list[Any]) -> bool:
        failure: ExpressionError | None = None
        for part in parts:
            try:
                value = part(frame)
            except ExpressionLimit:
                raise
            except ExpressionError as error:
                failure = failure or error
                continue
            if value is stop:
                return bool(value)
            if type(value) is not bool:
                failure = failure or mismatch(sign, value).at(at)
        if failure is not None:
            raise failure
        return not stop

    return decide
