"""What a gate decides, by properties over arbitrary histories and by examples."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subgraphs.execution.limits.gate import (
    Decision,
    Gate,
    Memo,
    Mode,
    Terms,
    Ticket,
    Verdict,
    arrive,
    decide,
    expired,
    leave,
    note,
    settle,
)

SECOND = 1_000_000


@dataclass
class Keeper:
    """Drives a gate as a keeper does, and remembers rows as the database would, so that it can be read back."""

    terms: Terms
    gate: Gate = field(default_factory=lambda: Gate(UUID(int=1)))
    at: int = 0
    tickets: dict[UUID, Ticket] = field(default_factory=dict)
    words: dict[UUID, tuple[str, int]] = field(default_factory=dict)
    told: list[Verdict] = field(default_factory=list)
    due: int | None = None
    paused: bool = False

    def come(self, number: int, priority: int = 0, group: str = "") -> UUID:
        ticket = Ticket(UUID(int=number), self.at, number % 4, self.terms, priority, group)
        self.tickets[ticket.run] = ticket
        arrive(self.gate, ticket)
        self.look()
        return ticket.run

    def end(self, run: UUID) -> None:
        self.tickets.pop(run, None)
        if self.words.get(run, ("", 0))[0] != "admitted" or not self.terms.paces:
            self.words.pop(run, None)
        leave(self.gate, run)
        self.look()

    def pass_time(self, micro: int) -> None:
        self.at += micro
        while self.due is not None and self.due <= self.at:
            self.look()

    def look(self) -> None:
        while True:
            made: Decision = decide(self.gate, self.at, paused=self.paused)
            settle(self.gate, made.verdicts, made.memo)
            self.due = made.due
            for verdict in made.verdicts:
                self.told.append(verdict)
                self.words[verdict.run] = (verdict.word, verdict.at)
                if verdict.word == "admitted" and not self.terms.holds:
                    self.tickets.pop(verdict.run)
                    leave(self.gate, verdict.run)
            if not made.verdicts:
                return

    def read_back(self) -> None:
        """The keeper dies; another reads what was stored."""
        self.gate = Gate(self.gate.id, memo=Memo(self.gate.memo.since, self.gate.memo.turn), terms=self.terms)
        for ticket in self.tickets.values():
            if ticket.run not in self.words:
                arrive(self.gate, ticket)
        for run, (word, at) in self.words.items():
            note(self.gate, run, self.tickets.get(run), at, word)  # type: ignore[arg-type]

    def admitted(self) -> list[int]:
        return [verdict.run.int for verdict in self.told if verdict.word == "admitted"]

    def inside(self) -> set[int]:
        return {run.int for run, (word, _) in self.words.items() if word != "refused" and run in self.tickets}


Steps = Sequence[tuple[str, int]]
STEPS = st.lists(
    st.tuples(st.sampled_from(["come", "come", "end", "time", "die", "pause", "resume"]), st.integers(0, 12)),
    max_size=80,
)


def play(keeper: Keeper, steps: Steps, check: object) -> None:
    assert callable(check)
    number = 0
    for word, value in steps:
        if word == "come":
            number += 1
            keeper.come(number, priority=value % 3, group="abc"[value % 3])
        elif word == "end" and keeper.tickets:
            runs = sorted(keeper.tickets, key=lambda run: run.int)
            keeper.end(runs[value % len(runs)])
        elif word == "time":
            keeper.pass_time(value * 300_000)
        elif word == "die":
            keeper.read_back()
            keeper.look()
        elif word in {"pause", "resume"}:
            keeper.paused = word == "pause"
            keeper.look()
        check()


@pytest.mark.shows("EX-14", "EX-17")
@given(STEPS, st.integers(1, 4), st.sampled_from(["queue", "dropNewest", "cancelOldest", "roundRobin"]))
def test_never_more_inside_than_the_limit_and_no_place_stays_empty(steps: Steps, limit: int, mode: Mode) -> None:
    """Whatever comes, ends, dies in between: the places taken are at most the limit; and who waits while there is
    a free place waits for nothing but a pause."""
    keeper = Keeper(Terms("concurrency", limit, mode))

    def check() -> None:
        assert len(keeper.inside()) <= limit
        assert {run.int for run in keeper.gate.inside} == keeper.inside()
        if not keeper.paused and keeper.gate.waiting:
            assert len(keeper.inside()) == limit

    play(keeper, steps, check)


@pytest.mark.shows("EX-15")
@given(STEPS, st.integers(1, 4), st.sampled_from(["throttle", "rate"]))
def test_no_period_sees_more_starts_than_the_limit(steps: Steps, limit: int, kind: str) -> None:
    keeper = Keeper(Terms(kind, limit, period=SECOND))

    def check() -> None:
        starts = [verdict.at for verdict in keeper.told if verdict.word == "admitted"]
        for first in starts:
            assert len([at for at in starts if first <= at < first + SECOND]) <= limit
        if kind == "rate" and not keeper.paused:
            assert not keeper.gate.waiting
        if kind == "throttle" and not keeper.paused and keeper.gate.waiting:
            assert keeper.due is not None

    play(keeper, steps, check)


@pytest.mark.shows("EX-14")
@given(STEPS, st.integers(1, 3))
def test_a_queue_keeps_order_within_a_priority(steps: Steps, limit: int) -> None:
    keeper = Keeper(Terms("concurrency", limit))
    play(keeper, steps, lambda: None)
    for priority in range(3):
        runs = [verdict.run.int for verdict in keeper.told if _priority(steps, verdict.run.int) == priority]
        assert runs == sorted(runs)


def _priority(steps: Steps, number: int) -> int:
    return [value % 3 for word, value in steps if word == "come"][number - 1]


@pytest.mark.shows("EX-15")
@given(STEPS)
def test_everybody_of_a_batch_goes_on_once(steps: Steps) -> None:
    keeper = Keeper(Terms("batch", 3, timeout=2 * SECOND))
    play(keeper, steps, lambda: None)
    went = [run for verdict in keeper.told if verdict.word == "admitted" for run in (verdict.run, *verdict.members)]
    assert len(went) == len(set(went))
    members = {run for verdict in keeper.told for run in verdict.members}
    assert members == {verdict.run for verdict in keeper.told if verdict.word == "refused"}
    assert all(len(verdict.members) < 3 for verdict in keeper.told)


@pytest.mark.shows("EX-15")
@given(STEPS)
def test_of_a_burst_only_the_last_goes_on(steps: Steps) -> None:
    keeper = Keeper(Terms("debounce", period=SECOND, timeout=3 * SECOND))

    def check() -> None:
        assert len(keeper.gate.waiting) <= 1 or keeper.paused

    play(keeper, steps, check)
    went = keeper.admitted()
    assert went == sorted(went)


@pytest.mark.shows("EX-15")
def test_debounce_waits_from_the_last_but_not_for_ever() -> None:
    keeper = Keeper(Terms("debounce", period=SECOND, timeout=int(2.5 * SECOND)))
    for number in range(1, 6):
        keeper.come(number)
        keeper.pass_time(600_000)
    assert keeper.admitted() == [5]  # 2.5 s after the first
    assert [verdict.error.code for verdict in keeper.told if verdict.error] == ["limit.debounced"] * 4
    keeper.come(6)
    keeper.pass_time(SECOND - 1)
    assert keeper.admitted() == [5]
    keeper.pass_time(1)
    assert keeper.admitted() == [5, 6]


@pytest.mark.shows("EX-14")
def test_round_robin_takes_one_of_each_group_in_turn() -> None:
    keeper = Keeper(Terms("concurrency", 1, "roundRobin"))
    for number, group in enumerate("aaaabbc", 1):
        keeper.come(number, group=group)
    while keeper.inside():
        (run,) = keeper.inside()
        keeper.read_back()  # whose turn it is outlives the keeper
        keeper.end(UUID(int=run))
    assert keeper.admitted() == [1, 5, 7, 2, 6, 3, 4]


@pytest.mark.shows("EX-14")
def test_cancel_oldest_ends_the_oldest_and_waits_until_it_has_ended() -> None:
    keeper = Keeper(Terms("concurrency", 2, "cancelOldest"))
    first, second, third, fourth = (keeper.come(number) for number in (1, 2, 3, 4))
    assert [(v.run, v.word) for v in keeper.told[2:]] == [(first, "stopped"), (second, "stopped")]
    assert keeper.inside() == {1, 2}
    keeper.read_back()
    keeper.end(second)
    assert keeper.inside() == {1, 3}
    keeper.end(first)
    assert keeper.inside() == {third.int, fourth.int}
    assert [(v.word) for v in keeper.told].count("stopped") == 2


@pytest.mark.shows("EX-14")
def test_drop_newest_names_the_limit_and_its_holders() -> None:
    keeper = Keeper(Terms("concurrency", 1, "dropNewest"))
    first = keeper.come(1)
    keeper.come(2)
    error = keeper.told[-1].error
    assert error is not None
    assert (error.code, error.kind, error.detail) == (
        "limit.concurrency",
        "limit",
        {"limit": 1, "holders": [str(first)]},
    )


@pytest.mark.shows("EX-15")
def test_a_refused_start_is_told_when_it_may_come_again() -> None:
    keeper = Keeper(Terms("rate", 1, period=SECOND))
    keeper.come(1)
    keeper.at += 400_000
    keeper.come(2)
    error = keeper.told[-1].error
    assert error is not None
    assert (error.code, error.detail["freeAt"]) == ("limit.rate", 1.0)
    assert expired(keeper.gate, keeper.at) == []
    assert expired(keeper.gate, SECOND) == [UUID(int=1)]


@pytest.mark.shows("EX-09")
def test_while_paused_all_wait_and_then_go_on_in_order() -> None:
    keeper = Keeper(Terms("pause"), paused=True)
    for number in (1, 2, 3):
        keeper.come(number)
    assert keeper.told == []
    keeper.paused = False
    keeper.look()
    assert keeper.admitted() == [1, 2, 3]


@pytest.mark.shows("EX-14")
def test_the_newest_release_says_what_holds() -> None:
    keeper = Keeper(Terms("concurrency", 1, release=1))
    keeper.come(1)
    keeper.come(2)
    keeper.terms = Terms("concurrency", 3, release=2)
    keeper.come(3)
    assert keeper.inside() == {1, 2, 3}
    keeper.terms = Terms("concurrency", 1, release=1)
    keeper.come(4)
    assert keeper.inside() == {1, 2, 3}


@pytest.mark.shows("EX-17")
@pytest.mark.parametrize("mode", ["queue", "dropNewest", "cancelOldest", "roundRobin"])
def test_a_thousand_deaths_leak_no_place(mode: Mode) -> None:
    """The keeper dies a thousand times between arbitrary arrivals and ends; afterwards every place can be had again."""
    chance = random.Random(f"1,000 deaths, {mode}")
    keeper = Keeper(Terms("concurrency", 3, mode))
    number = deaths = 0
    while deaths < 1000:
        step = chance.random()
        if step < 0.4 and len(keeper.tickets) < 40:
            number += 1
            keeper.come(number, priority=chance.randrange(3), group=chance.choice("abc"))
        elif step < 0.7 and keeper.tickets:
            keeper.end(chance.choice(sorted(keeper.tickets, key=lambda run: run.int)))
        else:
            deaths += 1
            keeper.read_back()
            keeper.look()
        keeper.at += chance.randrange(1000)
        assert len(keeper.inside()) <= 3
    while keeper.tickets:
        keeper.end(next(iter(keeper.tickets)))
    assert keeper.inside() == set()
    for fresh in range(number + 1, number + 4):
        keeper.come(fresh)
    assert keeper.inside() == set(range(number + 1, number + 4))
