"""The attack surface, read from the composed supergraph: operations, where they take ids, entities, selections.

Nothing here names an operation: what is added to the graph is in these lists as soon as it is composed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    build_schema,
    get_named_type,
    is_list_type,
    is_non_null_type,
    is_required_argument,
)

SUPERGRAPH = Path(__file__).resolve().parents[2] / "supergraph" / "supergraph.graphql"
KINDS = ("query", "mutation", "subscription")
DEPTH = 7
"""Objects under one another that a selection reaches: operation, connection, edge, node, and three below."""


@cache
def supergraph() -> GraphQLSchema:
    return build_schema(SUPERGRAPH.read_text(), assume_valid=True)


def _directives(node: Any, name: str) -> Iterator[dict[str, Any]]:
    """The arguments of each use of a directive on a definition."""
    for used in (node.directives if node else None) or ():
        if used.name.value == name:
            yield {argument.name.value: getattr(argument.value, "value", None) for argument in used.arguments}


def graphs_of_type(named: Any) -> dict[str, dict[str, Any]]:
    """The subgraphs that hold a type, with the arguments of their join (`key`, `resolvable`)."""
    return {used["graph"].lower(): used for used in _directives(named.ast_node, "join__type")}


def graphs_of_field(parent: GraphQLObjectType, field: GraphQLField) -> set[str]:
    """The subgraphs that resolve a field."""
    said = list(_directives(field.ast_node, "join__field"))
    if not said:
        return set(graphs_of_type(parent))
    return {used["graph"].lower() for used in said if used.get("graph") and not used.get("external")}


@dataclass(frozen=True, slots=True)
class Place:
    """One leaf among an operation's arguments: `path` leads to it through the variables."""

    path: tuple[str, ...]
    type: str
    required: bool
    listed: bool
    coordinate: str
    """As `SaveDraftInput.workflowId`, or `Query.workflow.id`."""

    @property
    def name(self) -> str:
        return self.path[-1]


@dataclass(frozen=True, slots=True)
class Operation:
    """A root field, at the subgraph that resolves it."""

    kind: str
    name: str
    subgraph: str
    field: GraphQLField

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def places(self) -> list[Place]:
        root = f"{self.kind.title()}.{self.name}"
        found: list[Place] = []
        for name, argument in self.field.args.items():
            found += _leaves((name,), argument, f"{root}.{name}", frozenset())
        return found

    def ids(self) -> list[Place]:
        return [place for place in self.places if place.type == "ID"]

    @property
    def document(self) -> str:
        """The operation with all its arguments as variables, asking for everything its subgraph can say."""
        arguments = self.field.args
        declared = ", ".join(f"${name}: {argument.type}" for name, argument in arguments.items())
        given = ", ".join(f"{name}: ${name}" for name in arguments)
        head = f"{self.kind} ({declared})" if arguments else self.kind
        call = f"{self.name}({given})" if arguments else self.name
        return f"{head} {{ {call} {selection(self.field.type, self.subgraph)} }}"


def _leaves(
    path: tuple[str, ...],
    holder: GraphQLArgument | GraphQLInputField,
    coordinate: str,
    above: frozenset[str],
    needed: bool = True,
) -> list[Place]:
    """The leaves below a holder; what is required of something that may be left out is not required."""
    named = get_named_type(holder.type)
    required = is_required_argument(holder) if isinstance(holder, GraphQLArgument) else is_non_null_type(holder.type)
    required = required and needed
    if isinstance(named, GraphQLInputObjectType):
        if named.name in above:
            return []
        inner = above | {named.name}
        return [
            place
            for name, field in named.fields.items()
            for place in _leaves((*path, name), field, f"{named.name}.{name}", inner, required)
        ]
    bare = holder.type.of_type if is_non_null_type(holder.type) else holder.type
    return [Place(path, named.name, required, is_list_type(bare), coordinate)]


def operations() -> list[Operation]:
    """Every root field, once for each subgraph that resolves it."""
    schema = supergraph()
    roots = {"query": schema.query_type, "mutation": schema.mutation_type, "subscription": schema.subscription_type}
    return [
        Operation(kind, name, graph, field)
        for kind, root in roots.items()
        if root is not None
        for name, field in root.fields.items()
        for graph in sorted(graphs_of_field(root, field))
    ]


@dataclass(frozen=True, slots=True)
class Entity:
    """A type that a subgraph may be asked for by `_entities`."""

    type: str
    subgraph: str
    key: str

    @property
    def document(self) -> str:
        named = supergraph().type_map[self.type]
        chosen = selection(named, self.subgraph)
        return f"query ($r: [_Any!]!) {{ _entities(representations: $r) {{ __typename ... on {self.type} {chosen} }} }}"


def entities() -> list[Entity]:
    """Every entity at every subgraph that knows it by key, resolvable there or not."""
    return [
        Entity(name, graph, join["key"])
        for name, named in supergraph().type_map.items()
        if isinstance(named, GraphQLObjectType)
        for graph, join in graphs_of_type(named).items()
        if join.get("key")
    ]


def enum_values(name: str) -> list[str]:
    named = supergraph().type_map[name]
    assert isinstance(named, GraphQLEnumType), f"{name} is no enum"
    return list(named.values)


# -- selections


def selection(type: Any, graph: str, depth: int = DEPTH, above: tuple[str, ...] = ()) -> str:
    """Everything below a type that this subgraph says by itself; empty for a leaf."""
    named = get_named_type(type)
    if isinstance(named, GraphQLUnionType | GraphQLInterfaceType):
        return _members(named, graph, depth, above)
    if not isinstance(named, GraphQLObjectType):
        return ""
    return "{ " + " ".join(["__typename", *_fields(named, graph, depth, above)]) + " }"


def _fields(named: GraphQLObjectType, graph: str, depth: int, above: tuple[str, ...]) -> list[str]:
    chosen = []
    for name, field in named.fields.items():
        inner = get_named_type(field.type)
        leaf = not isinstance(inner, GraphQLObjectType | GraphQLUnionType | GraphQLInterfaceType)
        unreachable = not leaf and (depth <= 1 or inner.name in above)
        needy = any(is_required_argument(argument) for argument in field.args.values())
        if unreachable or needy or graph not in graphs_of_field(named, field):
            continue
        few = "(first: 3)" if "first" in field.args else ""
        chosen.append(f"{name}{few} {selection(inner, graph, depth - 1, (*above, named.name))}".strip())
    return chosen


def _members(named: GraphQLUnionType | GraphQLInterfaceType, graph: str, depth: int, above: tuple[str, ...]) -> str:
    """A fragment for each member; a field that another member has with another type gets an alias."""
    schema, taken, parts = supergraph(), dict[str, str](), ["__typename"]
    for member in schema.get_possible_types(named):
        if graph not in graphs_of_type(member):
            continue
        lines = []
        for line in _fields(member, graph, depth, above):
            name = line.split(" ", 1)[0].split("(", 1)[0]
            kind = str(member.fields[name].type)
            alias = "" if taken.setdefault(name, kind) == kind else f"{member.name}_{name}: "
            lines.append(alias + line)
        if lines:
            parts.append(f"... on {member.name} {{ {' '.join(lines)} }}")
    return "{ " + " ".join(parts) + " }"


# -- variables


def placed(variables: Mapping[str, Any], place: Place, value: Any) -> dict[str, Any]:
    """A copy of the variables with this value at this place."""
    head, *rest = place.path
    copied = dict(variables)
    if rest:
        inner = copied.get(head) or {}
        below = Place(tuple(rest), place.type, place.required, place.listed, place.coordinate)
        copied[head] = placed(inner, below, value)
    else:
        copied[head] = [value] if place.listed else value
    return copied
