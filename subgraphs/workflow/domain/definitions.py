"""Definitions as they were sent, the node types they use, and wishes to run them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

import msgspec

from subgraphs.engine.definition import Definition, Faults
from subgraphs.workflow.domain.problems import Unsound


class Document(msgspec.Struct, frozen=True):
    """A definition as it was sent. `digest`: SHA-256 of `body`, under which it is stored."""

    body: bytes
    definition: Definition
    digest: str

    @classmethod
    def read(cls, value: Any) -> Document:
        """From a JSON value; raises Unsound when it has not the shape of a definition."""
        try:
            definition = Definition.parse(value)
        except Faults as faults:
            raise Unsound(f"This is no definition: {faults}", faults.faults) from None
        return cls.of(msgspec.json.encode(value, order="deterministic"), definition)

    @classmethod
    def stored(cls, body: bytes) -> Document:
        """From what was stored."""
        return cls.of(body, Definition.parse(body))

    def released(self) -> Document:
        """What a release of it runs: the same without items that are pinned to nodes, which serve the draft alone."""
        if all(node.pinned is None for node in self.definition.nodes.values()):
            return self
        value = msgspec.json.decode(self.body)
        for node in value["nodes"]:
            node.pop("pinned", None)
        return Document.read(value)

    @classmethod
    def of(cls, body: bytes, definition: Definition) -> Document:
        _ = definition.hash  # kept from here on, so that large ones are hashed where they are read
        return cls(body, definition, hashlib.sha256(body).hexdigest())


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The node types there are, as Executor announced them: manifests by `type@version`."""

    digest: str
    manifests: Mapping[str, Mapping[str, Any]]

    def used(self, definition: Definition) -> dict[str, Any]:
        """What a run needs to know of each type a definition uses."""
        keys = sorted({node.key for node in definition.nodes.values()})
        return {key: _of_run(self.manifests[key]) for key in keys if key in self.manifests}


def _of_run(manifest: Mapping[str, Any]) -> dict[str, Any]:
    names = ("effect", "trigger", "inputs", "outputs", "dynamicOutputs", "timeout")
    told = {name: manifest[name] for name in names if name in manifest}
    return told | {name: manifest[name] for name in ("effects", "probes") if manifest.get(name)}


@dataclass(frozen=True, slots=True)
class Part:
    """What of a draft is run: up to a node, or one node alone. `given`: items, by node and output port, that are taken
    for what those nodes would put out."""

    until: str | None = None
    only: str | None = None
    given: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DraftRun:
    """A wish to run the draft as it is, or a part of it. `key` makes the wish count once."""

    workflow: UUID
    name: str
    revision: int
    document: Document
    node_types: Mapping[str, Any]
    trigger: str
    input: Mapping[str, Any]
    started_by: UUID
    key: str | None
    part: Part = field(default_factory=Part)


class DraftRuns(Protocol):
    """Where wishes to run a draft go."""

    async def request(self, run: DraftRun) -> UUID:
        """The id of the execution: a new one, or that of the same wish made before under this key. Raises Conflict
        when the key came with another wish."""
