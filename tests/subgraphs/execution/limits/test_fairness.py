"""Places of a worker between tenants: order, not time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subgraphs.execution.limits.fairness import Entry, Go, Turns


class Worker:
    """Bodies that run until told to end, in the order they were let in."""

    def __init__(self, places: int, weights: dict[Hashable, float] | None = None) -> None:
        self.turns = Turns(places, weights)
        self.begun: list[str] = []
        self.running: list[tuple[str, Entry]] = []
        self.order: list[Entry] = []

    def hold(self, name: str, priority: int = 0) -> Entry:
        """`name` begins with its tenant's letter."""
        entry = self.turns.enter(name[0], priority, lambda: self.begun.append(name))
        entry.go = self.noting(entry) if entry.go is not None else None
        if entry.go is None:
            self.order.append(entry)
        self.running.append((name, entry))
        return entry

    def noting(self, entry: Entry) -> Go | None:
        inner = entry.go
        assert inner is not None

        def go() -> None:
            inner()
            self.order.append(entry)

        return go

    def end_first(self) -> None:
        first = self.order.pop(0)
        self.running = [(name, entry) for name, entry in self.running if entry is not first]
        self.turns.leave(first)

    def inside(self) -> Counter[str]:
        return Counter(name[0] for name, entry in self.running if entry.go is None)


@pytest.mark.shows("TE-11", "EX-16")
def test_a_flood_leaves_the_door_open() -> None:
    """However many of A wait, B's first bodies begin at once."""
    worker = Worker(16)
    for number in range(1600):
        worker.hold(f"a{number}")
    assert worker.inside() == {"a": 14}
    worker.hold("b0")
    worker.hold("b1")
    assert worker.begun[-2:] == ["b0", "b1"]


@pytest.mark.shows("TE-11", "EX-16")
def test_the_next_free_place_goes_to_who_holds_fewest() -> None:
    worker = Worker(8)
    for number in range(800):
        worker.hold(f"a{number}")
    for number in range(8):
        worker.hold(f"b{number}")
    for _ in range(4):
        worker.end_first()
    assert worker.inside() == {"a": 4, "b": 3}
    for _ in range(200):
        worker.end_first()
        worker.hold("b")
        inside = worker.inside()
        assert abs(inside["a"] - inside["b"]) <= 1


@pytest.mark.shows("EX-16")
def test_weights_are_kept() -> None:
    worker = Worker(8, {"a": 3, "b": 1})  # seven of them for everybody
    for number in range(400):
        worker.hold(f"a{number}")
        worker.hold(f"b{number}")
    for _ in range(200):
        worker.end_first()
    assert worker.inside() == {"a": 5, "b": 2}


@pytest.mark.shows("EX-16")
def test_within_a_tenant_priority_goes_first_then_arrival() -> None:
    worker = Worker(1)
    worker.hold("a0")
    for name, priority in (("a1", 0), ("a2", 5), ("a3", -1), ("a4", 5)):
        worker.hold(name, priority)
    for _ in range(4):
        worker.end_first()
    assert worker.begun == ["a0", "a2", "a4", "a1", "a3"]


@pytest.mark.shows("EX-16")
@given(
    st.lists(st.tuples(st.sampled_from(["enter", "enter", "leave", "quit"]), st.integers(0, 30)), max_size=120),
    st.integers(1, 9),
)
def test_places_are_never_exceeded_and_never_idle_while_somebody_may(steps: list[tuple[str, int]], places: int) -> None:
    worker = Worker(places)
    for word, value in steps:
        if word == "enter":
            worker.hold("abc"[value % 3] + str(value), value % 2)
        elif worker.running and word in {"leave", "quit"}:
            _, entry = worker.running.pop(value % len(worker.running))
            worker.turns.leave(entry)
        inside = worker.inside()
        waiting = Counter(name[0] for name, entry in worker.running if entry.go is not None)
        assert inside.total() == places - worker.turns.free <= places
        assert worker.turns.waiting == waiting.total()
        for tenant in waiting:
            spared = worker.turns.free <= worker.turns.spare and inside[tenant] >= worker.turns.spare
            assert not worker.turns.free or spared
