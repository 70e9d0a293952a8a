"""The README's examples, as they stand, one after the other in one shell beside a LinkFlow that ran `seed`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.journeys.conftest import CHECKOUT, House

EXAMPLES = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def seed(house: House, origin: str) -> None:
    words = [sys.executable, "-m", "subgraphs.platform.cli", "seed", "--json"]
    environment = {**os.environ, **house.environment(), "LINKFLOW_PUBLIC_URL": origin}
    subprocess.run(words, cwd=CHECKOUT, env=environment, check=True, capture_output=True, timeout=120)


def script(house: House, origin: str) -> str:
    """Every block, with this house's address and folder instead of the usual ones."""
    text = "echo '==='\n".join(EXAMPLES.findall((CHECKOUT / "README.md").read_text()))
    text = text.replace("localhost:8080", origin.removeprefix("http://")).replace(".linkflow/", f"{house.home}/")
    return text.replace(".venv/bin/python", sys.executable)


@pytest.mark.timeout(240)
def test_what_the_readme_shows_works(house: House) -> None:
    origin = house.origin("hive")
    seed(house, origin)
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script(house, origin)],
        cwd=CHECKOUT,
        env={"PATH": os.environ["PATH"], "HOME": str(Path.home()), "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert '"errors"' not in done.stdout
    asked, published, watched, socket, hook, steps = done.stdout.split("===\n")
    assert '"me":{"name":"Demo"' in asked
    assert '"state":"ACTIVE"' in published
    assert re.findall(r'"seq":(\d)', watched) == ["1", "2", "3", "4", "5"]
    assert "event: complete" in watched
    assert re.findall(r"'seq': (\d)", socket) == ["3", "4", "5"]
    assert "'type': 'complete'" in socket
    assert hook.startswith("HTTP/1.1 200 OK")
    assert "ada pushed 1 commit(s) to main" in hook
    assert '"status":"SUCCEEDED"' in steps
    assert "Hello Ada" in steps
