"""Functions on text: the standard ones and those of CEL's string extension. Positions count characters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import re2  # type: ignore[import-untyped]

from subgraphs.engine.expression.faults import NESTING, Budget, ExpressionError
from subgraphs.engine.expression.values import Kind, Uint, double_text, duration_text, mismatch, timestamp_text

PATTERN_LIMIT = 1_000
"""Characters of a regular expression. The engine is RE2: its time never grows faster than the size of the compiled
pattern times that of the text, which is what is charged (most searches take far less)."""
_SPACE = " \t\n\v\f\r\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


def _typed(name: str, *kinds: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Checks the types of the arguments that came; how many came is the type checker's matter."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def checked(budget: Budget, *values: Any) -> Any:
            for value, kind in zip(values, kinds, strict=False):
                if type(value) is not kind:
                    raise mismatch(name, *values)
            return function(budget, *values)

        return checked

    return wrap


def _made(budget: Budget, text: str) -> str:
    budget.make(len(text))
    return text


def _position(value: int, length: int) -> int:
    if not 0 <= value <= length:
        raise ExpressionError(f"Position {value} is outside a text of {length}.", code="out_of_range")
    return value


@_typed("charAt", str, int)
def char_at(_: Budget, text: str, at: int) -> str:
    position = _position(at, len(text))
    return text[position : position + 1]


@_typed("indexOf", str, str, int)
def index_of(budget: Budget, text: str, part: str, start: int = 0) -> int:
    budget.spend(len(text) >> 6)
    return text.find(part, _position(start, len(text)))


@_typed("lastIndexOf", str, str, int)
def last_index_of(budget: Budget, text: str, part: str, last: int | None = None) -> int:
    budget.spend(len(text) >> 6)
    if last is None:
        return text.rfind(part)
    return text.rfind(part, 0, _position(last, len(text)) + len(part))


@_typed("replace", str, str, str, int)
def replace(budget: Budget, text: str, old: str, new: str, limit: int = -1) -> str:
    count = len(text) + 1 if not old else text.count(old)
    count = min(count, limit) if limit >= 0 else count
    budget.spend(len(text) >> 6)
    budget.make(len(text) + count * (len(new) - len(old)))
    return text.replace(old, new, limit if limit >= 0 else -1)


@_typed("split", str, str, int)
def split(budget: Budget, text: str, separator: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    budget.make(len(text) * (17 if not separator else 1) + 16)
    if not separator:
        parts = list(text) or [""]
        return parts if limit < 0 or len(parts) <= limit else [*parts[: limit - 1], "".join(parts[limit - 1 :])]
    parts = text.split(separator, limit - 1 if limit > 0 else -1)
    budget.make(16 * len(parts))
    return parts


@_typed("substring", str, int, int)
def substring(budget: Budget, text: str, start: int, end: int | None = None) -> str:
    last = len(text) if end is None else _position(end, len(text))
    if _position(start, len(text)) > last:
        raise ExpressionError("The substring would end before it starts.", code="out_of_range")
    return _made(budget, text[start:last])


def join(budget: Budget, parts: Any, separator: Any = "") -> str:
    if type(parts) is not list or type(separator) is not str:
        raise mismatch("join", parts, separator)
    budget.spend(len(parts))
    total = max(0, len(parts) - 1) * len(separator)
    for part in parts:
        if type(part) is not str:
            raise mismatch("join", parts, separator)
        total += len(part)
    budget.make(total)
    return separator.join(parts)


_LOWER = {code: code + 32 for code in range(65, 91)}
_UPPER = {code: code - 32 for code in range(97, 123)}


@_typed("lowerAscii", str)
def lower(budget: Budget, text: str) -> str:
    budget.spend(len(text) >> 6)
    return _made(budget, text.lower() if text.isascii() else text.translate(_LOWER))


@_typed("upperAscii", str)
def upper(budget: Budget, text: str) -> str:
    budget.spend(len(text) >> 6)
    return _made(budget, text.upper() if text.isascii() else text.translate(_UPPER))


@_typed("trim", str)
def trim(budget: Budget, text: str) -> str:
    return _made(budget, text.strip(_SPACE))


@_typed("reverse", str)
def reverse(budget: Budget, text: str) -> str:
    return _made(budget, text[::-1])


@_typed("contains", str, str)
def contains(budget: Budget, text: str, part: str) -> bool:
    budget.spend(len(text) >> 6)
    return part in text


@_typed("startsWith", str, str)
def starts_with(_: Budget, text: str, part: str) -> bool:
    return text.startswith(part)


@_typed("endsWith", str, str)
def ends_with(_: Budget, text: str, part: str) -> bool:
    return text.endswith(part)


@lru_cache(maxsize=512)
def pattern(source: str) -> Any:
    """The compiled pattern; raises what the caller may read."""
    if len(source) > PATTERN_LIMIT:
        raise ExpressionError(f"A pattern has at most {PATTERN_LIMIT} characters.", code="too_large")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        return re2.compile(source, options=options)
    except re2.error as error:
        raise ExpressionError(f"The pattern cannot be read: {error}.", code="bad_argument") from None


@_typed("matches", str, str)
def matches(budget: Budget, text: str, source: str) -> bool:
    """Whether RE2 finds the pattern anywhere in the text."""
    compiled = pattern(source)
    budget.spend(1 + len(text) * compiled.programsize // 10)
    return compiled.search(text) is not None


_QUOTED = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}
_QUOTES = str.maketrans(_QUOTED)


@_typed("strings.quote", str)
def quote(budget: Budget, text: str) -> str:
    return _made(budget, f'"{text.translate(_QUOTES)}"')


def form(budget: Budget, template: Any, values: Any) -> str:
    """`format`: `%s %d %f %e %x %X %o %b %%`, with a precision for `%f` and `%e`."""
    if type(template) is not str or type(values) is not list:
        raise mismatch("format", template, values)
    pieces, at, used = [], 0, 0
    while (sign := template.find("%", at)) >= 0:
        pieces.append(template[at:sign])
        verb, precision, at = _verb(template, sign + 1)
        if verb == "%":
            pieces.append("%")
            continue
        if used >= len(values):
            raise ExpressionError(f"format: there is no value number {used + 1}.", code="out_of_range")
        budget.spend(1)
        pieces.append(_made(budget, _formatted(budget, verb, precision, values[used])))
        used += 1
    pieces.append(template[at:])
    return _made(budget, "".join(pieces))


def _verb(template: str, at: int) -> tuple[str, int, int]:
    precision = 6
    if template[at : at + 1] == ".":
        end = at + 1
        while template[end : end + 1].isdigit() and end - at < 5:
            end += 1
        precision = int(template[at + 1 : end] or 101)
        if precision > 100:
            raise ExpressionError("format: the precision is a number from 0 to 100.", code="out_of_range")
        at = end
    verb = template[at : at + 1]
    if not verb or verb not in "sdfexXob%":
        raise ExpressionError(f"format does not know %{verb}.", code="bad_argument")
    return verb, precision, at + 1


def _formatted(budget: Budget, verb: str, precision: int, value: Any) -> str:
    kind = type(value)
    if verb == "s":
        return _shown(budget, value)
    if verb in "fe" and kind in (int, float, Uint):
        number = float(value)
        if not math.isfinite(number):
            return double_text(number)
        return f"{number:.{precision}{verb}}"
    if verb == "d" and kind in (int, Uint):
        return str(int(value))
    if verb == "d" and kind is float:
        return f"{value:f}" if math.isfinite(value) else double_text(value)
    if verb in "xXob" and kind in (int, Uint):
        return format(int(value), verb)
    if verb == "b" and kind is bool:
        return "1" if value else "0"
    if verb in "xX" and kind in (str, bytes):
        hexed = (value.encode() if kind is str else value).hex()
        return hexed.upper() if verb == "X" else str(hexed)
    raise mismatch(f"format %{verb}", value)


def _shown(budget: Budget, value: Any, depth: int = NESTING) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int():
            return str(int(value))
        case float():
            return double_text(value)
        case datetime():
            return timestamp_text(value)
        case timedelta():
            return duration_text(value)
        case bytes():
            return value.decode(errors="replace")
        case Kind():
            return value.name
    if depth == 0:
        raise ExpressionError("This value nests too deeply.", code="limit")
    budget.spend(2 * len(value))
    if isinstance(value, Mapping):
        pairs = sorted((_shown(budget, key), _shown(budget, inner, depth - 1)) for key, inner in value.items())
        return "{" + ", ".join(f"{key}: {inner}" for key, inner in pairs) + "}"
    return "[" + ", ".join(_shown(budget, inner, depth - 1) for inner in value) + "]"


STRINGS: dict[str, Callable[..., Any]] = {
    "charAt": char_at,
    "indexOf": index_of,
    "lastIndexOf": last_index_of,
    "replace": replace,
    "split": split,
    "substring": substring,
    "join": join,
    "lowerAscii": lower,
    "upperAscii": upper,
    "trim": trim,
    "reverse": reverse,
    "contains": contains,
    "startsWith": starts_with,
    "endsWith": ends_with,
    "matches": matches,
    "strings.quote": quote,
    "format": form,
}
