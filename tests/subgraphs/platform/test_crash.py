"""Places where tests kill a process: each exists, and none is reached by accident."""

from __future__ import annotations

import pytest

from subgraphs.platform import crash
from subgraphs.platform.settings import BadSetting, Settings
from tests.crashes.places import PLACES


@pytest.mark.parametrize("name", PLACES)
def test_every_place_is_there(name: str) -> None:
    """Whoever moves one of these functions moves its place with it."""
    holder, attribute, function = PLACES[name].found()
    assert callable(function)
    assert getattr(holder, attribute) is function


def test_a_process_dies_only_where_faults_are_allowed() -> None:
    armed = {"LINKFLOW_CRASH_AT": PLACES["claimed"].at(1)}
    with pytest.raises(BadSetting) as refused:
        Settings.load(armed)
    assert refused.value.code == "faults_forbidden"
    assert crash.parsed(Settings.load({**armed, "LINKFLOW_FAULTS": "true"}).crash_at) == (PLACES["claimed"], 1, False)
    assert crash.parsed(PLACES["timer_due"].at(7, later=True)) == (PLACES["timer_due"], 7, True)


@pytest.mark.parametrize(
    "text", ["", "before x:y", "before x:y 0", "at x:y 1", "before x 1", "before x:y z", "before x:y 1 soon"]
)
def test_what_names_no_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        crash.parsed(text)
    with pytest.raises(ValueError, match="there is no"):
        crash.arm("before subgraphs.platform.crash:gone 1")


class Thing:
    async def step(self, word: object) -> str:
        return f"did {word}"


async def test_the_nth_passing_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    place = crash.Place(f"{__name__}:Thing.step", after=True, of="str")
    passed: list[int] = []
    monkeypatch.setattr(Thing, "step", crash._wrapped(Thing.step, place, 2, lambda: passed.append(1)))
    thing = Thing()
    assert [await thing.step(word) for word in ("a", 7)] == ["did a", "did 7"]
    assert passed == []
    assert await thing.step("b") == "did b"
    assert passed == [1]
