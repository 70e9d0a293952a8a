"""From source to checked tree: Google's CEL parser and type checker, and a reader of the `CheckedExpr` it serialises.

The messages are those of `cel/expr/syntax.proto` and `cel/expr/checked.proto`; only the fields used are read.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

from cel_expr_python import cel
from cel_expr_python.ext import ext_strings

from subgraphs.engine.expression.faults import ExpressionError
from subgraphs.engine.expression.values import Uint
from subgraphs.engine.expression.wording import plain

SOURCE_LIMIT = 4_096
"""Characters of one expression: checking one takes at most about 0.1 s. The native parser overflows its stack somewhere
above 10,000 nested brackets."""
BRACKET_LIMIT = 64

NAMES = frozenset({"item", "items", "nodes", "trigger", "execution", "vars", "now"})
"""The names an expression may use."""


@dataclass(slots=True)
class Node:
    """A node of the tree. `at`: offset in the source. `type`: what the checker found (`dyn`, `int`, `list`, …)."""

    id: int = 0
    at: int = 0
    type: str = "dyn"


@dataclass(slots=True)
class Const(Node):
    value: Any = None


@dataclass(slots=True)
class Ident(Node):
    name: str = ""


@dataclass(slots=True)
class Select(Node):
    operand: Tree = field(default_factory=Const)
    field: str = ""
    test: bool = False


@dataclass(slots=True)
class Call(Node):
    function: str = ""
    args: list[Tree] = field(default_factory=list)
    """The receiver first, if there is one."""


@dataclass(slots=True)
class ListOf(Node):
    elements: list[Tree] = field(default_factory=list)


@dataclass(slots=True)
class MapOf(Node):
    entries: list[tuple[Tree, Tree]] = field(default_factory=list)


@dataclass(slots=True)
class Loop(Node):
    """A comprehension; only macros make one."""

    variable: str = ""
    range: Tree = field(default_factory=Const)
    accumulator: str = ""
    init: Tree = field(default_factory=Const)
    condition: Tree = field(default_factory=Const)
    step: Tree = field(default_factory=Const)
    result: Tree = field(default_factory=Const)


Tree: TypeAlias = Const | Ident | Select | Call | ListOf | MapOf | Loop

_MIXED = """
stdlib:
  exclude_functions: [{name: _+_}, {name: _-_}, {name: "_*_"}, {name: _/_}, {name: _<_}, {name: _<=_}, {name: _>_},
                      {name: _>=_}]
functions:
"""
_NUMBERS = ("int", "uint", "double")
_SUMS: dict[str, list[tuple[str, str, str]]] = {
    "_+_": [("string",) * 3, ("bytes",) * 3, ("timestamp", "duration", "timestamp"),
            ("duration", "timestamp", "timestamp"), ("duration",) * 3],
    "_-_": [("timestamp", "timestamp", "duration"), ("timestamp", "duration", "timestamp"), ("duration",) * 3],
    "_*_": [],
    "_/_": [],
}  # fmt: skip
_ORDERED = ("bool", "string", "bytes", "timestamp", "duration")


def _declarations() -> str:
    """The arithmetic and ordering of the standard, and beside it int with double, for JSON knows one kind of number."""
    lines = [_MIXED]

    def declare(function: str, overloads: list[tuple[str, str, str]], more: str = "") -> None:
        lines.append(f'- name: "{function}"\n  overloads:\n{more}')
        for left, right, result in overloads:
            lines.append(
                f"  - id: {left}{_ALPHABETIC[function]}{right}\n    args: [{{type_name: {left}}}, "
                f"{{type_name: {right}}}]\n    return: {{type_name: {result}}}\n"
            )

    for function, others in _SUMS.items():
        numbers = [(kind,) * 3 for kind in _NUMBERS] + [("int", "double", "double"), ("double", "int", "double")]
        lists = "{type_name: list, params: [{type_name: A, is_type_param: true}]}"
        more = f"  - id: add_list\n    args: [{lists}, {lists}]\n    return: {lists}\n" if function == "_+_" else ""
        declare(function, numbers + others, more)
    for function in ("_<_", "_<=_", "_>_", "_>=_"):
        pairs = [(a, b) for a in _NUMBERS for b in _NUMBERS] + [(kind, kind) for kind in _ORDERED]
        declare(function, [(a, b, "bool") for a, b in pairs])
    return "".join(lines)


_ALPHABETIC = {
    "_+_": "_plus_", "_-_": "_minus_", "_*_": "_times_", "_/_": "_by_",
    "_<_": "_below_", "_<=_": "_upto_", "_>_": "_above_", "_>=_": "_from_",
}  # fmt: skip


@lru_cache(maxsize=32)
def _environment(names: frozenset[str]) -> Any:
    kinds = {
        "items": cel.Type.List(cel.Type.DYN),
        "nodes": cel.Type.Map(cel.Type.STRING, cel.Type.Map(cel.Type.STRING, cel.Type.DYN)),
        "now": cel.Type.TIMESTAMP,
    }
    return cel.NewEnv(
        config=cel.NewEnvConfigFromYaml(_declarations()),
        variables={name: kinds.get(name, cel.Type.DYN) for name in sorted(names)},
        extensions=[ext_strings.ExtStrings()],
    )


_STRANGE = re.compile("[\0\ud800-\udfff]")
_FAULT = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): ([^\n]*)")


def parse(source: str, names: frozenset[str] = NAMES) -> Tree | list[ExpressionError]:
    """The checked tree of `source`, or all that the parser and the checker find."""
    found = _guarded(source)
    if found is not None:
        return [found]
    try:
        serialised = _environment(names).compile(source).serialize()
    except RuntimeError as error:
        return _faults(source, str(error))
    try:
        return _Reader(serialised).tree()
    except ExpressionError as error:
        return [error]


def _guarded(source: str) -> ExpressionError | None:
    """What must not reach the native parser: too long, nested too deep, or not text."""
    if len(source) > SOURCE_LIMIT:
        return ExpressionError(f"An expression has at most {SOURCE_LIMIT} characters.", code="too_large", position=0)
    if not source.strip():
        return ExpressionError("The expression is empty.", code="syntax", position=0)
    strange = _STRANGE.search(source)
    if strange:
        return ExpressionError("This character cannot stand in an expression.", code="syntax", position=strange.start())
    if sum(map(source.count, "([{")) <= BRACKET_LIMIT:
        return None
    depth = 0
    for at, mark in enumerate(source):
        depth += (mark in "([{") - (mark in ")]}")
        if depth > BRACKET_LIMIT:
            return ExpressionError("The expression nests too deeply.", code="too_large", position=at)
    return None


def _faults(source: str, text: str) -> list[ExpressionError]:
    starts = [0]
    for line in source.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    found: list[ExpressionError] = []
    for line, column, words in _FAULT.findall(text):
        row, message = int(line), str(words)
        position = starts[row - 1] + int(column) - 1 if 0 < row < len(starts) else 0
        if message.startswith("<<nil>>") and found:
            continue  # follows from what was found before
        code = "syntax" if message.startswith("Syntax error") else "type"
        if "recursion" in message:
            code, message = "too_large", "The expression nests too deeply."
        elif code == "syntax":
            message = plain(message)
        else:
            message = message[:1].upper() + message[1:].replace(" (in container '')", "")
        found.append(ExpressionError(message[:300], code=code, position=min(position, len(source))))
    if not found:
        deep = "recursion" in text
        message = "The expression nests too deeply." if deep else text.split(" [")[0][:300]
        found.append(ExpressionError(message, code="too_large" if deep else "syntax", position=0))
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: bytes) -> list[tuple[int, Any]]:
    """(field number, int | bytes) of one protobuf message; one-byte numbers, the usual case, are read in place."""
    found: list[tuple[int, Any]] = []
    at, end = 0, len(data)
    while at < end:
        tag = data[at]
        at += 1
        if tag >= 0x80:
            tag, at = _varint(data, at - 1)
        kind = tag & 7
        size = 8 if kind == 1 else 4
        if kind in (0, 2):
            size = data[at]
            at += 1
            if size >= 0x80:
                size, at = _varint(data, at - 1)
        if kind == 0:
            found.append((tag >> 3, size))
        else:
            found.append((tag >> 3, data[at : at + size]))
            at += size
    return found


def _entry(data: bytes) -> tuple[int, Any]:
    """Key and value of one entry of a map from integers."""
    size = len(data)
    if size >= 4 and data[0] == 0x08 and data[1] < 0x80 > data[3]:  # small numbers, the usual case
        if data[2] == 0x10 and size == 4:
            return data[1], data[3]
        if data[2] == 0x12 and size == 4 + data[3]:
            return data[1], data[4:]
    entry = dict(_fields(data))
    return entry.get(1, 0), entry.get(2, 0)


@lru_cache(maxsize=1024)
def _type(data: bytes) -> str:
    for number, value in _fields(data):
        if number in (3, 4):
            return _PRIMITIVES.get(value, "dyn")
        if number == 5:
            return _WELL_KNOWN.get(value, "dyn")
        return _TYPES.get(number, "dyn")
    return "dyn"


_PRIMITIVES = {1: "bool", 2: "int", 3: "uint", 4: "double", 5: "string", 6: "bytes"}
_WELL_KNOWN = {1: "dyn", 2: "timestamp", 3: "duration"}
_TYPES = {1: "dyn", 2: "null", 6: "list", 7: "map", 9: "message", 10: "dyn", 11: "type"}


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


class _Reader:
    def __init__(self, serialised: bytes) -> None:
        checked = next(value for number, value in _fields(serialised) if number == 2)
        self.types: dict[int, str] = {}
        self.positions: dict[int, int] = {}
        self.root = b""
        for number, value in _fields(checked):
            if number == 3:
                key, kind = _entry(value)
                self.types[key] = _type(kind or b"")
            elif number == 4:
                self.root = value
            elif number == 5:
                self.positions = dict(_entry(content) for part, content in _fields(value) if part == 4)

    def tree(self) -> Tree:
        return self._node(self.root)

    def _node(self, data: bytes) -> Tree:
        if len(data) >= 4 and data[0] == 0x10 and data[1] < 0x80 > data[3] and len(data) == 4 + data[3]:
            id_, kind, body = data[1], data[2] >> 3, data[4:]  # a small id and one short field, the usual case
        else:
            fields = dict(_fields(data))
            id_ = fields.pop(2, 0)
            kind, body = fields.popitem()
        place = (id_, self.positions.get(id_, 0), self.types.get(id_, "dyn"))
        match kind:
            case 3:
                return Const(*place, self._constant(body))
            case 4:
                return Ident(*place, dict(_fields(body)).get(1, b"").decode())
            case 5:
                parts = dict(_fields(body))
                return Select(*place, self._node(parts[1]), parts[2].decode(), bool(parts.get(3, 0)))
            case 6:
                return self._call(place, body)
            case 7:
                return ListOf(*place, [self._node(value) for number, value in _fields(body) if number == 1])
            case 8:
                return self._map(place, body)
            case _:
                return self._loop(place, body)

    def _call(self, place: tuple[int, int, str], body: bytes) -> Call:
        function = ""
        args: list[Tree] = []
        for number, value in _fields(body):
            if number == 2:
                function = value.decode()
            elif number == 1:
                args.insert(0, self._node(value))
            else:
                args.append(self._node(value))
        return Call(*place, function, args)

    def _map(self, place: tuple[int, int, str], body: bytes) -> MapOf:
        entries = []
        for number, value in _fields(body):
            entry = dict(_fields(value)) if number == 2 else {}
            if number == 1 or 3 not in entry:
                raise ExpressionError("Messages cannot be made here; write a map.", code="type", position=place[1])
            entries.append((self._node(entry[3]), self._node(entry[4])))
        return MapOf(*place, entries)

    def _loop(self, place: tuple[int, int, str], body: bytes) -> Loop:
        parts = dict(_fields(body))
        trees = [self._node(parts[number]) for number in (2, 4, 5, 6, 7)]
        range_, init, condition, step, result = trees
        return Loop(*place, parts[1].decode(), range_, parts[3].decode(), init, condition, step, result)

    @staticmethod
    def _constant(data: bytes) -> Any:
        for number, value in _fields(data):
            match number:
                case 1:
                    return None
                case 2:
                    return bool(value)
                case 3:
                    return _signed(value)
                case 4:
                    return Uint(value)
                case 5:
                    return struct.unpack("<d", value)[0]
                case 6:
                    return value.decode()
                case 7:
                    return bytes(value)
        return None
