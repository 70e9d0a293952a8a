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
from subgraphs.engine.settings import DURATION, Identifier, NodeSettings, Retry, Settings, Shape, Word, lean
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
    "pinned",
    "seconds",
]

FORMAT = "linkflow/1"
MAX_NODES = 20_000
MAX_CONNECTIONS = 100_000
MAX_DEPTH = 100
MAX_PINNED = 10_000


class Position(Shape, frozen=True, kw_only=True):
    """Where an editor draws the node; without meaning to a run."""

    x: float = 0.0
    y: float = 0.0


class Node(Shape, frozen=True, kw_only=True):
    """One node. `id` is what expressions and connections name, `name` is for people (empty: the id). `pinned`: items
    that runs of the draft take for the node's output instead of running it; a release has none."""

    id: Identifier
    type: Word
    version: Word
    name: Annotated[str, msgspec.Meta(max_length=200)] = ""
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)
    position: Position = Position()
    settings: NodeSettings = NodeSettings()
    pinned: Annotated[tuple[dict[str, Any], ...], msgspec.Meta(max_length=MAX_PINNED)] | None = None

    @property
    def label(self) -> str:
        return self.name or self.id

    @property
    def key(self) -> str:
        """`type@version`, as catalogues are keyed."""
        return f"{self.type}@{self.version}"


class Connection(Shape, frozen=True, kw_only=True):
    """Items leave `source` by port `output` and enter `target` by port `input`."""

    source: Identifier = msgspec.field(name="from")
    target: Identifier = msgspec.field(name="to")
    output: Word = "main"
    input: Word = "main"


class Input(Shape, frozen=True, kw_only=True):
    """A value a manual start asks for."""

    name: Identifier
    type: Literal["string", "number", "integer", "boolean", "object", "array"] = "string"
    required: bool = False
    default: Any = None
    description: Annotated[str, msgspec.Meta(max_length=1000)] = ""


class _Document(Shape, frozen=True, kw_only=True):
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
        """The JSON value with defaults written out (but for `settings.ADDED`) and nodes sorted by id: equal
        definitions, equal documents."""
        nodes = [lean(msgspec.to_builtins(self.nodes[name])) for name in sorted(self.nodes)]
        for node in nodes:
            lean(node["settings"])
        return {
            "format": FORMAT,
            "nodes": nodes,
            "connections": msgspec.to_builtins(self.connections),
            "inputs": msgspec.to_builtins(self.inputs),
            "settings": lean(msgspec.to_builtins(self.settings)),
        }

    @cached_property
    def canonical(self) -> bytes:
        """`document()` as UTF-8 JSON: keys sorted by code point, no white space."""
        return orjson.dumps(self.document(), option=orjson.OPT_SORT_KEYS)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical form, hexadecimal."""
        return hashlib.sha256(self.canonical).hexdigest()


def pinned(document: Mapping[str, Any], types: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What a run of this draft takes as done: items by node and output port. They leave by `main` where the node's type
    (`types`, by `type@version`) has it, else by its first port."""
    found: dict[str, dict[str, Any]] = {}
    for node in document["nodes"]:
        if (items := node.get("pinned")) is not None:
            ports = [port["name"] for port in types.get(f"{node['type']}@{node['version']}", {}).get("outputs", ())]
            found[node["id"]] = {"main" if "main" in ports or not ports else ports[0]: items}
    return found


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
