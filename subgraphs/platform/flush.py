"""One flush: the rows of many callers as ONE statement, a data-modifying CTE for each table that is present.

The statement's text depends only on which tables take part, so each combination is prepared once a connection. Arrays
travel instead of rows (`unnest`). Rows that several processes might write are sorted by key, or two of them deadlock.

The fence: `w` locks the leases of the units' partitions FOR SHARE, in order, and keeps those whose owner and epoch are
the ones the unit was decided under. Heads are written only through `w` and their expected version; `s` lists those that
were; every other row of a unit goes through `s`. What is missing from `s` is evicted, the rest commits. An `exists`
test instead of the join, or comparing the process's present epoch, lets rows of a lost partition in.
"""
# ruff: noqa: S608 - statements are put together from the names of our own tables and columns, values travel as arguments

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from subgraphs.platform import eventlog
from subgraphs.platform.domain import Event

HEAD = ("tenant", "id", "part", "version", "epoch")
KINDS = frozenset({"ingress", "claim", "head", "insert", "upsert", "delete"})
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table the writer may write: qualified name, (column, PostgreSQL type) pairs, kind, key columns.

    Kinds: `ingress`: unfenced, `on conflict do nothing`. `claim`: unfenced, the first of a key wins until its `until`;
    columns include `id` and `until`. `head`: one row a stream, columns start with tenant, id, part, version, epoch.
    `insert`, `upsert`, `delete`: rows written only if their unit's head was. Rows of kind `insert` and `upsert` may
    also be deleted by their key. Values are those asyncpg takes: text for jsonb, bytes for bytea.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    kind: str
    key: tuple[str, ...]

    def __post_init__(self) -> None:
        names = self.names
        if self.kind not in KINDS:
            raise ValueError(f"{self.name}: {self.kind!r} is none of {', '.join(sorted(KINDS))}")
        if self.kind == "head" and names[: len(HEAD)] != HEAD:
            raise ValueError(f"{self.name}: the columns of a head start with {', '.join(HEAD)}")
        if self.kind == "claim" and not {"id", "until"}.issubset(names):
            raise ValueError(f"{self.name}: a claim has the columns id and until")
        if not self.key or not set(self.key).issubset(names):
            raise ValueError(f"{self.name}: the key must name some of its columns")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.columns)

    def places(self) -> tuple[int, ...]:
        """Where the key stands in a row."""
        return tuple(self.names.index(name) for name in self.key)


@dataclass(slots=True)
class Unit:
    """One stream's step forward: from version `expected` (0: it begins) to `version`, decided under `epoch`.

    `head`: the whole head row in the table's column order. `rows`: (table, row). `deletes`: (table, key values). A key
    cannot be deleted and inserted by the same unit."""

    tenant: UUID
    id: UUID
    partition: int
    epoch: int
    expected: int
    version: int
    head_table: str
    head: Row
    rows: list[tuple[str, Row]] = field(default_factory=list)
    deletes: list[tuple[str, Row]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


@dataclass(slots=True)
class Ingress:
    """Rows that are stored whoever owns what. With a `claim`, (table, row), the rest is stored only if it is won."""

    rows: list[tuple[str, Row]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    claim: tuple[str, Row] | None = None


@dataclass(slots=True)
class Rows:
    """Rows of one CTE: what it is for, and each row with the values that follow its own columns."""

    table: Table
    rows: list[Row] = field(default_factory=list)


class Batch:
    """The rows of one statement, gathered from ingresses and units.

    `add_ingress` and `add_unit` fill it; `statement()` gives text, arguments and what is in it.
    """

    def __init__(self, tables: Mapping[str, Table], limit: int) -> None:
        self.tables = tables
        self.limit = limit
        self.claims: dict[str, Rows] = {}
        self.ingress: dict[str, Rows] = {}
        self.begun: dict[str, Rows] = {}
        self.moved: dict[str, Rows] = {}
        self.written: dict[str, Rows] = {}
        self.deleted: dict[str, Rows] = {}
        self.ingress_events: list[Row] = []
        self.unit_events: list[Row] = []
        self.leases: dict[int, set[int]] = {}
        self.seen: dict[tuple[Any, ...], UUID] = {}
        self.events = 0

    def add_ingress(self, ingress: Ingress) -> UUID | None:
        """Adds it; the id of its claim, if it has one. Within a batch, later claims of a key lose and add nothing."""
        claim: UUID | None = None
        if ingress.claim is not None:
            name, row = ingress.claim
            table = self.tables[name]
            key = (name, *(row[place] for place in table.places()))
            claim = row[table.names.index("id")]
            assert claim is not None  # noqa: S101 - a claim's id is never null
            if self.seen.setdefault(key, claim) != claim:
                return claim
            self._rows(self.claims, table).append(row)
        for name, row in ingress.rows:
            self._rows(self.ingress, self.tables[name]).append((*row, claim))
        for event in ingress.events:
            self.ingress_events.append((*self._event(event), claim))
        return claim

    def add_unit(self, unit: Unit, claim: UUID | None = None) -> None:
        self.leases.setdefault(unit.partition, set()).add(unit.epoch)
        head = self.tables[unit.head_table]
        if unit.expected == 0:
            self._rows(self.begun, head).append((*unit.head, claim))
        else:
            self._rows(self.moved, head).append((*unit.head, unit.expected))
        of = (unit.tenant, unit.id)
        for name, row in unit.rows:
            self._rows(self.written, self.tables[name]).append((*row, *of))
        for name, key in unit.deletes:
            self._rows(self.deleted, self.tables[name]).append((*key, *of))
        for event in unit.events:
            self.unit_events.append((*self._event(event), *of))

    def _event(self, event: Event) -> Row:
        self.events += 1
        return eventlog.row(event, self.events - 1, self.limit)

    @staticmethod
    def _rows(group: dict[str, Rows], table: Table) -> list[Row]:
        return group.setdefault(table.name, Rows(table)).rows

    def fences(self) -> list[tuple[int, int]]:
        return sorted((part, epoch) for part, epochs in self.leases.items() for epoch in epochs)

    def shape(self) -> tuple[Any, ...]:
        """What the statement's text depends on."""
        groups = (self.claims, self.ingress, self.begun, self.moved, self.written, self.deleted)
        return (*(tuple(sorted(group)) for group in groups), bool(self.ingress_events), bool(self.unit_events))

    def arguments(self, owner: UUID, notice: str | None) -> list[Any]:
        """In the order `text` numbers them."""
        fences = self.fences()
        found: list[Any] = []
        if fences:
            found += [owner, [part for part, _ in fences], [epoch for _, epoch in fences]]
        if notice is not None:
            found.append(notice)
        for group, extra in ((self.claims, 0), (self.ingress, 1), (self.begun, 1), (self.moved, 1)):
            for name in sorted(group):
                found += _sorted_columns(group[name], extra)
        for name in sorted(self.written):
            found += eventlog.columns(_last_of_each(self.written[name]), len(self.written[name].table.columns) + 2)
        for name in sorted(self.deleted):
            found += eventlog.columns(self.deleted[name].rows, len(self.deleted[name].table.key) + 2)
        if self.ingress_events:
            found += eventlog.columns(self.ingress_events, len(eventlog.COLUMNS) + 1)
        if self.unit_events:
            found += eventlog.columns(self.unit_events, len(eventlog.COLUMNS) + 2)
        return found


def _order(row: Row, places: Sequence[int]) -> tuple[Any, ...]:
    return tuple(value.int if isinstance(value := row[place], UUID) else value for place in places)


def _sorted_columns(rows: Rows, extra: int) -> list[list[Any]]:
    places = rows.table.places()
    if len(rows.rows) > 1:
        rows.rows.sort(key=lambda row: _order(row, places))
    return eventlog.columns(rows.rows, len(rows.table.columns) + extra)


def _last_of_each(rows: Rows) -> list[Row]:
    """An upsert may touch a row once a statement: of several rows with one key the last counts."""
    if rows.table.kind != "upsert":
        return rows.rows
    places = rows.table.places()
    return list({tuple(row[place] for place in places): row for row in rows.rows}.values())


class Text:
    """The statement of a batch's shape. Our own table and column names are all it is put together from."""

    def __init__(self, batch: Batch, notified: bool) -> None:
        self.used = 0
        self.parts: list[str] = []
        self.claimed = bool(batch.claims)
        if batch.leases:
            self._fence()
        notice = ""
        if notified:
            self.used += 1
            notice = f", pg_notify('{eventlog.EVENTS_CHANNEL}', ${self.used}::text || pg_current_xact_id()::text)"
        claims = self._each("c", batch.claims, self._claim)
        if claims:
            self.parts.append(f"c as ({_union('id', claims)})")
        self._each("i", batch.ingress, self._ingress)
        streams = [*self._each("b", batch.begun, self._begin), *self._each("m", batch.moved, self._move)]
        if streams:
            self.parts.append(f"s as ({_union('tenant, id', streams)})")
        self._each("r", batch.written, self._write)
        self._each("d", batch.deleted, self._delete)
        if batch.ingress_events:
            self._events("ei", (("claim", "uuid"),), self._if_claimed())
        if batch.unit_events:
            self._events("eu", (("ut", "uuid"), ("ui", "uuid")), " join s on s.tenant = q.ut and s.id = q.ui")
        written = "(select array_agg(id) from s)" if streams else "null::uuid[]"
        won = "(select array_agg(id) from c)" if claims else "null::uuid[]"
        self.text = (
            f"with {', '.join(self.parts)} "
            f"select pg_current_xact_id()::text::bigint as xid, {written} as written, {won} as claimed{notice}"
        )

    def _each(self, letter: str, group: Mapping[str, Rows], add: Callable[[str, Table], None]) -> list[str]:
        """A CTE for each table of the group, in the order of `Batch.arguments`; their names."""
        names = []
        for at, table in enumerate(sorted(group)):
            names.append(f"{letter}{at}")
            add(names[-1], group[table].table)
        return names

    def _fence(self) -> None:
        fences = f"unnest({self._array('smallint', 2)}, {self._array('bigint', 3)}) f(part, epoch)"
        self.parts.append(
            f"w as materialized (select l.part, l.epoch from bus.lease l join {fences} "
            "on f.part = l.part and f.epoch = l.epoch where l.owner = $1::uuid order by l.part for share of l)"
        )
        self.used = 3

    def _array(self, kind: str, number: int) -> str:
        return f"${number}::{kind}[]"

    def _unnest(self, columns: Sequence[tuple[str, str]]) -> str:
        arrays = []
        for _, kind in columns:
            self.used += 1
            arrays.append(self._array(kind, self.used))
        return f"unnest({', '.join(arrays)}) q({', '.join(name for name, _ in columns)})"

    def _if_claimed(self) -> str:
        return " where q.claim is null or q.claim in (select id from c)" if self.claimed else ""

    def _claim(self, cte: str, table: Table) -> None:
        names = table.names
        changes = ", ".join(f"{name} = excluded.{name}" for name in names if name not in table.key)
        self.parts.append(
            f"{cte} as (insert into {table.name} as t ({', '.join(names)}) "
            f"select {_of('q', names)} from {self._unnest(table.columns)} "
            f"on conflict ({', '.join(table.key)}) do update set {changes} "
            "where t.until < clock_timestamp() or t.id = excluded.id returning t.id)"
        )

    def _ingress(self, cte: str, table: Table) -> None:
        source = self._unnest((*table.columns, ("claim", "uuid")))
        self.parts.append(
            f"{cte} as (insert into {table.name} ({', '.join(table.names)}) "
            f"select {_of('q', table.names)} from {source}{self._if_claimed()} on conflict do nothing)"
        )

    def _begin(self, cte: str, table: Table) -> None:
        source = self._unnest((*table.columns, ("claim", "uuid")))
        self.parts.append(
            f"{cte} as (insert into {table.name} ({', '.join(table.names)}) "
            f"select {_of('q', table.names)} from {source} join w on w.part = q.part and w.epoch = q.epoch"
            f"{self._if_claimed()} on conflict do nothing returning tenant, id)"
        )

    def _move(self, cte: str, table: Table) -> None:
        source = self._unnest((*table.columns, ("expected", "bigint")))
        changes = ", ".join(f"{name} = q.{name}" for name in table.names if name not in {"tenant", "id", "part"})
        self.parts.append(
            f"{cte} as (update {table.name} t set {changes} from {source}, w "
            "where t.tenant = q.tenant and t.id = q.id and t.version = q.expected "
            "and w.part = t.part and w.epoch = q.epoch returning t.tenant, t.id)"
        )

    def _write(self, cte: str, table: Table) -> None:
        source = self._unnest((*table.columns, ("ut", "uuid"), ("ui", "uuid")))
        conflict = " on conflict do nothing" if table.kind == "ingress" else ""  # such as a hold on an object, again
        if table.kind == "upsert":
            changes = ", ".join(f"{name} = excluded.{name}" for name in table.names if name not in table.key)
            conflict = f" on conflict ({', '.join(table.key)}) do update set {changes}"
        self.parts.append(
            f"{cte} as (insert into {table.name} ({', '.join(table.names)}) "
            f"select {_of('q', table.names)} from {source} join s on s.tenant = q.ut and s.id = q.ui{conflict})"
        )

    def _delete(self, cte: str, table: Table) -> None:
        kinds = dict(table.columns)
        source = self._unnest((*((name, kinds[name]) for name in table.key), ("ut", "uuid"), ("ui", "uuid")))
        keys = " and ".join(f"t.{name} = q.{name}" for name in table.key)
        self.parts.append(
            f"{cte} as (delete from {table.name} t using {source}, s where {keys} and s.tenant = q.ut and s.id = q.ui)"
        )

    def _events(self, cte: str, extra: tuple[tuple[str, str], ...], condition: str) -> None:
        source = self._unnest((*eventlog.COLUMNS, *extra))
        names = [name for name, _ in eventlog.COLUMNS]
        self.parts.append(
            f"{cte} as (insert into bus.log ({', '.join(names)}) select {_of('q', names)} from {source}{condition})"
        )


def _union(columns: str, names: Sequence[str]) -> str:
    return " union all ".join(f"select {columns} from {name}" for name in names)


def _of(alias: str, names: Sequence[str]) -> str:
    return ", ".join(f"{alias}.{name}" for name in names)
