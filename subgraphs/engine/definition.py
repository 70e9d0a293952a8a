"""The definition of a workflow, format `linkflow/1`: parsing, canonical form, content hash.

A definition is a JSON document; `definition.schema.json` beside this file is its contract and README.md explains it.
`Definition.parse` turns it into frozen structures and raises `Faults` when the document has another shape. Whether a
well-shaped definition can run is asked of `subgraphs.engine.validation.validate`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import islice
from typing import Annotated, Any, Literal

import msgspec
import orjson

from subgraphs.engine.faults import MAX_FAULTS, Fault, Faults, pointer
from subgraphs.engine.shape import shape_faults

__all__ = [
    "Connection",
    "Definition",
    "Fault",
    "Faults",
    "Input",
    "Node",
    "NodeSettings",
    "Retry",
    "Settings",
    "seconds",
]

FORMAT = "linkflow/1"
MAX_NODES = 20_000
MAX_CONNECTIONS = 100_000
MAX_DEPTH = 100
IDENTIFIER = r"^[A-Za-z_][A-Za-z0-9_]{0,63}\Z"
DURATION = r"^P(?=.)([0-9]+D)?(T(?=.)([0-9]+H)?([0-9]+M)?([0-9]+(\.[0-9]+)?S)?)?\Z"

Identifier = Annotated[str, msgspec.Meta(pattern=IDENTIFIER)]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Duration = Annotated[str, msgspec.Meta(pattern=DURATION, max_length=32)]


class _Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What all parts of the document share: no unknown fields, camelCase on the wire."""


class Retry(_Shape, frozen=True, kw_only=True):
    """How often a failed step is tried. `attempts` counts the first one; `delay` precedes the second. Exponential
    backoff doubles it up to `max_delay`; `jitter` draws between half and all of it. `never`: error codes not worth
    another attempt, `x` standing for a digit."""

    attempts: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    backoff: Literal["exponential", "fixed"] = "exponential"
    delay: Duration = "PT1S"
    max_delay: Duration = "PT1M"
    jitter: bool = True
    never: tuple[Word, ...] = ()


class NodeSettings(_Shape, frozen=True, kw_only=True):
    """`timeout` of one attempt (none: that of the node type); `total_timeout` of the whole node, its retries and waits
    included (none: no limit). `on_error`: `stop` fails the execution, `continue` sends
    the input items on with the error added, `output` sends them by the port `error`."""

    retry: Retry = Retry()
    timeout: Duration | None = None
    total_timeout: Duration | None = None
    on_error: Literal["stop", "continue", "output"] = "stop"


class Position(_Shape, frozen=True, kw_only=True):
    """Where an editor draws the node; without meaning to a run."""

    x: float = 0.0
    y: float = 0.0


class Node(_Shape, frozen=True, kw_only=True):
    """One node. `id` is what expressions and connections name, `name` is for people (empty: the id)."""

    id: Identifier
    type: Word
    version: Word
    name: Annotated[str, msgspec.Meta(max_length=200)] = ""
    parameters: dict[str, Any] = {}
    position: Position = Position()
    settings: NodeSettings = NodeSettings()

    @property
    def label(self) -> str:
        return self.name or self.id

    @property
    def key(self) -> str:
        """`type@version`, as catalogues are keyed."""
        return f"{self.type}@{self.version}"


class Connection(_Shape, frozen=True, kw_only=True):
    """Items leave `source` by port `output` and enter `target` by port `input`."""

    source: Identifier = msgspec.field(name="from")
    target: Identifier = msgspec.field(name="to")
    output: Word = "main"
    input: Word = "main"


class Input(_Shape, frozen=True, kw_only=True):
    """A value a manual start asks for."""

    name: Identifier
    type: Literal["string", "number", "integer", "boolean", "object", "array"] = "string"
    required: bool = False
    default: Any = None
    description: Annotated[str, msgspec.Meta(max_length=1000)] = ""


class Settings(_Shape, frozen=True, kw_only=True):
    """Of the whole execution. `timeout`: from start to end, waits included; none: no limit."""

    timeout: Duration | None = None


class _Document(_Shape, frozen=True, kw_only=True):
    format: Literal["linkflow/1"]
    nodes: Annotated[tuple[Node, ...], msgspec.Meta(max_length=MAX_NODES)]
    connections: Annotated[tuple[Connection, ...], msgspec.Meta(max_length=MAX_CONNECTIONS)] = ()
    inputs: Annotated[tuple[Input, ...], msgspec.Meta(max_length=200)] = ()
    settings: Settings = Settings()


@dataclass(frozen=True)
class Definition:
    """A well-shaped definition: nodes by id in document order, connections in document order."""

    nodes: Mapping[str, Node]
    connections: tuple[Connection, ...] = ()
    inputs: tuple[Input, ...] = ()
    settings: Settings = field(default_factory=Settings)

    @classmethod
    def parse(cls, document: Any) -> Definition:
        """From the JSON value (or its bytes). Raises `Faults` naming everything that has the wrong shape."""
        if isinstance(document, bytes):
            document = _decoded(document)
        if fault := unstorable(document):
            raise Faults((fault,))
        try:
            parsed = msgspec.convert(document, _Document)
        except (msgspec.ValidationError, RecursionError) as error:
            raise Faults(_misshapen(document, str(error))) from None
        nodes = {node.id: node for node in parsed.nodes}
        if len(nodes) < len(parsed.nodes):
            raise Faults(tuple(_doubled(parsed.nodes)))
        return cls(nodes, parsed.connections, parsed.inputs, parsed.settings)

    def document(self) -> dict[str, Any]:
        """The JSON value with every default written out and nodes sorted by id: equal definitions, equal documents."""
        return {
            "format": FORMAT,
            "nodes": [msgspec.to_builtins(self.nodes[name]) for name in sorted(self.nodes)],
            "connections": msgspec.to_builtins(self.connections),
            "inputs": msgspec.to_builtins(self.inputs),
            "settings": msgspec.to_builtins(self.settings),
        }

    @cached_property
    def canonical(self) -> bytes:
        """`document()` as UTF-8 JSON: keys sorted by code point, no white space."""
        return orjson.dumps(self.document(), option=orjson.OPT_SORT_KEYS)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical form, hexadecimal."""
        return hashlib.sha256(self.canonical).hexdigest()


@lru_cache(maxsize=4096)
def seconds(duration: str) -> float:
    """Seconds of an ISO 8601 duration of days and smaller units, as `PT1M30S`; raises ValueError for any other text."""
    found = re.fullmatch(r"P(?:([0-9]+)D)?(?:T(?:([0-9]+)H)?(?:([0-9]+)M)?(?:([0-9]+(?:\.[0-9]+)?)S)?)?", duration)
    if found is None or not any(found.groups()) or len(duration) > 32 or not re.match(DURATION, duration):
        raise ValueError(f"{duration[:40]!r} is not a duration such as PT30S, PT5M or P1D")
    days, hours, minutes, rest = (float(part or 0) for part in found.groups())
    return days * 86_400 + hours * 3_600 + minutes * 60 + rest


def depth_exceeds(value: Any, limit: int) -> bool:
    """Whether lists and objects nest deeper than `limit`; level by level, so that no depth can exhaust a stack."""
    level = [value]
    for _ in range(limit + 1):
        below: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                below.extend(inner for inner in each.values() if isinstance(inner, (dict, list)))
            elif isinstance(each, list):
                below.extend(inner for inner in each if isinstance(inner, (dict, list)))
        if not below:
            return False
        level = below
    return True


def unstorable(document: Any) -> Fault | None:
    """What keeps a value from being JSON that survives storage: depth, numbers beyond 64 bits, lone surrogates."""
    if depth_exceeds(document, MAX_DEPTH + 3):  # document, nodes and node stand above parameters
        return Fault(
            code="definition.depth",
            message=f"Parameters nest deeper than {MAX_DEPTH} levels.",
            next_step="Flatten the parameters, or build the value in a code node.",
        )
    try:
        orjson.dumps(document)
    except (orjson.JSONEncodeError, RecursionError) as error:
        return Fault(
            code="definition.json",
            message=f"The definition is not plain JSON: {error}.",
            next_step="Send integers below 2^63, finite numbers and valid Unicode text.",
        )
    return None


def _decoded(document: bytes) -> Any:
    try:
        return orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise Faults(
            (Fault(code="definition.json", message=f"The definition is not JSON: {error}.", position=error.pos),)
        ) from None


def _doubled(nodes: tuple[Node, ...]) -> Iterator[Fault]:
    seen: dict[str, int] = {}
    for index, node in enumerate(nodes):
        first = seen.setdefault(node.id, index)
        if first != index:
            yield Fault(
                code="node.duplicate",
                message=f"Two nodes have the id {node.id} (nodes {first} and {index}).",
                pointer=pointer("nodes", index, "id"),
                node=node.id,
                next_step="Give each node an id of its own.",
            )


def _misshapen(document: Any, reason: str) -> tuple[Fault, ...]:
    """Every place where the document departs from the schema; `reason` stands in when the schema finds none."""
    found = tuple(islice(shape_faults(document), MAX_FAULTS))
    return found or (Fault(code="definition.shape", message=f"The definition has another shape: {reason}."),)
