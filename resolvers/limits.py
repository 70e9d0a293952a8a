"""How large a document may be, measured before it is validated, each step cheaper than what it protects.

Order: bytes, tokens, depth, equal fields, aliases (all here, on the bare text and tree), then cost (`resolvers.cost`),
then validation. A document that fails a step never reaches the next one, which bounds the CPU time of any refusal.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    parse,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one document may hold. `cost` counts objects (see `resolvers.cost`), `errors` what an answer shows."""

    bytes: int = 65_536
    tokens: int = 1_500
    depth: int = 16
    equal_fields: int = 20
    aliases: int = 50
    cost: float = 20_000
    errors: int = 10


class Refused(GraphQLError):
    """The document is over a limit."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message, extensions={"code": code})


_TOKEN = re.compile(
    r'"""(?:\\"""|[^"]|"(?!""))*(?:"""|\Z)'  # block string; one left open runs to the end
    r'|"(?:\\.|[^"\\\n\r])*"?'
    r"|#[^\n\r]*"
    r"|\.\.\.|[A-Za-z_][A-Za-z0-9_]*|-?[0-9][0-9A-Za-z.+-]*"
    r"|[^\s,\ufeff]"
)


def read(text: str, limits: Limits) -> DocumentNode:
    """The document inside `text`, if it is within bytes and tokens (comments count); raises GraphQLError if not."""
    if len(text) > limits.bytes or len(text.encode("utf-8", "surrogatepass")) > limits.bytes:
        raise Refused(f"The document is longer than {limits.bytes} bytes.", "DOCUMENT_TOO_LARGE")
    if sum(1 for _ in islice(_TOKEN.finditer(text), limits.tokens + 1)) > limits.tokens:
        raise Refused(f"The document has more than {limits.tokens} tokens.", "DOCUMENT_TOO_MANY_TOKENS")
    return parse(text, max_tokens=limits.tokens, no_location=False)


@dataclass(slots=True)
class Shape:
    """What a selection set holds with everything it spreads: levels below it, aliases, and its own fields by key."""

    depth: int = 0
    aliases: int = 0
    most_equal: int = 0
    keys: Counter[str] = field(default_factory=Counter)

    def take(self, other: "Shape") -> None:
        """Adds what stands at the same level (an inline or named fragment)."""
        self.depth = max(self.depth, other.depth)
        self.aliases += other.aliases
        self.keys.update(other.keys)
        self.most_equal = max(self.most_equal, other.most_equal)

    def take_below(self, other: "Shape") -> None:
        """Adds what stands one level down (the selection of a field)."""
        self.depth = max(self.depth, other.depth + 1)
        self.aliases += other.aliases
        self.most_equal = max(self.most_equal, other.most_equal)


class _Measuring:
    """Walks every fragment once, whatever spreads it; a fragment that reaches itself is refused."""

    def __init__(self, document: DocumentNode) -> None:
        self.fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
        self.known: dict[str, Shape] = {}
        self.open: set[str] = set()

    def selection(self, selections: SelectionSetNode) -> Shape:
        shape = Shape(depth=1)
        for chosen in selections.selections:
            self.add(shape, chosen)
        shape.most_equal = max(shape.most_equal, *shape.keys.values(), 0)
        return shape

    def add(self, shape: Shape, chosen: SelectionNode) -> None:
        if isinstance(chosen, FragmentSpreadNode):
            shape.take(self.fragment(chosen.name.value))
            return
        below: SelectionSetNode | None = getattr(chosen, "selection_set", None)
        inner = self.selection(below) if below else Shape()
        if not isinstance(chosen, FieldNode):
            shape.take(inner)
            return
        shape.keys[(chosen.alias or chosen.name).value] += 1
        shape.aliases += chosen.alias is not None
        shape.take_below(inner)

    def fragment(self, name: str) -> Shape:
        if name in self.open:
            raise GraphQLError("A fragment spreads itself.", extensions={"code": "GRAPHQL_VALIDATION_FAILED"})
        if name not in self.known:
            self.open.add(name)
            definition = self.fragments.get(name)
            self.known[name] = self.selection(definition.selection_set) if definition else Shape()
            self.open.discard(name)
        return self.known[name]


def shapes(document: DocumentNode) -> Iterator[Shape]:
    """The shape of every operation, and of every fragment (also of those that nothing spreads)."""
    measuring = _Measuring(document)
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            yield measuring.selection(definition.selection_set)
    for name in measuring.fragments:
        yield measuring.fragment(name)


def check(document: DocumentNode, limits: Limits) -> None:
    """Raises Refused for the first of depth, equal fields, aliases that any part of the document exceeds."""
    try:
        found = list(shapes(document))
    except RecursionError:
        raise Refused(f"The document nests deeper than {limits.depth} levels.", "DOCUMENT_TOO_DEEP") from None
    if max((shape.depth for shape in found), default=0) > limits.depth:
        raise Refused(f"The document nests deeper than {limits.depth} levels.", "DOCUMENT_TOO_DEEP")
    if max((shape.most_equal for shape in found), default=0) > limits.equal_fields:
        raise Refused(
            f"A selection repeats one field more than {limits.equal_fields} times.", "DOCUMENT_TOO_MANY_EQUAL_FIELDS"
        )
    if max((shape.aliases for shape in found), default=0) > limits.aliases:
        raise Refused(f"The document has more than {limits.aliases} aliases.", "DOCUMENT_TOO_MANY_ALIASES")
