"""Composition: what composes, what is refused, and the same program as rover's plugin."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.router.conftest import CHECKOUT, node

LINK = '@link(url: "https://specs.apollo.dev/federation/v2.9", import: ["@key", "@shareable"])'
GOOD = {
    "one": f'extend schema {LINK} type Query {{ one: Thing }} type Thing @key(fields: "id") {{ id: ID! name: String }}',
    "two": f'extend schema {LINK} type Query {{ two: Int }} type Thing @key(fields: "id") {{ id: ID! size: Int }}',
}
HINT = {
    "one": f'extend schema {LINK} type Query {{ one: Int }} "Said so." type Pair @shareable {{ a: Int }}',
    "two": f'extend schema {LINK} type Query {{ two: Pair }} "Said otherwise." type Pair @shareable {{ a: Int }}',
}
ERROR = {
    "one": f"extend schema {LINK} type Query {{ one: Int }}",
    "two": f"extend schema {LINK} type Query {{ one: String }}",
}


def compose(folder: Path, sources: dict[str, str]) -> subprocess.CompletedProcess[str]:
    lines = ["federation_version: =2.14.4", "subgraphs:"]
    for name, sdl in sources.items():
        (folder / f"{name}.graphql").write_text(sdl)
        lines.append(f"  {name}: {{routing_url: 'http://127.0.0.1/{name}', schema: {{file: {name}.graphql}}}}")
    (folder / "rover.yaml").write_text("\n".join(lines))
    words = [str(node()), "router/compose.mjs", str(folder / "rover.yaml"), str(folder / "supergraph.graphql")]
    return subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True)


@pytest.mark.shows("GW-01")
def test_what_fits_together_composes_to_the_same_bytes(tmp_path: Path) -> None:
    written = []
    for _ in range(2):
        done = compose(tmp_path, GOOD)
        assert (done.returncode, done.stderr) == (0, "")
        written.append((tmp_path / "supergraph.graphql").read_bytes())
    assert written[0] == written[1]
    assert b"join__Graph" in written[0]
    assert written[0].endswith(b"}\n")


@pytest.mark.shows("GW-01")
@pytest.mark.parametrize(
    ("sources", "code"), [(HINT, "INCONSISTENT_DESCRIPTION"), (ERROR, "FIELD_TYPE_MISMATCH"), ({}, "")]
)
def test_an_error_or_a_hint_leaves_the_supergraph_alone(tmp_path: Path, sources: dict[str, str], code: str) -> None:
    (tmp_path / "supergraph.graphql").write_text("as before")
    done = compose(tmp_path, sources)
    assert done.returncode == 1
    assert code in done.stderr
    assert (tmp_path / "supergraph.graphql").read_text() == "as before"


@pytest.mark.parametrize(("sources", "outcome"), [(GOOD, "Ok"), (ERROR, "Err")])
def test_it_speaks_as_rovers_plugin(tmp_path: Path, sources: dict[str, str], outcome: str) -> None:
    subgraphs = {name: {"routing_url": "http://127.0.0.1/", "schema": {"sdl": sdl}} for name, sdl in sources.items()}
    asked = tmp_path / "asked.yaml"
    asked.write_text(json.dumps({"federation_version": "=2.14.4", "subgraphs": subgraphs}))  # JSON is YAML
    done = subprocess.run(
        [str(node()), "router/compose.mjs", "compose", str(asked)], cwd=CHECKOUT, capture_output=True, text=True
    )
    answer = json.loads(done.stdout)
    assert (list(answer), done.returncode) == ([outcome], 0 if outcome == "Ok" else 1)
    if outcome == "Ok":
        assert "join__Graph" in answer["Ok"]["supergraphSdl"]
        assert answer["Ok"]["hints"] == []
    else:
        assert answer["Err"]["build_errors"][0]["code"] == "FIELD_TYPE_MISMATCH"


@pytest.mark.shows("GW-01")
def test_the_committed_supergraph_is_what_the_subgraphs_compose_to(tmp_path: Path) -> None:
    words = [str(node()), "router/compose.mjs", "rover.yaml", str(tmp_path / "supergraph.graphql")]
    done = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    committed = (CHECKOUT / "supergraph" / "supergraph.graphql").read_bytes()
    assert (tmp_path / "supergraph.graphql").read_bytes() == committed
