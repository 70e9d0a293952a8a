"""What the simulated server answers to each statement of leases, bus and writer: by the very constant they send.

A statement that is not listed raises, so nothing new goes by unnoticed. What a transaction changes behind a cursor is
undone if it does not commit; the cursor's lock keeps others from seeing it before. Each statement about workers and
leases stands for itself, whatever becomes of its transaction: more can happen here than in PostgreSQL, never less.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from subgraphs.platform import bus, cursors, delivery, leases, writer
from tests.simulation.server import Held, Lease, Position, Server, Worker

Answer = list[dict[str, Any]]
_HEAD = re.compile(r"select 1 from (\S+) h? ?where")
_MISSING: Any = object()


class NotSimulated(Exception):
    """The code sends a statement the simulated server has no answer for: add it to `statements.py`."""


@dataclass(slots=True)
class Tx:
    """An open transaction: how to undo it, and the rows it locks."""

    undo: list[tuple[Any, Any, Any]] = field(default_factory=list)
    locks: list[Any] = field(default_factory=list)
    xid: int = 0
    over: bool = False


class Statements:
    """The answers of one server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.known: dict[str, Callable[[Sequence[Any], Tx | None], Answer]] = {
            leases.PARTITIONS: self.partitions,
            leases.ENTER: self.enter,
            leases.BEAT: self.beat,
            leases.WORKERS: self.workers,
            leases.MINE: self.mine,
            leases.EXPIRE: self.expire,
            leases.BURY: self.bury,
            leases.GONE: self.gone,
            leases.FORGET: self.nothing,
            leases.CLAIM: self.claim,
            leases.RELEASE: self.release,
            leases.ORPHANED: self.orphaned,
            cursors.LOCK: self.lock_cursor,
            cursors.ADVANCE: self.advance,
            cursors.BEHIND: self.behind,
            cursors.FLOOR: self.nothing,
            cursors._next(""): self.page,
            delivery.HELD: self.held,
            delivery.HOLD: self.hold,
            delivery.AGAIN: self.again,
            delivery.DONE: self.done,
            bus.FETCH: self.fetch,
            writer.XMIN: self.xmin,
            writer.LOGGED: self.logged,
        }

    def answer(self, query: str, args: Sequence[Any], tx: Tx | None) -> Answer:
        known = self.known.get(query)
        if known is None:
            known = self.known[query] = self._of_a_table(query)
        return known(args, tx)

    def _of_a_table(self, query: str) -> Callable[[Sequence[Any], Tx | None], Answer]:
        """Statements whose text names a stream's table."""
        if query.startswith("insert into bus.pos"):
            return self.enrol
        found = _HEAD.search(query)
        table = found[1] if found else ""
        if query == bus.BEGUN.format(head=table):
            return lambda args, tx: self._one(tuple(args) in self.server.rows[table])
        if query == writer.LANDED.format(head=table):
            return lambda args, tx: self.landed(table, args)
        absent = f" and not exists (select 1 from {table} h where h.tenant = l.tenant and h.id = l.id)"
        if query == cursors._next(absent):
            return lambda args, tx: self.page(args, tx, table)
        raise NotSimulated(query)

    # -- transactions

    def put(self, tx: Tx | None, mapping: Any, key: Any, value: Any) -> None:
        if tx is not None:
            tx.undo.append((mapping, key, mapping.get(key, _MISSING)))
        if value is _MISSING:
            mapping.pop(key, None)
        else:
            mapping[key] = value

    def commit(self, tx: Tx) -> None:
        tx.undo.clear()
        self._end(tx)

    def rollback(self, tx: Tx) -> None:
        for mapping, key, value in reversed(tx.undo):
            self.put(None, mapping, key, value)
        self._end(tx)

    def _end(self, tx: Tx) -> None:
        tx.over = True
        for lock in tx.locks:
            if self.server.locked.get(lock) is tx:
                del self.server.locked[lock]
        if tx.xid:
            self.server.end(tx.xid)

    def lock(self, tx: Tx, name: Any) -> bool:
        """Whether the transaction has the lock now."""
        holder = self.server.locked.setdefault(name, tx)
        if holder is not tx:
            return False
        tx.locks.append(name)
        return True

    # -- leases

    def partitions(self, args: Sequence[Any], tx: Tx | None) -> Answer:
        for part in range(args[0]):
            self.server.leases.setdefault(part, Lease(part))
        return []

    def enter(self, args: Sequence[Any], tx: Tx | None) -> Answer:
        self.put(None, self.server.workers, args[0], Worker(args[0], args[2], args[3], self.server.clock()))
        return []

    def beat(self, args: Sequence[Any], tx: Tx | None) -> Answer:
        worker = self.server.workers.get(args[0])
        if worker is None or not worker.alive:
            return []
        self.put(None, self.server.workers, args[0], replace(worker, beat=self.server.clock(), claims=args[1]))
        return [{"true": True}]

    def workers(self, args: Sequence[Any], tx: Tx | None) -> Answer:
        alive = sorted((worker for worker in self.server.workers.values() if worker.alive), key=lambda each: each.id)
        return [{"id": each.id, "lock": each.lock, "claims": each.claims} for each in alive]

    def mine(self, args: Sequence[Any], tx: Tx | None) -> Answer:
        mine = (lease for lease in self.server.leases.values() if lease.owner == args[0])
        return [{"part": lease.part, "epoch": lease.epoch} for lease in mine]

    def expire(self, args: Sequence[Any], tx: Tx | None) -> Answer:
        late = self.server.clock() - args[1]
        dead = [each for each in self.server.workers.values() if each.alive and each.id != args[0] and each.beat < late]
        for each in dead:
            self.put(None, self.server.workers, each.id, replace(each, alive=False))
        return [{"id": each.id, "lock": each.lock} for each in dead]

    def bury(self, args: Sequence[Any], tx: Tx | None) -> Answer:
        if worker := self.server.workers.get(args[0]):
            self.put(None, self.server.workers, args[0], replace(worker, alive=False))
        return []

    def gone(self, args: Sequence[Any], tx: Tx | None) -> Answer:
        self.put(None, self.server.workers, args[0], _MISSING)
        return []

    def nothing(self, args: Sequence[Any], tx: Tx | None) -> Answer:
        return []

    def claim(self, args: Sequence[Any], tx: Tx | None) -> Answer:
        me = self.server.workers.get(args[0])
        if me is None or not me.alive:
            return []
        free = sorted(part for part, lease in self.server.leases.items() if lease.owner is None)[: args[1]]
        found = []
        for part in free:
            lease = self.server.leases[part]
            self.put(None, self.server.leases, part, Lease(part, args[0], lease.epoch + 1))
            found.append({"part": part, "epoch": lease.epoch + 1})
        return found

    def release(self, args: Sequence[Any], tx: Tx | None) -> Answer:
        for part in args[1]:
            lease = self.server.leases.get(part)
            if lease is not None and lease.owner is not None and lease.owner == args[0]:
                self.put(None, self.server.leases, part, replace(lease, owner=None))
        return []

    def orphaned(self, args: Sequence[Any], tx: Tx | None) -> Answer:
        for part, lease in list(self.server.leases.items()):
            if lease.owner is not None:
                worker = self.server.workers.get(lease.owner)
                if worker is None or not worker.alive:
                    self.put(None, self.server.leases, part, replace(lease, owner=None))
        return []

    # -- the log

    def enrol(self, args: Sequence[Any], tx: Tx | None) -> Answer:
        for part in range(args[2]):
            self.server.positions.setdefault((args[0], part), Position(list(args[1])))
        return []

    def lock_cursor(self, args: Sequence[Any], tx: Tx | None) -> Answer:
        position = self.server.positions.get((args[0], args[1]))
        if tx is None or position is None or not self.lock(tx, ("cursor", *args)):
            return []
        return [
            {
                "snap": position.snap,
                "upto": position.upto,
                "after_xid": position.after_xid,
                "after_seq": position.after_seq,
            }
        ]

    def advance(self, args: Sequence[Any], tx: Tx | None) -> Answer:
        consumer, part, snap, upto, xid, seq = args
        position = self.server.positions[(consumer, part)]
        self.put(tx, self.server.positions, (consumer, part), Position(position.types, snap, upto, xid, seq))
        return []

    def behind(self, args: Sequence[Any], tx: Tx | None) -> Answer:
        xmax = self.server.xid + 1
        found = []
        for (consumer, part), place in self.server.positions.items():
            if consumer not in args[0] or part not in args[1]:
                continue
            stale = xmax - _xmax(place.snap) > cursors.STALE
            if place.upto is not None or stale or self._unread(part, place) or self._due(consumer, part):
                found.append({"consumer": consumer, "part": part})
        return found

    def _unread(self, part: int, place: Position) -> bool:
        _, xmax, running = _parsed(place.snap)
        for row in reversed(self.server.log):
            xid = int(row["xid"])
            if row["part"] == part and (xid >= xmax or xid in running) and row["type"] in place.types:
                return True
        return False

    def _due(self, consumer: str, part: int) -> bool:
        now = self.server.clock()
        return any(
            each.consumer == consumer and each.part == part and not each.parked and each.due <= now
            for each in self.server.held.values()
        )

    def page(self, args: Sequence[Any], tx: Tx | None, head: str | None = None) -> Answer:
        part, snap, types, upto, after_xid, after_seq, limit = args
        now = self.server.snapshot()
        _, xmax, running = _parsed(snap)
        after, wanted, found = (int(after_xid), after_seq), set(types), []
        for row in self.server.log:
            xid = int(row["xid"])
            if row["part"] != part or not (xid >= xmax or xid in running) or row["type"] not in wanted:
                continue
            if (upto is not None and not _visible(xid, upto)) or (xid, row["seq"]) <= after:
                continue
            if head is None or (row["tenant"], row["id"]) not in self.server.rows[head]:
                found.append({**row, "now": now})
        found.sort(key=lambda row: (int(row["xid"]), row["seq"]))
        return found[:limit] or [{"now": now, "id": None}]

    def fetch(self, args: Sequence[Any], tx: Tx | None) -> Answer:
        parts, xid, types = args
        rows = (row for row in self.server.log if row["xid"] == xid and row["part"] in parts and row["type"] in types)
        return sorted(rows, key=lambda row: row["seq"])

    def held(self, args: Sequence[Any], tx: Tx | None) -> Answer:
        found = []
        for each in self.server.held.values():
            if each.consumer == args[0] and each.part == args[1] and not each.parked:
                place = (each.part, str(each.xid), each.seq)
                row = next(row for row in self.server.log if (row["part"], row["xid"], row["seq"]) == place)
                due = datetime.fromtimestamp(each.due, UTC)
                found.append({**row, "attempts": each.attempts, "due": due})
        return sorted(found, key=lambda row: (int(row["xid"]), row["seq"]))

    def hold(self, args: Sequence[Any], tx: Tx | None) -> Answer:
        consumer, id, part, xid, seq, _, _, attempts, wait, _ = args
        if (consumer, id) not in self.server.held:
            due = self.server.clock() + wait
            self.put(tx, self.server.held, (consumer, id), Held(consumer, id, part, int(xid), seq, attempts, due))
        return []

    def again(self, args: Sequence[Any], tx: Tx | None) -> Answer:
        consumer, id, attempts, _, wait, parked = args
        former = self.server.held[(consumer, id)]
        due = self.server.clock() + wait
        self.put(tx, self.server.held, (consumer, id), replace(former, attempts=attempts, due=due, parked=bool(parked)))
        return []

    def done(self, args: Sequence[Any], tx: Tx | None) -> Answer:
        self.put(tx, self.server.held, tuple(args), _MISSING)
        return []

    # -- the writer

    def xmin(self, args: Sequence[Any], tx: Tx | None) -> Answer:
        return [{"xmin": _parsed(self.server.snapshot())[0]}]

    def logged(self, args: Sequence[Any], tx: Tx | None) -> Answer:
        part, since, id = args
        return self._one(
            any(row["part"] == part and int(row["xid"]) >= int(since) and row["id"] == id for row in self.server.log)
        )

    def landed(self, table: str, args: Sequence[Any]) -> Answer:
        head = self.server.rows[table].get((args[0], args[1]))
        return self._one(head is not None and (head[3], head[4]) == (args[2], args[3]))

    @staticmethod
    def _one(there: bool) -> Answer:
        return [{"one": 1}] if there else []


def _parsed(snapshot: str) -> tuple[int, int, set[int]]:
    xmin, xmax, running = snapshot.split(":")
    return int(xmin), int(xmax), {int(each) for each in running.split(",") if each}


def _xmax(snapshot: str) -> int:
    return int(snapshot.split(":")[1])


def _visible(xid: int, snapshot: str) -> bool:
    _, xmax, running = _parsed(snapshot)
    return xid < xmax and xid not in running
