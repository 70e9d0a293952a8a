"""What a node type is, what its body gets, and what it gives back.

A node type is one module under `nodes/` with a `NODE: NodeType`. Its body gets a `Step` and yields `(port, item)`
pairs, one by one. A pure body is a generator; a body that waits for something is an async generator. Bodies never give
back a list of all items, so that large data can stream through them later.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, TypeAlias
from uuid import UUID

from subgraphs.engine.step import Item, StepError

MAIN = "main"
ERROR = "error"
TIMEOUT = "timeout"
"""The port by which the items of a wait leave that outlasts the node's timeout."""
WHOLE_LIMIT = 10_000
"""Items `Items.all` gives at most."""
OUTPUT_LIMIT = 250_000
"""Items one step may put out."""

Effect: TypeAlias = Literal["pure", "read", "repeatable", "keyed", "unsafe"]
Category: TypeAlias = Literal["trigger", "flow", "data", "http", "code"]
Out: TypeAlias = tuple[str, Item]
"""One item leaving by one port."""


class StepFailed(Exception):
    """Ends the step. `error` is what the run's owner and the user see."""

    def __init__(self, error: StepError) -> None:
        super().__init__(error.message)
        self.error = error


def fail(code: str, message: str, **words: Any) -> StepFailed:
    """`raise fail("split.not_a_list", "…", field="path")`; kind `user` unless said otherwise."""
    return StepFailed(StepError(code=code, message=message, **words))


class Items:
    """The items of one input port, to be read once or page by page."""

    __slots__ = ("_items",)

    def __init__(self, items: Sequence[Item] = ()) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    async def __aiter__(self) -> AsyncIterator[Item]:
        for item in self._items:
            yield item

    def at(self, index: int) -> Item:
        return self._items[index]

    async def page(self, start: int, size: int = 100) -> Sequence[Item]:
        return self._items[start : start + size]

    def all(self, limit: int = WHOLE_LIMIT) -> Sequence[Item]:
        """All items at once; raises StepFailed if there are more than `limit`."""
        if len(self._items) > limit:
            message = f"This step takes at most {limit} items at once, not {len(self._items)}."
            raise fail("step.too_many_items", message, kind="limit")
        return self._items


@dataclass(frozen=True, slots=True)
class Example:
    """A worked example; it runs as a test, on 2026-05-04 at noon. `inputs`: items of ports other than `main`. `error`:
    the code it fails with, in place of `output`. `wait`: until when it waits. `waits`: what for (kind, name, detail).
    `keys`: business keys it sets. `service`: the JSON that the called service answers with."""

    title: str
    parameters: Mapping[str, Any]
    input: Sequence[Mapping[str, Any]] = ()
    output: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    error: str | None = None
    reply: Mapping[str, Any] | None = None
    wait: str | None = None
    service: Any = None
    inputs: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    waits: Mapping[str, Any] | None = None
    keys: Mapping[str, str] | None = None

    def json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"title": self.title, "parameters": self.parameters, "input": list(self.input)}
        for name in ("inputs", "output", "error", "reply", "wait", "waits", "keys", "service"):
            if value := getattr(self, name):
                told[name] = value
        return told


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Manifest:
    """What the registry knows of a node type. `parameters` and `output` are JSON Schemas (2020-12); extras: `x-show`
    ({"other": [values]}: shown only then), `x-secret`, `x-editor` (`expression`, `code` or `json`), `x-raw` (text that
    is never an expression), `x-cel` (names that CEL without braces may use there), `x-choices` (the query by which a
    form finds values to offer). `timeout` is ISO 8601. `limits`, `errors` and `credentials` are told to users.
    `dynamic_outputs` names the list parameter whose entries are output ports, and the field that names the port.
    `effects`: rules by which parameters decide the effect (`subgraphs.engine.effects`); `probes`: the type can be asked
    whether a step happened."""

    type: str
    title: str
    summary: str
    category: Category
    version: str = "1.0.0"
    parameters: Mapping[str, Any] = field(default_factory=lambda: parameters({}))
    inputs: Sequence[str] = (MAIN,)
    outputs: Sequence[str] = (MAIN,)
    dynamic_outputs: Mapping[str, str] | None = None
    output: Mapping[str, Any] = field(default_factory=lambda: {"type": "object"})
    credentials: Sequence[str] = ()
    effect: Effect = "pure"
    effects: Sequence[Mapping[str, Any]] = ()
    probes: bool = False
    trigger: bool = False
    timeout: str = "PT30S"
    limits: Mapping[str, Any] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    examples: Sequence[Example] = ()

    def json(self) -> dict[str, Any]:
        """As announced to the registry."""
        return {
            "type": self.type,
            "version": self.version,
            "title": self.title,
            "summary": self.summary,
            "category": self.category,
            "parameters": self.parameters,
            "inputs": [{"name": name} for name in self.inputs],
            "outputs": [{"name": name} for name in self.outputs],
            "dynamicOutputs": self.dynamic_outputs,
            "outputSchema": self.output,
            "credentials": list(self.credentials),
            "effect": self.effect,
            "effects": list(self.effects),
            "probes": self.probes,
            "trigger": self.trigger,
            "timeout": self.timeout,
            "limits": self.limits,
            "errors": self.errors,
            "examples": [example.json() for example in self.examples],
        }


def parameters(properties: Mapping[str, Any], *, required: Sequence[str] = ()) -> dict[str, Any]:
    """The JSON Schema of an object with these properties and no others."""
    schema: dict[str, Any] = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    if required:
        schema["required"] = list(required)
    return schema


class Work(Protocol):
    """What a body does with its step: a generator if the type is pure, else an async generator."""

    def __call__(self, step: Any, /) -> Iterator[Out] | AsyncIterator[Out]: ...


@dataclass(frozen=True, slots=True, eq=False)
class NodeType:
    """A node type: what it says of itself, what it does, and how to find out whether it did (true, false or None: it
    cannot be known)."""

    manifest: Manifest
    body: Callable[[Any], Any]
    probe: Callable[[Any], Awaitable[bool | None]] | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.manifest.type, self.manifest.version

    @property
    def pure(self) -> bool:
        return self.manifest.effect == "pure"


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that runs steps, as it was last heard of. `alive`: that was within 15 seconds."""

    id: UUID
    name: str
    slots: int
    catalogue: str
    started: datetime
    beat: datetime
    busy: int
    done: int
    failed: int
    alive: bool


class Workers(Protocol):
    """Where workers are known from."""

    async def listed(self) -> list[Worker]:
        """The oldest first, at most 100."""
