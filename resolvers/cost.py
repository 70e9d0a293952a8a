"""What an operation can cost at most, in objects, known before it runs.

Each object counts 1, a leaf 0. A list counts its size times what stands in it; the size is the slicing argument of
`@listSize` (a literal, a variable or its default), else `assumedSize`, else ASSUMED. `@cost` on a field adds its weight
once per resolution. `_entities` counts its representations. Fragments are priced once per type. Where sizes
are variables the sum stays open, and is closed for each request.

Source of the model: IBM's GraphQL cost directives specification, and Apollo's demand control for `sizedFields`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    ArgumentNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLField,
    GraphQLNamedType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    VariableNode,
    get_named_type,
    is_composite_type,
    is_list_type,
    is_non_null_type,
)
from strawberry.federation.schema_directives import Cost, ListSize

ASSUMED = 100
"""Rows in a list that says nothing about its size."""

MUTATION = 10
"""What a mutation costs on top of what it returns."""


@dataclass(frozen=True, slots=True)
class Size:
    """Rows of a list: `rows`, or what the variable holds (a number, or a list's length), `rows` being its default."""

    rows: int
    variable: str | None = None

    def under(self, variables: Mapping[str, Any]) -> int:
        value = variables.get(self.variable, self.rows) if self.variable else self.rows
        if isinstance(value, list):
            return len(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return int(min(abs(value), 2**53))
        return self.rows


ONE = Size(1)


@dataclass(slots=True)
class Price:
    """The price of a selection: `fixed`, plus parts whose size is a variable."""

    fixed: float = 0
    open: list[tuple[Size, float, "Price"]] = field(default_factory=list)

    def add(self, once: float, size: Size, each: float, inner: "Price") -> None:
        self.fixed += once
        if size.variable is None and not inner.open:
            self.fixed += size.rows * (each + inner.fixed)
        else:
            self.open.append((size, each, inner))

    def under(self, variables: Mapping[str, Any], known: dict[int, float] | None = None) -> float:
        """The price for these variables; a negative size counts as its absolute value, and is refused later."""
        if not self.open:
            return self.fixed
        known = {} if known is None else known
        if id(self) not in known:
            known[id(self)] = self.fixed + sum(
                size.under(variables) * (each + inner.under(variables, known)) for size, each, inner in self.open
            )
        return known[id(self)]


class Pricing:
    """Prices the operations of one document."""

    def __init__(self, schema: GraphQLSchema, document: DocumentNode) -> None:
        self.schema = schema
        self.fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
        self.known: dict[tuple[str, str, tuple[tuple[str, Size], ...]], Price] = {}
        self.defaults: dict[str, int] = {}

    def operation(self, operation: OperationDefinitionNode) -> Price:
        root = self.schema.get_root_type(operation.operation)
        self.known.clear()
        self.defaults = {
            definition.variable.name.value: _rows(definition.default_value)
            for definition in operation.variable_definitions or ()
            if isinstance(definition.default_value, (IntValueNode, ListValueNode))
        }
        price = Price()
        self.selection(price, operation.selection_set, root, ())
        if operation.operation is OperationType.MUTATION:
            price.fixed += MUTATION * len(operation.selection_set.selections)
        return price

    def selection(
        self,
        price: Price,
        selections: SelectionSetNode,
        parent: GraphQLNamedType | None,
        sized: tuple[tuple[str, Size], ...],
    ) -> None:
        for chosen in selections.selections:
            if isinstance(chosen, FieldNode):
                self.field(price, chosen, parent, sized)
            elif isinstance(chosen, InlineFragmentNode):
                on = chosen.type_condition
                inner = self.schema.type_map.get(on.name.value) if on else parent
                self.selection(price, chosen.selection_set, inner, sized)
            elif isinstance(chosen, FragmentSpreadNode):
                price.add(0, ONE, 0, self.fragment(chosen.name.value, sized))

    def fragment(self, name: str, sized: tuple[tuple[str, Size], ...]) -> Price:
        definition = self.fragments.get(name)
        key = (name, definition.type_condition.name.value if definition else "", sized)
        if key not in self.known:
            price = Price()
            if definition:
                self.selection(price, definition.selection_set, self.schema.type_map.get(key[1]), sized)
            self.known[key] = price
        return self.known[key]

    def field(
        self,
        price: Price,
        node: FieldNode,
        parent: GraphQLNamedType | None,
        sized: tuple[tuple[str, Size], ...],
    ) -> None:
        known: GraphQLField | None = getattr(parent, "fields", {}).get(node.name.value)
        if known is None:  # introspection, or an unknown name that validation is going to refuse
            return
        lists, costs = _directives(known)
        of = get_named_type(known.type)
        inner, each = Price(), 1.0 if is_composite_type(of) else 0.0
        size = self.size(node, known, lists)
        of_list = is_list_type(known.type.of_type if is_non_null_type(known.type) else known.type)
        below = tuple((name, size) for name in (lists.sized_fields or ())) if lists and not of_list else ()
        if node.selection_set:
            self.selection(inner, node.selection_set, of, below)
        rows = dict(sized).get(node.name.value, size) if of_list else ONE
        price.add(costs.weight if costs else 0, rows, each, inner)

    def size(self, node: FieldNode, known: GraphQLField, lists: ListSize | None) -> Size:
        given = {argument.name.value: argument for argument in node.arguments or ()}
        if node.name.value == "_entities":
            return self.sliced(given.get("representations"), ASSUMED)
        assumed = lists.assumed_size if lists and isinstance(lists.assumed_size, int) else None
        found: list[Size] = []
        for name in (lists.slicing_arguments or ()) if lists else ():
            argument = known.args.get(name)
            default = argument.default_value if argument and isinstance(argument.default_value, int) else assumed
            found.append(self.sliced(given.get(name), ASSUMED if default is None else default))
        if found:
            return max(found, key=lambda size: (size.variable is not None, size.rows))
        return Size(ASSUMED if assumed is None else assumed)

    def sliced(self, argument: ArgumentNode | None, default: int) -> Size:
        value = argument.value if argument else None
        if isinstance(value, VariableNode):
            return Size(self.defaults.get(value.name.value, default), value.name.value)
        return Size(_rows(value) if isinstance(value, (IntValueNode, ListValueNode)) else default)


def _rows(value: Any) -> int:
    if isinstance(value, ListValueNode):
        return len(value.values)
    digits = str(value.value).lstrip("-")
    return int(digits) if len(digits) < 16 else 2**53


def _directives(known: GraphQLField) -> tuple[ListSize | None, Cost | None]:
    definition = known.extensions.get("strawberry-definition") if known.extensions else None
    lists = costs = None
    for directive in getattr(definition, "directives", None) or ():
        if isinstance(directive, ListSize):
            lists = directive
        elif isinstance(directive, Cost):
            costs = directive
    return lists, costs


def price(schema: GraphQLSchema, document: DocumentNode) -> dict[str | None, Price]:
    """The price of each operation by its name (nothing for the unnamed one)."""
    pricing = Pricing(schema, document)
    return {
        definition.name.value if definition.name else None: pricing.operation(definition)
        for definition in document.definitions
        if isinstance(definition, OperationDefinitionNode)
    }
