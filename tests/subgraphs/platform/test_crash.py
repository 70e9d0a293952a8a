"""Places where tests kill a process: each exists, and none is reached by accident."""

from __future__ import annotations

import pytest

from subgraphs.platform import crash
from subgraphs.platform.settings import BadSetting, Settings


@pytest.mark.parametrize("name", crash.PLACES)
def test_every_place_is_there(name: str) -> None:
    """Whoever moves one of these functions moves its place with it."""
    holder, attribute, function = crash.PLACES[name].found()
    assert callable(function)
    assert getattr(holder, attribute) is function


def test_a_process_dies_only_where_faults_are_allowed() -> None:
    with pytest.raises(BadSetting) as refused:
        Settings.load({"LINKFLOW_CRASH_AT": "claimed:1"})
    assert refused.value.code == "faults_forbidden"
    assert Settings.load({"LINKFLOW_CRASH_AT": "claimed:1", "LINKFLOW_FAULTS": "true"}).crash_at == "claimed:1"


@pytest.mark.parametrize("text", ["", "nowhere:1", "claimed:0", "claimed:x"])
def test_what_names_no_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        crash.parsed(text)


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
