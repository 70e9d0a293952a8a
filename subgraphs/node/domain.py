"""A node type: what a node of it takes, gives and does to the world, as its manifest says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from subgraphs.engine.parameters import defaults

SEMVER = re.compile(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})(?:[-+].*)?")


@dataclass(frozen=True, slots=True)
class Condition:
    """A parameter counts only while its sibling `parameter` has one of `values`."""

    parameter: str
    values: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Choices:
    """Where the values that a form offers come from: a GraphQL `query`, whose answer holds them under the fields
    `items` (a path; lists on the way are walked). `value` and `label` are fields of each. `variables`: parameters
    beside this one by the variable that takes their value; `search`: the variable that takes what a person types."""

    query: str
    items: str
    value: str
    label: str
    variables: Mapping[str, str]
    search: str | None

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Choices:
        variables = told.get("variables") or {}
        return cls(told["query"], told["items"], told["value"], told["label"], variables, told.get("search"))


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter as a form shows it. `kind`: its JSON type, `any` when it may have several. `names`: those that CEL
    without braces may use here; None where braces make an expression."""

    name: str
    title: str
    description: str | None
    kind: str
    required: bool
    default: Any
    choices: Sequence[Any] | None
    secret: bool
    editor: str | None
    shown_when: Sequence[Condition]
    choices_from: Choices | None
    names: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class NodeType:
    """A version of a node type. `versions`: all there are of it, the newest first."""

    manifest: Mapping[str, Any]
    versions: Sequence[str] = ()

    @property
    def type(self) -> str:
        return str(self.manifest["type"])

    @property
    def version(self) -> str:
        return str(self.manifest["version"])

    @property
    def order(self) -> list[int]:
        """Its version as numbers that sort; a version that is not semantic comes first of all."""
        found = SEMVER.fullmatch(self.version)
        return [int(part) for part in found.groups()] if found else [-1, 0, 0]

    @property
    def words(self) -> str:
        """What a search looks through."""
        named = (str(self.manifest.get(name, "")) for name in ("type", "title", "summary", "category"))
        return " ".join(named).replace("\0", " ").lower()

    @property
    def defaults(self) -> dict[str, Any]:
        """The parameters a new node starts with."""
        return defaults(self.manifest["parameters"])

    def form(self) -> Iterator[Parameter]:
        """The parameters in the order of the schema."""
        schema = self.manifest["parameters"]
        required = set(schema.get("required", ()))
        for name, inner in schema.get("properties", {}).items():
            kind = inner.get("type", "any")
            yield Parameter(
                name=name,
                title=inner.get("title", name),
                description=inner.get("description"),
                kind=kind if isinstance(kind, str) else "any",
                required=name in required and "default" not in inner,
                default=inner.get("default"),
                choices=inner.get("enum"),
                secret=bool(inner.get("x-secret")),
                editor=inner.get("x-editor"),
                shown_when=[Condition(*each) for each in inner.get("x-show", {}).items()],
                choices_from=Choices.of(inner["x-choices"]) if "x-choices" in inner else None,
                names=inner.get("x-cel"),
            )


class Registry(Protocol):
    """Where node types are kept, within one transaction."""

    async def replace(self, digest: str, types: Sequence[NodeType]) -> None:
        """These and no others are there from now on."""
