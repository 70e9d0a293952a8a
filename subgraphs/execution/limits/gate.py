"""A gate: one value of one limit's key, and what its keeper decides there. Pure.

`arrive`, `leave` and `note` say what happened; `decide(gate, at)` says what follows and changes nothing; `settle` takes
what was decided into the state. A run arrives with a ticket and leaves when it ends, whatever ended it. Who may go on
is never counted apart: the places taken are the runs that were let in and have not left (kinds that hold), or those
that were let in within the last period (kinds that only pace).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from heapq import nsmallest
from itertools import islice
from typing import Any, Literal
from uuid import UUID

import msgspec

from subgraphs.engine.step import StepError

AT_ONCE = 200
"""Verdicts of one decision: what one commit carries. The rest follows in the next."""

Mode = Literal["queue", "dropNewest", "cancelOldest", "roundRobin"]
Word = Literal["admitted", "refused", "stopped"]
"""What a verdict says of its run: let in, never let in, or let in before and told to end now."""


class Terms(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the limit allows. `kind`: concurrency, throttle, rate, debounce, batch, or pause (nothing while the workflow
    is paused). `limit`: runs at once, or a period. `period` and `timeout` in microseconds. `release`: whose terms these
    are; those of the newest release hold."""

    kind: str
    limit: int = 1
    mode: Mode = "queue"
    period: int = 0
    timeout: int = 0
    release: int = 0

    @property
    def holds(self) -> bool:
        """Whether a run keeps its place until it ends."""
        return self.kind == "concurrency"

    @property
    def paces(self) -> bool:
        """Whether what counts is when runs were let in."""
        return self.kind in {"throttle", "rate"}


class Ticket(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run that stands at the gate since `at`. `part` is the run's own partition. Higher `priority` goes first."""

    run: UUID
    at: int
    part: int
    terms: Terms
    priority: int = 0
    group: str = ""

    @property
    def age(self) -> tuple[int, int]:
        """Order of arrival."""
        return self.at, self.run.int


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """What becomes of a run. Admitted, it goes on, with the items of `members` beside its own if there are any. Else it
    ends because of `error`."""

    run: UUID
    part: int
    at: int
    word: Word
    error: StepError | None = None
    members: tuple[UUID, ...] = ()


class Memo(msgspec.Struct, omit_defaults=True):
    """What is remembered beyond the rows: when the burst being debounced began, whose turn was last, how long runs have
    held a place lately (microseconds, for estimates)."""

    since: int | None = None
    turn: str | None = None
    pace: int | None = None


class Gate(msgspec.Struct):
    """The state. `waiting`: tickets without a verdict; `inside`: runs let in that hold a place, `ending` those told to
    end that have not yet (of them, who is also `inside` still holds); `starts`: when runs were let in, where that is
    what counts; `entered`: when those inside were."""

    id: UUID
    waiting: dict[UUID, Ticket] = {}
    inside: dict[UUID, Ticket] = {}
    ending: set[UUID] = set()
    starts: dict[UUID, int] = {}
    entered: dict[UUID, int] = {}
    memo: Memo = msgspec.field(default_factory=Memo)
    terms: Terms = Terms("pause")

    @property
    def idle(self) -> bool:
        return not (self.waiting or self.inside or self.ending)


# What happened


def arrive(gate: Gate, ticket: Ticket) -> bool:
    """A run stands at the gate; False if that is known."""
    run = ticket.run
    if run in gate.waiting or run in gate.inside or run in gate.ending:
        return False
    _learn(gate, ticket.terms)
    gate.waiting[run] = ticket
    if ticket.terms.kind == "debounce" and gate.memo.since is None:
        gate.memo.since = ticket.at
    return True


def leave(gate: Gate, run: UUID, at: int | None = None) -> bool:
    """The run has ended or gone on (at this moment), and needs no place here any more; False if it had none."""
    entered = gate.entered.pop(run, None)
    if entered is not None and at is not None:
        took, pace = max(0, at - entered), gate.memo.pace
        gate.memo.pace = took if pace is None else (3 * pace + took) // 4
    known = gate.waiting.pop(run, None) or gate.inside.pop(run, None)
    ending = run in gate.ending
    gate.ending.discard(run)
    if gate.terms.kind == "debounce" and not gate.waiting:
        gate.memo.since = None
    return known is not None or ending


def note(gate: Gate, run: UUID, ticket: Ticket | None, at: int, word: Word) -> None:
    """A verdict that was given before, as it was stored; without a ticket the run is past this gate, or over."""
    if ticket is None:
        if word == "admitted" and gate.terms.paces:
            gate.starts[run] = at
        return
    _learn(gate, ticket.terms)
    gate.waiting.pop(run, None)
    if word != "refused" and ticket.terms.holds:
        gate.inside[run] = ticket
        gate.entered[run] = at
    if word != "admitted":
        gate.ending.add(run)
    elif ticket.terms.paces:
        gate.starts[run] = at


def settle(gate: Gate, verdicts: Iterable[Verdict], memo: Memo) -> None:
    """Takes what was decided into the state."""
    for verdict in verdicts:
        ticket = gate.waiting.pop(verdict.run, None)
        if verdict.word != "admitted":
            gate.ending.add(verdict.run)
            continue
        if ticket is not None and ticket.terms.holds:
            gate.inside[verdict.run] = ticket
            gate.entered[verdict.run] = verdict.at
        elif gate.terms.paces:
            gate.starts[verdict.run] = verdict.at
    since = memo.since
    if since is None and gate.terms.kind == "debounce" and gate.waiting:
        since = min(ticket.at for ticket in gate.waiting.values())
    gate.memo = Memo(since, memo.turn, gate.memo.pace)


def expired(gate: Gate, at: int) -> list[UUID]:
    """Runs let in so long ago that they count for nothing any more; they are forgotten."""
    gone = [run for run, began in gate.starts.items() if began + gate.terms.period <= at or not gate.terms.paces]
    for run in gone:
        del gate.starts[run]
    return gone


def _learn(gate: Gate, terms: Terms) -> None:
    if gate.terms.kind != terms.kind or terms.release >= gate.terms.release:
        gate.terms = terms


# What follows


class Decision(msgspec.Struct, frozen=True):
    """The verdicts, what to remember, and when to decide again though nothing happens."""

    verdicts: tuple[Verdict, ...]
    memo: Memo
    due: int | None = None


def decide(gate: Gate, at: int, *, paused: bool = False) -> Decision:
    """What follows at the moment `at` (microseconds). While paused nobody goes on, and nobody is refused."""
    if paused or not gate.waiting:
        return Decision((), gate.memo)
    return _DECIDE[gate.terms.kind](gate, at)


def queue(gate: Gate) -> list[Ticket]:
    """Those who wait, first the one who is next."""
    if gate.terms.mode == "roundRobin":
        return list(_in_turn(gate))
    return sorted(gate.waiting.values(), key=_rank)


def _next(gate: Gate, count: int) -> list[Ticket]:
    """The first of the queue, without sorting all of it."""
    if gate.terms.mode == "roundRobin":
        return list(islice(_in_turn(gate), count)) if count else []
    return nsmallest(count, gate.waiting.values(), key=_rank)


def _rank(ticket: Ticket) -> tuple[int, int, int]:
    return -ticket.priority, *ticket.age


def _concurrency(gate: Gate, at: int) -> Decision:
    free = gate.terms.limit - len(gate.inside)
    refused: list[Verdict] = []
    if gate.terms.mode == "cancelOldest":
        refused = list(_replaced(gate, at))
    out = {verdict.run for verdict in refused}
    let = [ticket for ticket in _next(gate, max(0, min(free, AT_ONCE)) + len(out)) if ticket.run not in out]
    let = let[: max(0, min(free, AT_ONCE))]
    if gate.terms.mode == "dropNewest":
        waiting = queue(gate)
        full = {"limit": gate.terms.limit, "holders": _names(gate.inside)}
        message = f"{_many(gate.terms.limit)} under way here already, and this limit drops the next."
        refused += [_refusal(each, at, "limit.concurrency", message, full) for each in waiting[len(let) : AT_ONCE]]
    memo = gate.memo
    if let and gate.terms.mode == "roundRobin":
        memo = Memo(memo.since, let[-1].group)
    return Decision((*refused, *(_admission(each, at) for each in let)), memo)


def _replaced(gate: Gate, at: int) -> Iterator[Verdict]:
    """Of all who are or want to be inside, only the newest `limit` shall be."""
    everybody = [*gate.inside.values(), *gate.waiting.values()]
    everybody.sort(key=lambda ticket: ticket.age)
    newest = everybody[-1]
    for ticket in everybody[: max(0, len(everybody) - gate.terms.limit)][:AT_ONCE]:
        if ticket.run not in gate.ending:
            detail = {"limit": gate.terms.limit, "by": str(newest.run)}
            word: Word = "stopped" if ticket.run in gate.inside else "refused"
            yield _refusal(ticket, at, "limit.replaced", "A newer run took its place.", detail, word)


def _in_turn(gate: Gate) -> Iterator[Ticket]:
    """One of each group after the other, beginning after the group that had the last turn."""
    groups: dict[str, list[Ticket]] = {}
    for ticket in sorted(gate.waiting.values(), key=_rank):
        groups.setdefault(ticket.group, []).append(ticket)
    names = sorted(groups)
    turn = gate.memo.turn
    if turn is not None:
        names = [name for name in names if name > turn] + [name for name in names if name <= turn]
    for place in range(max(map(len, groups.values()), default=0)):
        for name in names:
            if place < len(groups[name]):
                yield groups[name][place]


def _recent(gate: Gate, at: int) -> list[int]:
    return sorted(began for began in gate.starts.values() if began + gate.terms.period > at)


def _throttle(gate: Gate, at: int) -> Decision:
    """At most `limit` in any period; who comes too early waits."""
    recent = _recent(gate, at)
    free = gate.terms.limit - len(recent)
    waiting = queue(gate)
    let = waiting[: max(0, min(free, AT_ONCE))]
    due = None
    if len(let) < len(waiting):
        full = recent + [at] * len(let)
        due = full[len(full) - gate.terms.limit] + gate.terms.period if len(full) >= gate.terms.limit else at
    return Decision(tuple(_admission(each, at) for each in let), gate.memo, due)


def _rate(gate: Gate, at: int) -> Decision:
    """At most `limit` in any period; who comes too early is refused."""
    recent = _recent(gate, at)
    free = max(0, gate.terms.limit - len(recent))
    waiting = queue(gate)[:AT_ONCE]
    verdicts = [_admission(each, at) for each in waiting[:free]]
    if waiting[free:]:
        again = (recent[0] if recent else at) + gate.terms.period
        seconds = gate.terms.period / 1e6
        message = f"At most {gate.terms.limit} runs begin here in {seconds:g} s."
        detail = {"limit": gate.terms.limit, "period": seconds, "freeAt": again / 1e6}
        verdicts += [_refusal(each, at, "limit.rate", message, detail) for each in waiting[free:]]
    return Decision(tuple(verdicts), gate.memo, at if len(gate.waiting) > AT_ONCE else None)


def _debounce(gate: Gate, at: int) -> Decision:
    """Only the last of a burst goes on, once nobody came for a period, or the burst is older than the timeout."""
    *older, newest = sorted(gate.waiting.values(), key=lambda ticket: ticket.age)
    since = gate.memo.since if gate.memo.since is not None else newest.at
    due = newest.at + gate.terms.period
    if gate.terms.timeout:
        due = min(due, since + gate.terms.timeout)
    told = "Another trigger came within the debounce period."
    by = {"by": str(newest.run)}
    verdicts = [_refusal(each, at, "limit.debounced", told, by) for each in older[:AT_ONCE]]
    if due <= at and len(older) <= AT_ONCE:
        return Decision((*verdicts, _admission(newest, at)), Memo(None, gate.memo.turn))
    return Decision(tuple(verdicts), Memo(since, gate.memo.turn), due)


def _batch(gate: Gate, at: int) -> Decision:
    """The first of a batch goes on with the items of all, once it is full or its first has waited long enough."""
    waiting = sorted(gate.waiting.values(), key=lambda ticket: ticket.age)
    due = waiting[0].at + gate.terms.timeout
    if len(waiting) < gate.terms.limit and due > at:
        return Decision((), gate.memo, due)
    leader, *others = waiting[: gate.terms.limit]
    told = {"by": str(leader.run)}
    refused = [_refusal(each, at, "limit.batched", "Its items went on in another run.", told) for each in others]
    first = Verdict(leader.run, leader.part, at, "admitted", members=tuple(each.run for each in others))
    rest = waiting[gate.terms.limit :]
    again = rest[0].at + gate.terms.timeout if rest else None
    return Decision((first, *refused), gate.memo, again)


def _pause(gate: Gate, at: int) -> Decision:
    """Whoever came while the workflow was paused goes on, in order."""
    return Decision(tuple(_admission(each, at) for each in queue(gate)[:AT_ONCE]), gate.memo)


_DECIDE = {
    "concurrency": _concurrency,
    "throttle": _throttle,
    "rate": _rate,
    "debounce": _debounce,
    "batch": _batch,
    "pause": _pause,
}


def _admission(ticket: Ticket, at: int) -> Verdict:
    return Verdict(ticket.run, ticket.part, at, "admitted")


def _refusal(
    ticket: Ticket, at: int, code: str, message: str, detail: Mapping[str, Any], word: Word = "refused"
) -> Verdict:
    error = StepError(code, message, "limit", detail=dict(detail))
    return Verdict(ticket.run, ticket.part, at, word, error)


def _names(runs: Iterable[UUID]) -> list[str]:
    return [str(run) for run, _ in zip(runs, range(10), strict=False)]


def _many(limit: int) -> str:
    return "One run is" if limit == 1 else f"{limit} runs are"
