"""What the commands say while they work: lines for people, or one JSON object a line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from typing import TypeVar

import typer

from subgraphs.platform.domain import Problem

Found = TypeVar("Found")
WIDTH = 120  # columns, where no terminal says otherwise
STYLES = {"good": "32", "bad": "31", "faint": "2", "strong": "1", "cool": "36"}


def colour(text: str, style: str) -> str:
    """`text` in a colour, on a terminal that wants any (https://no-color.org)."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m"


def teller(as_json: bool, *, quiet: bool = False) -> Callable[[str, Mapping[str, object]], None]:
    """A function that says what happened: (kind, facts). `quiet` leaves out what went as it should on the way."""

    def tell_json(kind: str, facts: Mapping[str, object]) -> None:
        print(json.dumps({"event": kind, **facts}, default=str), flush=True)

    def tell_people(kind: str, facts: Mapping[str, object]) -> None:
        if quiet and kind in {"part", "packages", "stopped", "staying", "tried"} and facts.get("state") != "restarted":
            return
        line = _SAYINGS.get(kind, _plain)(facts)
        if line:
            print(line, flush=True)

    return tell_json if as_json else tell_people


def _fitting(text: str, taken: int) -> str:
    """`text` cut to what is left of a line of the terminal of which `taken` columns are written."""
    room = max(shutil.get_terminal_size((WIDTH, 0)).columns - taken, 20)
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _plain(facts: Mapping[str, object]) -> str:
    return "  ".join(f"{name} {value}" for name, value in facts.items())


def _part(facts: Mapping[str, object]) -> str:
    if facts["state"] == "restarted":
        return colour(f"  ! {facts['name']} {_ended(facts['code'])} and was started again", "bad")
    return f"  {colour('✓', 'good')} {facts['name']}"


def _ended(code: object) -> str:
    if isinstance(code, int) and code < 0:
        return f"was killed ({signal.Signals(-code).name})"
    return f"ended with {code}"


def _port(facts: Mapping[str, object]) -> str:
    by = f" by {facts['by']}" if facts.get("by") else ""
    return f"  port {facts['wanted']} is taken{by}: using {facts['used']} (set {facts['name']} to choose)"


def _ready(facts: Mapping[str, object]) -> str:
    return (
        f"{colour('LinkFlow is up', 'strong')} after {facts['seconds']} s\n"
        f"  API       {colour(str(facts['api']), 'cool')}\n"
        f"  GraphiQL  {colour(str(facts['graphiql']), 'cool')}\n"
        f"  webhooks  {colour(str(facts['hooks']), 'cool')}"
    )


def _step(facts: Mapping[str, object]) -> str:
    what = str(facts["what"])
    if not facts.get("detail"):
        return f"  {what}"
    return f"  {what}  {colour(_fitting(str(facts['detail']), len(what) + 4), 'faint')}"


def _live(facts: Mapping[str, object]) -> str:
    node = str(facts.get("node") or "")
    number = colour(str(facts["seq"]).rjust(4), "faint")
    line = f"  {number}  {facts['type']!s:<16} {node:<24}"
    rest = _fitting(str(facts.get("detail") or ""), 8 + 16 + 1 + max(len(node), 24) + 1)
    told = f"{line} {colour(rest, 'bad' if facts.get('failed') else 'faint')}".rstrip()
    lines = facts.get("lines")
    for text in lines if isinstance(lines, list) else []:
        told += f"\n        {colour('console', 'cool')}  {text}"
    return told


_SAYINGS: Mapping[str, Callable[[Mapping[str, object]], str]] = {
    "part": _part,
    "port": _port,
    "ready": _ready,
    "step": _step,
    "live": _live,
    "healed": lambda facts: f"  {colour('healed', 'cool')}: {facts['what']}",
    "packages": lambda facts: f"  {facts['what']}",
    "demo": lambda facts: colour(
        "  the example did not run to its end; everything else stays up (`linkflow seed` tries again)", "bad"
    ),
    "tried": lambda facts: f"Now you: {facts['page']} (log in with what {facts['login']} says), examples in README.md.",
    "staying": lambda _: "Stays up until Ctrl-C.",
    "stopped": lambda _: "Stopped; the data stays.",
}


def guarded(action: Callable[[], Found], as_json: bool = False) -> Found:
    """Run a command; a Problem becomes its message and next step on stderr, and exit code 1."""
    try:
        return action()
    except Problem as problem:
        if as_json:
            told = {"problem": problem.code, "message": problem.message, "field": problem.field}
            print(json.dumps({**told, "nextStep": problem.next_step}), file=sys.stderr)
        else:
            print(f"linkflow: {problem.message}", file=sys.stderr)
            if problem.next_step:
                print(f"    {problem.next_step}", file=sys.stderr)
        raise typer.Exit(1) from None
