"""The size limits hold, and the check of them sees."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def limits() -> ModuleType:
    spec = spec_from_file_location("limits", Path(__file__).with_name("limits.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.shows("DX-19")
def test_every_file_and_function_is_within_its_limit(limits: ModuleType) -> None:
    found = [fault for path in limits.sources() for fault in limits.faults(path, path.read_text())]
    assert not found, "\n".join(found)


def test_a_long_file_and_a_long_function_are_found(limits: ModuleType) -> None:
    long = "def f():\n" + "    x = 1\n" * 40 + "# end\n" * 400
    assert [fault.split(": ")[1].split(";")[0] for fault in limits.faults(Path("x.py"), long)] == [
        "441 lines",
        "f has 41 lines",
    ]


def test_a_reason_on_the_line_excuses(limits: ModuleType) -> None:
    long = "def f():  # long: a table\n" + "    x = 1\n" * 40
    assert list(limits.faults(Path("x.py"), long)) == []
