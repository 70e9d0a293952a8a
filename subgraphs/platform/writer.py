"""Group commit: many callers' rows in one statement, fenced by leases and versions. (Interface.)"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from subgraphs.platform.domain import Event


@dataclass(frozen=True, slots=True)
class Table:
    """A table the writer may write: qualified name, (column, PostgreSQL type) pairs, kind, key columns.

    Kinds: `ingress` (unfenced, `on conflict do nothing`), `claim` (unfenced; first come wins until its `until`), `head`
    (one row a stream: columns start tenant, id, part, version, epoch), `insert`, `upsert` and `delete` (rows that are
    written only if their unit's head was). Rows of kind `insert` and `upsert` may also be deleted by their key.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    kind: str
    key: tuple[str, ...]


@dataclass(slots=True)
class Unit:
    """One stream's step forward: from version `expected` (0: it begins) to `version`, decided under `epoch`.

    `head`: the whole head row in the table's column order. `rows`, `deletes`: (table name, row or key values)."""

    tenant: UUID
    id: UUID
    partition: int
    epoch: int
    expected: int
    version: int
    head_table: str
    head: tuple[Any, ...]
    rows: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    deletes: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


@dataclass(slots=True)
class Ingress:
    """Rows that are stored whoever owns what. With a `claim`, (table name, row), rows and events are stored only if the
    claim is won; `id` is the claim's own id."""

    rows: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    claim: tuple[str, tuple[Any, ...]] | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of a commit: `evicted` units were not written (lease, epoch or version moved on: forget and reload);
    `failed` are the poisonous ones; `claimed` is False when the ingress lost its claim and nothing of it was stored."""

    evicted: frozenset[UUID] = frozenset()
    failed: dict[UUID, Exception] = field(default_factory=dict)
    claimed: bool = True


class Writer:
    def register(self, table: Table) -> None: ...

    async def commit(self, ingress: Ingress | None = None, units: Sequence[Unit] = ()) -> Committed:
        raise NotImplementedError
